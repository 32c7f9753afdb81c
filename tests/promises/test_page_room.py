"""The widget's room in a real page: table and panel, columns that leave, rows that are copied."""

import struct

import pytest
from lab import notebook_of, run_cell
from playwright.sync_api import expect
from widget_page import (
    CATCH_COPIES,
    LOAD,
    control,
    frames,
    open_panel,
    share,
    visit,
)
from widget_uses import (
    BOXES,
    assert_panel_is_below,
    assert_parameters_were_grouped_and_copied,
    group_and_copy_parameters,
    save_first_picture,
    titles,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RESNET = """
import torchvision
torch.manual_seed(0)
net = torchvision.models.resnet18().eval()
with torch.no_grad():
    t = %nntrace net(torch.rand(1, 3, 64, 64))
t
"""

KEPT = ["layer", "shape", "mean ± std"]

CUT = """root => [...root.querySelectorAll('.nm-body [role=row]:not([hidden]) > *')]
  .filter(cell => cell.scrollWidth > cell.clientWidth).map(cell => cell.textContent)"""


def resize(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    frames(page)
    frames(page)


def drag(page, widget, by):
    box = control(widget, "splitter").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 20
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by, y, steps=4)
    page.mouse.up()
    frames(page)


CLICK_LOWEST = """grid => {
  const bottom = row => row.getBoundingClientRect().bottom;
  [...grid.querySelectorAll('.nm-body > [role=row]:not([hidden])')]
    .filter(row => bottom(row) <= bottom(grid)).sort((a, b) => bottom(a) - bottom(b))
    .at(-1).querySelector('.nm-label').click();
}"""

SELECTED_IS_IN_VIEW = """grid => {
  const row = grid.querySelector('[aria-selected=true]').getBoundingClientRect();
  const box = grid.getBoundingClientRect();
  return row.top >= box.top && row.bottom <= box.bottom;
}"""


def test_table_and_panel_share_the_room_as_the_reader_likes(lab, tmp_path):
    def look(page):
        found = {}
        widget = page.locator(".nnmagic")
        hint = widget.get_by_text("press Enter on it")
        found["hint"] = [hint.is_visible()]
        found["file"], found["png"], found["apart"] = save_first_picture(widget, "conv1")
        found["hint"].append(hint.is_visible())
        found["beside"], found["titles beside"] = widget.evaluate(BOXES), titles(widget)
        page.evaluate(CATCH_COPIES, False)
        control(widget, "copy-picture").first.click()
        found["copied"] = page.evaluate("window.copied")
        found["cut"] = widget.evaluate(CUT)
        found["no room"] = widget.locator(".nm-no-room").inner_text()
        control(widget, "columns").click()
        menu = widget.get_by_role("group", name="columns")
        found["menu"] = menu.locator("label", has_text="no room").all_inner_texts()
        page.keyboard.press("Escape")
        expect(control(widget, "columns")).to_be_focused()
        found["shares"] = [share(widget)]
        for key in ("ArrowRight", "ArrowLeft", "ArrowLeft", "End", "Home", "Enter"):
            control(widget, "splitter").press(key)
            found["shares"].append(share(widget))
        drag(page, widget, 150)
        found["dragged"], found["titles dragged"] = share(widget), titles(widget)
        run_cell(page, "t")
        second = page.locator(".nnmagic").nth(1)
        second.wait_for()
        found["hint"].append(second.get_by_text("press Enter on it").is_visible())
        open_panel(second, "conv1")
        found["second"] = share(second)
        control(second, "splitter").dblclick()
        found["double-click"] = share(second)
        resize(page, 800)
        found["below"], found["titles below"] = widget.first.evaluate(BOXES), titles(widget.first)
        found["toolbar"] = widget.first.locator(".nm-toolbar").bounding_box()["height"]
        control(widget.first, "close-panel").click()
        control(widget.first, "grid").evaluate(CLICK_LOWEST)
        expect(control(widget.first, "panel")).to_be_visible()
        found["in view"] = control(widget.first, "grid").evaluate(SELECTED_IS_IN_VIEW)
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, RESNET), look, width=1300)

    assert found["hint"] == [True, False, False]  # it is remembered that one was opened
    beside, below = found["beside"], found["below"]
    assert found["toolbar"] < 40  # one line, also at 800 px
    assert beside[".nm-grid"]["right"] <= beside[".nm-splitter"]["left"]
    assert beside[".nm-splitter"]["right"] <= beside[".nm-panel"]["left"]
    assert beside[".nm-grid"]["height"] == pytest.approx(beside[".nm-panel"]["height"], abs=1)
    assert [title for title in found["titles beside"] if title in KEPT] == KEPT
    assert found["file"] == "conv1-Conv2d-input-1-3-64-64.png"
    width, height = struct.unpack(">II", found["png"][16:24])
    assert found["png"].startswith(b"\x89PNG")
    assert width > 200 < height
    assert found["apart"] <= 1
    assert found["copied"] == ["image/png"]
    assert found["cut"] == []
    left = found["no room"].removeprefix("no room for: ").split(", ")
    assert "histogram" in left
    assert [line.removesuffix("no room").strip() for line in found["menu"]] == left
    assert found["shares"] == [52, 54, 52, 50, 80, 25, 52]
    assert 60 < found["dragged"] < 70
    assert len(found["titles dragged"]) > len(found["titles beside"])
    assert found["second"] == found["dragged"]
    assert found["double-click"] == 52
    assert_panel_is_below(below)
    assert found["in view"], "also the row that the lower table would hide"
    assert [title for title in found["titles below"] if title in KEPT] == KEPT


def test_parameters_are_flat_grouped_on_demand_and_copied_as_they_show(lab, tmp_path):
    def look(page):
        return group_and_copy_parameters(page.locator(".nnmagic"))

    found = visit(lab, notebook_of(tmp_path, LOAD, "p = %nnparams\np"), look, width=1700)

    assert_parameters_were_grouped_and_copied(found)
