"""The lanes of the widget in a real page: lit up under the pointer, followed by keys, folded."""

import re

import pytest
from lab import notebook_of
from playwright.sync_api import expect
from widget_page import LOAD, active, control, frames, lanes, row_of, visit

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RESIDUAL = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
    def forward(self, x):
        return self.b(self.a(x)) + x
net = nn.Sequential(nn.Linear(4, 4), Block(), nn.Linear(4, 4))
x = torch.rand(2, 4)
t = %nntrace --ops net(x)
t
"""


def test_lanes_light_up_and_are_followed_and_fold(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        grid, found = control(widget, "grid"), {}
        found["at first"] = lanes(widget)
        row_of(widget, "1.add()").hover()
        expect(row_of(widget, "1.b")).to_have_class(re.compile("nm-linked"))
        found["hovered"] = lanes(widget)
        grid.focus()
        page.keyboard.press("Home")
        for key in ("ArrowDown", "o", "o", "o", "i", "i"):
            page.keyboard.press(key)
            found.setdefault("followed", []).append(active(widget))
        row_of(widget, "1").locator(".nm-fold").click()
        frames(page)
        found["folded"] = lanes(widget)
        control(widget, "sort-zeros").click()
        frames(page)
        found["sorted"] = lanes(widget)
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, RESIDUAL), look)

    first, hovered, folded = found["at first"], found["hovered"], found["folded"]
    assert [name for name in first if first[name]["dot"]] == ["0", "1.a", "1.b", "1.add()", "2"]
    assert first["0"]["lines"] == first["2"]["lines"].replace("0V12", "12V24")
    assert first["1"]["lines"] == first["0"]["lines"].replace("12V24", "0V24")
    assert not any(each["lit"] or each["linked"] for each in first.values())
    assert [name for name in hovered if hovered[name]["linked"]] == ["0", "1.b", "2"]
    assert all(hovered[name]["lit"] for name in hovered if name not in ("net", "Sequential"))
    assert found["followed"] == ["0", "a", "b", "add()", "b", "a"]
    assert list(folded) == [*list(first)[:3], "2"]
    assert [bool(each["dot"]) for each in folded.values()] == [False, True, True, True]
    assert not any(each["lines"] for each in found["sorted"].values())
