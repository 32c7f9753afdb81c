"""*Load all* in a real page: the recorded run's own values, or in words why they cannot be had."""

import json

import pytest
from lab import notebook_of, run_cell
from playwright.sync_api import expect
from widget_page import (
    AS_DICT,
    AS_LATE,
    LOAD,
    SOONER,
    control,
    open_panel,
    statistic_texts,
    statistics,
    visit,
)
from widget_pictures import read_picture

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CONVOLUTION = """
import time
torch.manual_seed(0)
class Slow(nn.Module):
    seconds = 0
    def forward(self, x):
        time.sleep(self.seconds)
        return x
net, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), Slow()).eval(), torch.rand(1, 3, 64, 64)
with torch.no_grad():
    t = nnmagic.trace(net, x)
    recorded = net[0](x)
t
"""

DROPOUT = """
drop = nn.Sequential(nn.Dropout(), nn.Linear(20_000, 2))
nnmagic.trace(drop, torch.ones(1, 20_000))
"""

ITERATIONS = """
with nnmagic.tracing(net) as turns, torch.no_grad():
    for i in range(3):
        net(torch.full((1, 3, 64, 64), float(i)))
turns
"""

PARAMETERS = """
lines = nn.Sequential(nn.Linear(300, 100), nn.Linear(300, 100))
nnmagic.params(lines)
"""

CHANGE = "with torch.no_grad():\n    net[0].weight.mul_(2)\n    lines[1].weight[50, 7] += 1"


def load(widget, button, text):
    """Press a button by the keyboard, and wait for what it brings."""
    control(widget, button).focus()
    widget.page.keyboard.press("Enter")
    expect(control(widget, "panel")).to_contain_text(text)
    expect(control(widget, button)).to_have_count(0)
    return control(widget, "panel").inner_text().replace("\xa0", " ")


def test_what_is_loaded_is_the_recorded_run_or_is_refused_in_words(lab, tmp_path):
    def look(page):
        expect(page.locator(".nnmagic")).to_have_count(4)
        trace, drop, turns, params = page.locator(".nnmagic").all()
        found = {}

        def compared(name, widget, place, tensor):
            cells = read_picture(widget, place)
            code = f"print(json.dumps([{tensor}[tuple(i)].item() for i, _ in {cells}]))"
            found[name] = cells, json.loads(run_cell(page, code))

        open_panel(trace, "0")
        found["labels"] = [control(trace, "all-output-0").inner_text()]
        found["whole"] = [control(trace, "all-input-0").count()]
        load(trace, "all-output-0", "all 30,752 values")
        compared("recorded", trace, "output-0", "recorded")
        open_panel(params, "0.bias")
        found["whole"].append(control(params, "all-output-0").count())
        open_panel(params, "0.weight")
        load(params, "all-output-0", "all 30,000 values")
        compared("parameter", params, "output-0", "lines[0].weight")

        run_cell(page, CHANGE)
        open_panel(trace, "1")
        found["changed"] = load(trace, "all-output-0", "--keep all")
        found["labels"].append(control(trace, "new-output-0").inner_text())
        load(trace, "new-output-0", "a new run, eval mode: all 30,752 values")
        compared("new run", trace, "output-0", "net(x)")
        found["statistics"] = statistics(trace)[1]
        record = "print(json.dumps(as_dict(t['1'].main)))"
        found["record"] = json.loads(run_cell(page, f"{AS_DICT}\n{record}"))
        open_panel(drop, "0")
        found["dropout"] = load(drop, "all-output-0", "--keep all")
        found["labels"].append(control(drop, "new-output-0").inner_text())
        open_panel(params, "1.weight")
        expect(control(params, "panel")).to_contain_text("has changed since")  # without being asked
        found["parameter changed"] = control(params, "panel").inner_text()

        open_panel(turns, "1")
        expect(control(turns, "all-output-0")).to_be_visible()
        control(turns, "step").focus()
        page.keyboard.press("ArrowLeft")
        expect(control(turns, "panel")).to_contain_text("--keep all")
        found["earlier"] = control(turns, "panel").inner_text()
        found["asks"] = (
            control(turns, "panel").locator('[data-nm^="all-"], [data-nm^="new-"]').count()
        )

        page.evaluate(SOONER)
        run_cell(page, "Slow.seconds = 3")
        status, running = trace.locator(".nm-status"), trace.locator(".nm-input [role=status]")
        for name in ("0", "1"):  # which forgets the new run
            open_panel(trace, name)
        control(trace, "all-output-0").click()
        page.wait_for_timeout(2000)
        found["said"] = [status.inner_text()]
        expect(control(trace, "panel")).to_contain_text("--keep all")
        control(trace, "run").click()
        page.wait_for_timeout(2000)
        found["said"].append(running.inner_text())
        expect(trace.locator(".nm-heading")).to_contain_text("on the same input")
        found["said"].append(running.inner_text())
        page.evaluate(AS_LATE)
        return found

    cells = CONVOLUTION, DROPOUT, ITERATIONS, PARAMETERS
    found = visit(lab, notebook_of(tmp_path, LOAD, *cells), look, width=1300)

    assert found["said"] == ["loading the values …", "running …", ""]
    for name in ("recorded", "parameter", "new run"):
        cells, by_torch = found[name]
        assert [value for _, value in cells] == pytest.approx(by_torch, rel=1e-4)
        assert any(index[-1] % 2 and index[-2] % 2 for index, _ in cells), "no sample's cells"
    assert found["labels"] == ["Load all 30,752 values", "new run, eval mode", "new run, eval mode"]
    assert found["whole"] == [0, 0]
    assert "a new run has m" in found["changed"]
    assert "weights" in found["changed"]
    assert found["statistics"] == statistic_texts(found["record"])
    assert "all 20,000 values" not in found["dropout"]
    assert "1.weight has changed since; run %nnparams again" in found["parameter changed"]
    assert "can be run again; --keep all keeps all values" in found["earlier"]
    assert found["asks"] == 0
