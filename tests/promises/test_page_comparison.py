"""Two runs side by side in a real JupyterLab: the errors as columns, both values in the panel."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from lab import notebook_of
from widget_page import LOAD, control, row_of, violations, visit
from widget_uses import PARTS, assert_where_runs_part_was_seen, look_at_where_runs_part

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
        looks = {name: row_of(widget, name).evaluate(ERROR) for name in ("0", PARTS, "1")}
        found.update(looks=looks, run=control(widget, "run").is_visible())
        found.update(look_at_where_runs_part(widget))
        found["violations"] = violations(Axe().run(page, context=".nnmagic"))
        ids = page.locator(".nnmagic").nth(1)
        row_of(ids, "Embedding").click()
        found["whole"] = ids.locator("pre").evaluate(ARE_WHOLE)
        return found

    visit(lab, notebook_of(tmp_path, LOAD, COMPARED, IDS), look)

    assert_where_runs_part_was_seen(found)
    equal, parts, inherits = found["looks"].values()
    assert equal["texts"] == ["0", "0"]
    assert equal["widths"] == [0, 0]
    assert parts["texts"][0] == "0"
    assert parts["widths"][1] > 50
    assert len({each["color"] for each in (equal, parts, inherits)}) == 3
    assert not found["run"]
    assert found["violations"] == []
    assert len(found["whole"]) == 100
    assert all(found["whole"]), "a line breaks between ids, not within one"
