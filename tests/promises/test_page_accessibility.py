import pytest
from axe_playwright_python.sync_playwright import Axe
from lab import notebook_of, open_notebook
from widget_page import violations

CELL = """
%load_ext nnmagic
import torch
from torch import nn

net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
net[3].weight.data[0, 0] = float("nan")
%nntrace net(torch.rand(2, 3, 16, 16))
"""

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BACKGROUND = "row => getComputedStyle(row).backgroundColor"


@pytest.mark.parametrize("theme", ["Light", "Dark", "Dark High Contrast"])
def test_axe_finds_no_violation(theme, lab, tmp_path):
    def look(page):
        axe, found = Axe(), []
        widget = page.locator(".nnmagic")
        found += violations(axe.run(page, context=".nnmagic"))
        widget.locator("[role=row]", has_text="Conv2d").click()
        widget.locator("canvas").first.wait_for()
        found += violations(axe.run(page, context=".nnmagic"))
        widget.locator("[data-nm=columns]").click()
        widget.locator("[data-nm=search]").fill("linear")
        found += violations(axe.run(page, context=".nnmagic"))
        widget.locator('.nm-body [role=row]:not([hidden]) [title="3"]').click()
        widget.locator("[data-nm=copy]").click()
        found += violations(axe.run(page, context=".nnmagic"))
        page.keyboard.press("Escape")
        page.emulate_media(forced_colors="active")
        chosen, other = (
            widget.locator(f".nm-body [aria-selected={is_chosen}]:not([hidden])").first
            for is_chosen in ("true", "false")
        )
        assert chosen.evaluate(BACKGROUND) != other.evaluate(BACKGROUND)
        found += violations(axe.run(page, context=".nnmagic"))
        return found

    seen = open_notebook(lab, notebook_of(tmp_path, CELL), theme=theme, look=look)

    assert seen.errors == []
    assert seen.found == []
