"""The widget's room in a real page: table and panel, columns that leave, rows that are copied."""

import json
from io import BytesIO

import numpy as np
import pytest
from lab import notebook_of, run_cell
from PIL import Image
from playwright.sync_api import expect
from widget_copies import (
    assert_parameters_were_grouped_and_copied,
    assert_picture_was_taken,
    group_and_copy_parameters,
    take_first_picture,
)
from widget_page import LOAD, control, frames, titles, visit
from widget_room import (
    BOXES,
    assert_panel_is_below,
    assert_room_is_shared_and_remembered,
    open_and_share_room,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RESNET = """
import torchvision
torch.manual_seed(0)
net = torchvision.models.resnet18().eval()
nn.init.constant_(net.bn1.bias, -100)
with torch.no_grad():
    t = %nntrace net(torch.rand(1, 3, 64, 64))
t
"""
"""Its first ReLU is flagged: it returns zeros only."""

LONG_NAMES = """
def nested(net, *names):
    for name in reversed(names):
        net = nn.ModuleDict({name: net})
    return net

adapters = nn.ModuleDict({
    f"{projection}_projection": nn.ModuleDict(
        {f"lora_{side}": nn.ModuleDict({"default": nn.Linear(8, 8)}) for side in "AB"}
    )
    for projection in ("query", "key", "value")
})
deep = nested(adapters, "base_model", "text_decoder_model", "transformer_layers", "layer_block_0")
%nnparams deep
"""
"""The longest name has 102 characters."""

LABELS = """root => [...root.querySelectorAll('.nm-body [role=row]:not([hidden])')].map(row => {
  const cell = row.querySelector('[role=rowheader]');
  const [label, box] = [cell.querySelector('.nm-label'), cell.getBoundingClientRect()];
  const {left, right, width} = label.getBoundingClientRect();
  const name = label.textContent;
  const seen = Math.min(name.length, Math.floor((box.width - 12) / (width / name.length)) - 1);
  return {name, right: box.right - right, isCut: left < box.left, end: name.slice(-seen)};
})"""

KEPT = ["layer", "shape", "mean ± std", "flags"]

CUT = """root => [...root.querySelectorAll('.nm-body [role=row]:not([hidden]) > *')]
  .filter(cell => cell.scrollWidth > cell.clientWidth).map(cell => cell.textContent)"""


SCROLL_A_LONG_NAME = """root => {
  const cell = root.querySelector('.nm-body [role=rowheader]');
  cell.querySelector('.nm-label').textContent = 'x'.repeat(300);
  cell.scrollLeft = 50;
  return [cell.scrollWidth > cell.clientWidth, cell.scrollLeft];
}"""
"""A search in the page, or a script, may scroll what is cut."""


def resize(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    frames(page)
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


def lines_below_the_header(widget):
    """How many rows of pixels are a line from edge to edge, where the table stands between two."""
    found = []
    for offset in (0, 0.25, 0.5, 0.75):
        widget.evaluate("(root, offset) => { root.style.marginTop = `${offset}px`; }", offset)
        frames(widget.page)
        grid = Image.open(BytesIO(control(widget, "grid").screenshot())).convert("L")
        strip = np.asarray(grid)[20:30, 8:-8]
        is_line = (strip == strip[:, :1]).all(axis=1) & (strip[:, 0] != grid.getpixel((8, 10)))
        found.append(int(is_line.sum()))
    return found


def test_table_and_panel_share_the_room_as_the_reader_likes(lab, tmp_path):
    def look(page):
        found = {}
        widget = page.locator(".nnmagic").first

        def shown_again():
            run_cell(page, "t")
            return page.locator(".nnmagic").nth(1)

        found["room"] = open_and_share_room(widget, "conv1", shown_again)
        control(widget, "splitter").press("Enter")
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        found["picture"] = take_first_picture(widget, "conv1")
        found["beside"], found["titles beside"] = widget.evaluate(BOXES), titles(widget)
        found["cut"] = widget.evaluate(CUT)
        found["no room"] = widget.locator(".nm-no-room").inner_text()
        control(widget, "columns").click()
        menu = widget.get_by_role("group", name="columns")
        found["menu"] = menu.locator("label", has_text="no room").all_inner_texts()
        page.keyboard.press("Escape")
        expect(control(widget, "columns")).to_be_focused()
        resize(page, 800)
        found["below"], found["titles below"] = widget.evaluate(BOXES), titles(widget)
        found["toolbar"] = widget.locator(".nm-toolbar").bounding_box()["height"]
        control(widget, "close-panel").click()
        control(widget, "grid").evaluate(CLICK_LOWEST)
        expect(control(widget, "panel")).to_be_visible()
        found["in view"] = control(widget, "grid").evaluate(SELECTED_IS_IN_VIEW)
        found["lines"] = lines_below_the_header(widget)
        found["shifted"] = widget.evaluate(SCROLL_A_LONG_NAME)
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, RESNET), look, width=1300)

    assert_room_is_shared_and_remembered(found["room"])
    assert_picture_was_taken(found["picture"], "conv1-Conv2d-input-1-3-64-64.png")
    beside, below = found["beside"], found["below"]
    assert found["toolbar"] < 40  # one line, also at 800 px
    assert beside[".nm-grid"]["right"] <= beside[".nm-splitter"]["left"]
    assert beside[".nm-splitter"]["right"] <= beside[".nm-panel"]["left"]
    assert beside[".nm-grid"]["height"] == pytest.approx(beside[".nm-panel"]["height"], abs=1)
    assert [title for title in found["titles beside"] if title in KEPT] == KEPT
    assert found["cut"] == []
    left = found["no room"].removeprefix("no room for: ").split(", ")
    assert "histogram" in left
    assert [line.removesuffix("no room").strip() for line in found["menu"]] == left
    assert_panel_is_below(below)
    assert all(count >= 1 for count in found["lines"]), found["lines"]
    assert found["shifted"] == [True, 0]
    assert found["in view"], "also the row that the lower table would hide"
    assert [title for title in found["titles below"] if title in KEPT] == KEPT


def test_full_names_are_whole_where_there_is_room_and_else_told_by_their_ends(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        found = {1700: widget.evaluate(LABELS)}
        for width in (1300, 800):
            resize(page, width)
            found[width] = widget.evaluate(LABELS)
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, LONG_NAMES), look, width=1700)

    for width, labels in found.items():
        assert len(labels) == 12
        assert any(label["isCut"] for label in labels) == (width < 1700), width
        assert all(label["right"] >= 0 for label in labels), "cut where it ends"
        assert len({label["end"] for label in labels}) == len(labels), width


def test_parameters_are_flat_grouped_on_demand_and_copied_as_they_show(lab, tmp_path):
    def look(page):
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        found = group_and_copy_parameters(page.locator(".nnmagic"))
        markdown = run_cell(page, "print(p.to_markdown())")
        records = run_cell(page, "print(json.dumps(p.to_frame().to_dict('records')))")
        return found, markdown, json.loads(records)

    found = visit(lab, notebook_of(tmp_path, LOAD, "p = %nnparams\np"), look, width=1700)

    assert_parameters_were_grouped_and_copied(*found)
