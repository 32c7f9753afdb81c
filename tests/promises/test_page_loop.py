"""A loop in a cell, in a real page: followed while it runs, interrupted, and scrubbed after it."""

import pytest
from lab import ADD_AND_RUN, notebook_of, open_notebook, run_cell
from playwright.sync_api import expect
from widget_page import INTERRUPT, KNOWN_AND_ROW, LOAD, NOTE_INTERRUPTS, control, row_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NETWORK = """
import time
import torch.nn.functional as F
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
optimizer = torch.optim.SGD(net.parameters(), 1e-4)
"""

LOOP = f"""%%nntrace --grad net -o t
{NOTE_INTERRUPTS}
while not is_asked:
    loss = F.cross_entropy(net(torch.randn(16, 4)), torch.arange(16) % 3)
    loss.backward()
    optimizer.step()
    time.sleep(0.01)
raise KeyboardInterrupt
"""

FINDINGS = ".nm-findings button"


def test_a_loop_is_followed_until_it_is_interrupted_and_then_played(lab, tmp_path):
    def look(page):
        page.evaluate(ADD_AND_RUN, LOOP)
        widget = page.locator(".nnmagic")
        heading, badge = widget.locator(".nm-heading"), widget.locator(".nm-badge")
        expect(badge).to_have_text("● live")
        found = {"slider while it runs": control(widget, "step").is_visible()}
        row_of(widget, "0").locator(".nm-label").click()
        curves = control(widget, "panel").locator("[aria-roledescription=curve]")
        expect(curves.nth(1)).to_be_visible()
        lines = widget.locator("path.nm-curve")  # the loss, then the layer's
        before = [lines.nth(i).get_attribute("d") for i in (0, 1)]
        text = heading.inner_text()
        for i in (0, 1):
            expect(lines.nth(i)).not_to_have_attribute("d", before[i])
        expect(heading).not_to_have_text(text)
        found["findings while it runs"] = widget.locator(FINDINGS).all_inner_texts()
        page.evaluate(INTERRUPT)
        expect(heading).to_contain_text("interrupted after")
        expect(badge).to_be_hidden()
        expect(control(widget, "panel")).to_contain_text("weights as they are now")
        found["names"] = [each.get_attribute("aria-label") for each in curves.all()]
        widget.locator(FINDINGS).first.click()
        step = control(widget, "step")
        expect(widget.locator(".nm-panel-title")).to_contain_text("Sequential")
        found["at the finding"] = int(step.input_value())
        step.focus()
        page.keyboard.press("ArrowRight")
        expect(step).to_have_value("2")
        control(widget, "play").focus()
        page.keyboard.press("Enter")
        expect(step).not_to_have_value(step.input_value())
        page.keyboard.press("Space")
        expect(control(widget, "play")).to_have_attribute("aria-pressed", "false")
        found["heading"] = heading.inner_text()
        found["iterations"] = run_cell(page, "print(len({c.iteration for c in t.calls('')}))")
        return found

    seen = open_notebook(lab, notebook_of(tmp_path, LOAD, NETWORK), look=look, width=1300)

    found = seen.found
    assert [error for error in seen.errors if "KeyboardInterrupt" not in error] == []
    assert not found["slider while it runs"]
    assert "optimizer.zero_grad()" in " ".join(found["findings while it runs"])
    assert found["names"][0].startswith("mean, and the middle 90 %")
    assert f"interrupted after {int(found['iterations']):,} iterations" in found["heading"]
    assert found["at the finding"] == 1


TWO = f"""%%nntrace
{NOTE_INTERRUPTS}
i = 0
while not is_asked:
    net(torch.full((1, 4), float(i)))
    if i > 30:
        with torch.no_grad():
            other(torch.zeros(1, 4))
    i += 1
    time.sleep(0.05)
"""

OTHER = "other = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))"


def test_a_row_stays_open_when_a_second_network_begins(lab, tmp_path):
    def look(page):
        page.evaluate(ADD_AND_RUN, TWO)
        widget = page.locator(".nnmagic")
        row_of(widget, "2").locator(".nm-label").click()
        expect(row_of(widget, "other:2")).to_have_count(1)
        selected = widget.locator(".nm-body > [aria-selected=true]")
        found = [selected.count(), selected.get_attribute("aria-rowindex")]
        known = control(widget, "known")
        mean = selected.locator(".nm-k-pair").first
        expect(mean).not_to_have_text(mean.text_content())
        found.append(widget.evaluate(KNOWN_AND_ROW))
        page.evaluate(INTERRUPT)
        control(widget, "panel").locator("canvas").first.wait_for()
        return found, known.count()

    path = notebook_of(tmp_path, LOAD, NETWORK, OTHER)
    seen = open_notebook(lab, path, look=look, width=1300)

    (count, index, (known, row)), after = seen.found
    assert seen.errors == []
    assert (count, index) == (1, "5")
    assert row
    assert row in known
    assert after == 0
