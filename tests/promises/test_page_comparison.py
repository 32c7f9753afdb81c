"""Two runs side by side in a real JupyterLab: the errors as columns, both values in the panel."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from lab import notebook_of
from playwright.sync_api import expect
from widget_page import COLORS, LOAD, control, names, row_of, rows, violations, visit

pytestmark = [pytest.mark.browser, pytest.mark.slow]

COMPARED = """
import copy
torch.manual_seed(0)
layers = [nn.Sequential(nn.Sequential(nn.Sequential(nn.Sequential(
    nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())))) for _ in range(3)]
net = nn.Sequential(*layers).eval()
other = copy.deepcopy(net)
other[1][0][0][0][0].weight.data[2] += 0.5
x = torch.rand(2, 4, 12, 12)
with torch.no_grad():
    comparison = nnmagic.trace(net, x).compare(nnmagic.trace(other, x))
comparison
"""
PARTS = "1.0.0.0.0"

IDS = """
trace = %nntrace nn.Embedding(2000, 4)(torch.arange(0, 1900, 19)[None])
trace
"""

ARE_WHOLE = r"""pre => [...pre.textContent.matchAll(/\d+/g)].map(({index, 0: number}) => {
  const range = document.createRange();
  range.setStart(pre.firstChild, index);
  range.setEnd(pre.firstChild, index + number.length);
  return range.getClientRects().length === 1;
})"""

TOPS = "all => all.map(each => Math.round(each.getBoundingClientRect().top))"

ERROR = """row => {
  const [input, output] = row.querySelectorAll('.nm-k-error:has(svg)');
  const width = cell => cell.querySelector('path').getBBox().width;
  return {texts: [input.textContent, output.textContent], widths: [width(input), width(output)],
    color: getComputedStyle(output).color};
}"""


def test_a_comparison_is_a_table_of_errors_with_both_values_in_the_panel(lab, tmp_path):
    found = {}

    def look(page):
        widget = page.locator(".nnmagic").first
        found["heading"] = widget.locator(".nm-heading").inner_text()
        found["names"] = names(rows(widget))
        looks = {name: row_of(widget, name).evaluate(ERROR) for name in ("0", PARTS, "1")}
        found["looks"] = looks
        found["run"] = control(widget, "run").is_visible()
        control(widget, "sort-output_error").click()
        found["sorted"] = names(rows(widget))
        for _ in "12":
            control(widget, "sort-output_error").click()
        control(widget, "depth").fill("0")
        control(widget, "first").press("Enter")
        expect(widget.locator(".nm-panel-title")).to_have_text(f"{PARTS} · Conv2d")
        panel = control(widget, "panel")
        expect(panel.locator("canvas")).to_have_count(3)
        found["cards"] = panel.locator(".nm-tensor > div:first-child > b").all_inner_texts()
        found["scales"] = panel.locator(".nm-limits:has(.nm-colorbar)").all_inner_texts()
        found["tops"] = panel.locator("canvas").evaluate_all(TOPS)
        found["colors"] = panel.locator("canvas").last.evaluate(COLORS)
        sliders = panel.locator('.nm-tensor [data-nm$="-axis-0"]')
        sliders.nth(1).fill("1")
        found["items"] = sliders.evaluate_all("all => all.map(each => each.value)")
        found["said"] = panel.locator(".nm-flag-text").inner_text()
        found["loads"] = panel.locator('[data-nm^="all-"], [data-nm^="new-"]').count()
        found["selected"] = [row["name"] for row in rows(widget) if row["selected"]]
        found["violations"] = violations(Axe().run(page, context=".nnmagic"))
        ids = page.locator(".nnmagic").nth(1)
        row_of(ids, "Embedding").click()
        found["whole"] = ids.locator("pre").evaluate(ARE_WHOLE)
        return found

    visit(lab, notebook_of(tmp_path, LOAD, COMPARED, IDS), look)

    assert f"part in Sequential.{PARTS} (Conv2d)" in found["heading"]
    assert PARTS in found["names"]
    assert "0.0.0.0.0" not in found["names"], "only what leads there is unfolded"
    equal, parts, inherits = found["looks"].values()
    assert equal["texts"] == ["0", "0"]
    assert equal["widths"] == [0, 0]
    assert parts["texts"][0] == "0"
    assert parts["widths"][1] > 50
    assert len({each["color"] for each in (equal, parts, inherits)}) == 3
    assert found["sorted"].index(PARTS) < found["sorted"].index("0")
    assert found["cards"] == ["a: output", "b: output", "a - b"]
    assert found["scales"][0] == found["scales"][1] != found["scales"][2]
    low, high = (float(text) for text in found["scales"][2].split())
    assert low == -high
    assert len({*found["tops"]}) == 1, "the pictures of a pair stand side by side"
    assert found["colors"] > 10
    assert found["items"] == ["1", "1", "1"], "the three show the same item"
    assert "inputs are equal" in found["said"]
    assert not found["run"]
    assert not found["loads"]
    assert found["selected"] == [PARTS]
    assert found["violations"] == []
    assert len(found["whole"]) == 100
    assert all(found["whole"]), "a line breaks between ids, not within one"
