"""What is seen of how widgets are laid out, and what is wrong with it in any good layout."""

import re

WIDTHS = (640, 800, 1300, 1700)
NARROW = 900
"""Up to this width of a widget its panel is below the table, in pixels."""

KEPT = ("shape", "mean ± std", "flags")
"""Columns that a trace shows at every width."""

ONE_LINE = 620
"""From this width of a widget on the toolbar is one line, but for the iterations of a loop."""

WORDS = ("text", "flags", "tree", "message")
"""Kinds of cells that may be cut where there is no room, with an ellipsis."""

LEGIBLE = 4.5
"""The contrast that text has to its background at least, by WCAG 2.2 AA."""

SEE = r"""() => {
  const visible = node => node.getClientRects().length > 0 && node.checkVisibility();
  const box = node => node.getBoundingClientRect();
  const text = node => node.textContent.trim();
  const ends = node => {
    const range = document.createRange();
    range.selectNodeContents(node);
    return range.getBoundingClientRect().right;
  };
  const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1});
  const context = canvas.getContext('2d', {willReadFrequently: true});
  const drawn = new Map();
  const rgba = color => {
    if (!drawn.has(color)) {
      context.clearRect(0, 0, 1, 1);
      context.fillStyle = color;
      context.fillRect(0, 0, 1, 1);
      drawn.set(color, [...context.getImageData(0, 0, 1, 1).data]);
    }
    return drawn.get(color);
  };
  const style = (node, name) => rgba(getComputedStyle(node)[name]);
  const behind = node => {
    for (let each = node; each; each = each.parentElement) {
      const color = style(each, 'backgroundColor');
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const light = color => {
    const [r, g, b] = color.slice(0, 3).map(byte => {
      const share = byte / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const contrast = node => {
    const [one, other] = [light(style(node, 'color')), light(behind(node))];
    return Math.max(one, other) / Math.min(one, other);
  };
  const TEXTS = ['.nm-heading', '.nm-count', '.nm-label', '[aria-selected=true] .nm-label',
    '.nm-body .nm-k-pair', '.nm-body .nm-k-flags:not(:empty)', '.nm-panel-title', '.nm-shapes',
    '.nm-panel .nm-quiet', '.nm-panel .nm-part', '.nm-panel button', '.nm-panel dt',
    '.nm-panel th', '.nm-notes', '.nm-no-room:not(:empty)', '.nm-toolbar button', '.nm-flag-text'];

  const seen = root => {
    const toolbar = root.querySelector('.nm-toolbar');
    const grid = root.querySelector('.nm-grid');
    const panel = root.querySelector('.nm-panel');
    const controls = [...toolbar.querySelectorAll('button, input, .nm-count, .nm-slider')]
      .filter(node => visible(node) && !node.closest('.nm-menu'));
    const heads = [...grid.querySelectorAll('[role=columnheader]')];
    const rows = [...grid.querySelectorAll('.nm-body > [role=row]')].filter(visible);
    const bad = Object.assign(document.createElement('i'), {style: 'color: var(--nm-bad)'});
    root.append(bad);
    const red = String(style(bad, 'color'));
    bad.remove();
    const isRed = node => text(node) && String(style(node, 'color')) === red;
    const columns = toolbar.querySelector('[data-nm=columns]');
    columns.click();
    const menu = [...toolbar.querySelectorAll('[role=group][aria-label=columns] label')];
    const offered = menu.map(label => ({
      title: label.childNodes[1].textContent,
      isShown: label.querySelector('input').checked,
      hasNoRoom: label.textContent.endsWith('no room'),
    }));
    columns.click();
    const menuEnd = name => {
      const button = toolbar.querySelector(`[data-nm=${name}]`);
      button.click();
      const {right, bottom} = box(button.nextElementSibling);
      const room = box(root.closest('.jp-OutputArea-output')).bottom - bottom;
      button.click();
      return {right, room};
    };
    const menus = ['columns', 'copy'].map(menuEnd);
    return {
      menusEnd: Math.max(...menus.map(({right}) => right)),
      roomBelowMenus: Math.min(...menus.map(({room}) => room)),
      width: root.clientWidth,
      sideways: [root, panel, toolbar, root.closest('.jp-OutputArea-output')]
        .filter(node => visible(node) && node.scrollWidth > node.clientWidth + 1)
        .map(node => node.className),
      heading: text(root.querySelector('.nm-heading')),
      count: text(root.querySelector('.nm-count')),
      flagged: visible(toolbar.querySelector('[data-nm=flagged]'))
        ? text(toolbar.querySelector('[data-nm=flagged]')) : '',
      controls: controls.map(node => {
        const {left, right, top, bottom} = box(node);
        const isCut = !node.matches('input') && ends(node) > right + 1;
        const around = controls.filter(each => each !== node && each.contains(node)).map(text);
        const name = text(node) || node.dataset.nm;
        return {name, left, right, top, bottom, isCut, around};
      }),
      toolbar: box(toolbar).right,
      lines: Math.round(box(toolbar).height / 28),
      headsEnd: Math.max(...heads.map(ends)),
      titles: heads.map(head => text(head).replace(/ [▲▼]$/, '')),
      offered,
      noRoom: text(root.querySelector('.nm-no-room')),
      isWhole: rows.length + 1 === Number(grid.getAttribute('aria-rowcount')),
      scrolls: grid.scrollHeight > grid.clientHeight,
      scrollsSideways: grid.scrollWidth > grid.clientWidth + 1,
      rows: rows.map(row => {
        const cells = [...row.children]
          .filter(cell => visible(cell) && !cell.matches('.nm-k-lanes'));
        return {
          name: row.querySelector('[role=rowheader]').title,
          flags: text(row.querySelector('.nm-k-flags') ?? row.querySelector('.nm-fold')),
          isRed: cells.some(cell => isRed(cell) || [...cell.children].some(isRed)),
          right: box(row).right,
          cells: cells.map(cell => ({
            text: text(cell),
            kind: cell.className.match(/nm-k-(\w+)|nm-(message)/).slice(1).find(Boolean),
            isCut: cell.scrollWidth > cell.clientWidth + 1,
            left: box(cell).left,
            right: box(cell).right,
            end: text(cell) || cell.querySelector('svg') ? ends(cell) : box(cell).left,
          })),
        };
      }),
      panel: visible(panel) ? {
        row: text(panel.querySelector('.nm-panel-title')).split(' · ')[0],
        red: [...panel.querySelectorAll('*')].filter(node => !node.children.length && isRed(node))
          .map(text),
        box: box(panel).toJSON(),
        stretched: [...panel.querySelectorAll('canvas')].filter(canvas => {
          const by = (drawn, shown) => Math.abs(drawn / devicePixelRatio - shown) > 1;
          return by(canvas.width, canvas.clientWidth) || by(canvas.height, canvas.clientHeight);
        }).map(canvas => canvas.getAttribute('aria-label')),
      } : null,
      grid: box(grid).toJSON(),
      ch: grid.querySelector('.nm-ruler').offsetWidth / 100,
      contrasts: Object.fromEntries(TEXTS.flatMap(look => {
        const node = [...root.querySelectorAll(look)].find(each => visible(each) && text(each));
        return node ? [[look, contrast(node)]] : [];
      })),
    };
  };
  const outer = document.querySelector('.jp-WindowedPanel-outer');
  return {
    page: [document.scrollingElement, outer].map(node => node.scrollWidth - node.clientWidth),
    widgets: [...document.querySelectorAll('.nnmagic')].map(seen),
  };
}"""
"""Returns what is seen of each widget of the page, boxes in pixels."""


