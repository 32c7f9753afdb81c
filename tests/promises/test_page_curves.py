"""A loop that trained, in a real page: its curves, one cursor, and any iteration a click away."""

import json

import pytest
from lab import notebook_of, run_cell
from playwright.sync_api import expect
from widget_page import LOAD, control, open_panel, rows, visit
from widget_uses import CURVES, assert_curves_have_one_cursor, hover_over_curves

from nnmagic.display import units

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NETWORK = """
import torch.nn.functional as F
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
optimizer = torch.optim.SGD(net.parameters(), 0.5)
"""

LOOP = """%%nntrace --grad net -o t
for _ in range(21):
    loss = F.cross_entropy(net(torch.randn(16, 4)), torch.arange(16) % 3)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_curves_have_one_cursor_and_show_the_iteration_that_is_clicked(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        means = json.loads(run_cell(page, "print([c.main.mean for c in t.calls('0')])"))
        open_panel(widget, "0")
        found = hover_over_curves(widget)
        curves, said = widget.locator(CURVES), widget.locator(f".nm-sides:has({CURVES}) output")
        found["parts"] = control(widget, "panel").locator(".nm-part").all_inner_texts()
        box = curves.first.bounding_box()
        curves.first.click(position={"x": box["width"] / 2, "y": 20})
        expect(widget.locator(".nm-heading")).to_contain_text("iteration 10 of 21")
        expect(said.first).to_contain_text("iteration 10:")
        found["mean"] = rows(widget)[1]["mean"]
        curves.first.focus()
        for key in ("ArrowRight", "ArrowRight", "Enter"):
            page.keyboard.press(key)
        expect(widget.locator(".nm-heading")).to_contain_text("iteration 12 of 21")
        found["slider"] = control(widget, "step").input_value()
        return found, means

    found, means = visit(lab, notebook_of(tmp_path, LOAD, NETWORK, LOOP), look, width=1300)

    assert_curves_have_one_cursor(found, [units.numbers(mean)[0] for mean in means])
    order = ["in", "distributions", "over the iterations", "weights as they are now", "about"]
    assert [part.split("\n")[0] for part in found["parts"] if not part.startswith("out")] == order
    assert found["mean"].startswith(units.numbers(means[10])[0])
    assert found["slider"] == "12"
