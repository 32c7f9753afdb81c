"""The way of the focus through a widget by Tab, in a notebook and in a page of its own."""

import re
from itertools import pairwise

from playwright.sync_api import expect
from widget_page import control

REGIONS = (".nm-findings", ".nm-losses", ".nm-toolbar", ".nm-grid", ".nm-splitter")
REGIONS += (".nm-panel", ".nm-rest")
"""The parts of a widget in reading order."""

CONTROLS = """(root, regions) => {
  root.querySelector('.nm-panel').scrollTop = 0;
  const roles = ['application', 'separator', 'treegrid'].map(role => `[role=${role}]`);
  const tags = ['a', 'button', 'input', 'pre', 'select'];
  window.controls = [...root.querySelectorAll([...tags, ...roles])].filter(
    node => node.checkVisibility({visibilityProperty: true}) && !node.disabled);
  return window.controls.map(node => {
    const {left, top, right, bottom} = node.getBoundingClientRect();
    const region = regions.findIndex(look => node.closest(look));
    return {name: node.dataset.nm, region, left, top, right, bottom};
  });
}"""
"""Returns all that can be operated, in whatever way, in the order of the document."""

FOCUSED = r"""root => {
  const node = document.activeElement;
  if (!root.contains(node)) return null;
  const style = getComputedStyle(node);
  const box = node.getBoundingClientRect();
  const wide = parseFloat(style.outlineWidth) + parseFloat(style.outlineOffset);
  const isCut = over => {
    const room = over.getBoundingClientRect();
    return box.left - wide < room.left - 1 || box.right + wide > room.right + 1;
  };
  const above = [];
  for (let each = node.parentElement; each !== root; each = each.parentElement) above.push(each);
  const isOnTop = share => {
    const hit = document.elementFromPoint(box.x + box.width / 2, box.y + share * box.height);
    return node.contains(hit) || hit?.closest('label')?.control === node;
  };
  const onTop = [0.02, 0.25, 0.5, 0.75, 0.98].filter(isOnTop).length;
  return {
    place: window.controls.indexOf(node),
    name: node.dataset.nm ?? node.className,
    hasRing: style.outlineStyle === 'solid' && parseFloat(style.outlineWidth) >= 2
      && style.outlineColor !== getComputedStyle(root).backgroundColor,
    isCut: above.filter(over => getComputedStyle(over).overflowX !== 'visible').some(isCut),
    isInView: onTop >= (box.height > 60 ? 1 : 5),
  };
}"""
"""Returns what is focused in a widget, and how it is seen; null: the focus is not in it."""

AROUND = """root => {
  for (const place of ['before', 'after']) {
    root[place](Object.assign(document.createElement('button'), {textContent: place}));
  }
}"""


def tab_through(widget):
    """Go by Tab from before a widget to behind it, and back; return all that was focused."""
    page = widget.page
    widget.evaluate(AROUND)
    found = {"controls": widget.evaluate(CONTROLS, REGIONS)}
    for way, key, start in (("on", "Tab", "before"), ("back", "Shift+Tab", "after")):
        page.get_by_role("button", name=start, exact=True).focus()
        found[way] = []
        for _ in range(len(found["controls"]) + 5):
            page.keyboard.press(key)
            at = widget.evaluate(FOCUSED)
            if at is None:
                break
            found[way].append(at)
            if way == "on":
                expect(page.locator(":focus")).to_have_accessible_name(re.compile(r"\w"))
        found[f"end {way}"] = page.locator(":focus").inner_text()
    found["menus"] = [tab_out_of_menu(widget, name) for name in ("columns", "copy")]
    page.get_by_role("button", name=re.compile("^(before|after)$")).evaluate_all(
        "all => all.forEach(each => each.remove())"
    )
    return found


def tab_out_of_menu(widget, name):
    """Open a menu by the keyboard and leave it by Tab; return what was focused meanwhile."""
    button, page = control(widget, name), widget.page
    button.press("Enter")
    entries = button.locator("xpath=..").locator(".nm-menu").locator("input, button")
    focused = []
    for _ in range(entries.count()):
        focused.append(entries.evaluate_all("all => all.indexOf(document.activeElement)"))
        page.keyboard.press("ArrowDown")
    entries.last.focus()
    page.keyboard.press("Tab")
    at = widget.evaluate("root => window.controls.indexOf(document.activeElement)")
    place = button.evaluate("button => window.controls.indexOf(button)")
    return {
        "focused": focused,
        "is left open": widget.locator(".nm-menu:visible").count() > 0,
        "steps from its button": at - place,
    }


def assert_all_was_reached(found):
    """Hold that against what can be operated: each by Tab alone, in reading order, and seen."""
    controls, on, back = found["controls"], found["on"], found["back"]
    assert [at["place"] for at in on] == [*range(len(controls))], [at["name"] for at in on]
    assert [at["place"] for at in back] == [*range(len(controls))][::-1]
    assert (found["end on"], found["end back"]) == ("after", "before")
    for at in (*on, *back):
        assert at["hasRing"], at
        assert not at["isCut"], at
        assert at["isInView"], at
    assert {"grid", "splitter", "close-panel", "search", "copy"} <= {
        each["name"] for each in controls
    }
    for one, other in pairwise(controls):
        assert other["region"] >= one["region"], (one, other)
        is_behind = other["left"] >= one["right"] - 1 or other["top"] >= one["bottom"] - 1
        is_new = other["region"] > one["region"] or one["name"] == "grid"  # which has its heads
        assert is_behind or is_new, (one, other)
    for menu in found["menus"]:
        assert menu["focused"] == [*range(len(menu["focused"]))], menu
        assert not menu["is left open"], menu
        assert menu["steps from its button"] == 1, menu