def faults(seen, red):
    """Return what is wrong with a widget, a line each.

    Args:
        seen: what `SEE` returned of it.
        red: the names of the rows in which something is wrong.
    """
    found = [f"scrolls sideways: {each}" for each in seen["sideways"]]
    found += [*_of_toolbar(seen), *_of_columns(seen), *_of_rows(seen, red), *_of_panel(seen, red)]
    for look, contrast in seen["contrasts"].items():
        if contrast < LEGIBLE:
            found.append(f"contrast {contrast:.1f} of {look}")
    return found


def _of_toolbar(seen):
    controls = seen["controls"]
    for i, one in enumerate(controls):
        if one["isCut"] or one["right"] > seen["toolbar"] + 1:
            yield f"cut in the toolbar: {one['name']}"
        for other in controls[i + 1 :]:
            if one["name"] in other["around"] or other["name"] in one["around"]:
                continue
            across = min(one["right"], other["right"]) - max(one["left"], other["left"])
            down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
            if min(across, down) > 1:
                yield f"{one['name']} over {other['name']}"
    is_loop = any("iteration" in each["name"] for each in controls)
    has_room = seen["width"] > ONE_LINE or not seen["flagged"]
    if seen["lines"] > (1 if has_room and not is_loop else 2):
        yield f"{seen['lines']} lines of controls"
    if seen["menusEnd"] > seen["toolbar"] + 1:
        yield f"a menu that ends {seen['menusEnd'] - seen['toolbar']:.0f} px behind the toolbar"
    if seen["roomBelowMenus"] < 0:
        yield f"a menu that ends {-seen['roomBelowMenus']:.0f} px below the output"
    noun = seen["count"].split()[-1]
    for counted in re.findall(rf"([\d,]+ {noun})\b", seen["heading"]):
        if counted != seen["count"]:
            yield f"{counted} in the heading, {seen['count']} in the toolbar"


def _of_columns(seen):
    offered = [each["title"] for each in seen["offered"]]
    shown = [each["title"] for each in seen["offered"] if each["isShown"]]
    without_room = [each["title"] for each in seen["offered"] if each["hasNoRoom"]]
    if seen["titles"][1:] != shown:
        yield f"shown {seen['titles'][1:]}, in the menu {shown}"
    said = seen["noRoom"].removeprefix("no room for: ")
    if (said.split(", ") if said else []) != without_room:
        yield f"said {said}, in the menu {without_room}"
    for title in KEPT:
        if title in offered and title not in shown:
            yield f"not shown: {title}"


def _of_rows(seen, red):
    character = seen["ch"]
    ends = [seen["headsEnd"], *(row["cells"][-1]["end"] for row in seen["rows"])]
    blank = seen["rows"][0]["right"] - max(ends)
    for row in seen["rows"]:
        for cell in row["cells"]:
            if cell["isCut"] and cell["kind"] not in WORDS:
                yield f"cut: {cell['text']}"
            elif cell["isCut"] and blank > 5 * character:
                yield f"cut beside {blank:.0f} px: {cell['text']}"
        if row["isRed"] != (row["name"] in red):
            yield f"{'red' if row['isRed'] else 'not red'}: {row['name']}"
    trees = [row["cells"][0] for row in seen["rows"]]
    free = min(tree["right"] - tree["end"] for tree in trees)
    if seen["isWhole"] and free > 8 * character and trees[0]["text"]:
        yield f"{free:.0f} px free beside the longest name"


def _of_panel(seen, red):
    grid = seen["grid"]
    if seen["panel"] is None:
        return
    yield from (f"stretched: {each}" for each in seen["panel"]["stretched"])
    panel = seen["panel"]["box"]
    if seen["width"] > NARROW:
        if grid["right"] > panel["left"]:
            yield "the panel is not beside the table"
        if seen["scrolls"] and abs(grid["height"] - panel["height"]) > 1:
            yield f"the table is {grid['height']} px high, the panel {panel['height']}"
    elif grid["bottom"] > panel["top"]:
        yield "the panel is not below the table"
    if bool(seen["panel"]["red"]) != (seen["panel"]["row"] in red):
        yield f"red in the panel of {seen['panel']['row']}: {seen['panel']['red']}"
