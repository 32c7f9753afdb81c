"""The live widget in a real page: following, pausing and ending."""

import time

import pytest
from lab import ADD_AND_RUN, notebook_of, run_cell
from playwright.sync_api import expect
from widget_page import (
    AS_LATE,
    COUNT_MESSAGES,
    INTERRUPT,
    KNOWN_AND_ROW,
    LOAD,
    NOTE_INTERRUPTS,
    SOONER,
    TORCHS_OWN,
    WIDGETS,
    control,
    frames,
    names,
    open_panel,
    row_of,
    rows,
    table_texts,
    visit,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LIVE = """
torch.manual_seed(0)
a = nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU())
b = nn.Linear(3, 5)
w = nnmagic.watch(a)
w
"""

CALL = """
from nnmagic.display import units
with torch.no_grad():
    y = {network}(torch.full((1, 3), {value}))
print("±".join(units.numbers(y.mean().item(), y.std().item())))
"""


HEARD_LATE = """
from time import sleep
while not w.paused:
    sleep(0.01)

def late(self, value):
    sleep(0.5)
    vars(self)["paused"] = value

type(w.watcher).paused = property(lambda self: vars(self)["paused"], late)
"""
"""The kernel has heard of the pause; of the next it hears late, as messages come past cells."""

AFTERWARDS = """
w.close()
w.selected, w.search, w.step, w.paused = "0", "relu", 1, True
a(torch.ones(1, 3))
last = w.trace[""].main
print(w.live, f"{last.mean:.3f}±{last.std:.3f}")
w
"""
"""A closed widget is used as if it were open."""


def test_a_live_widget_follows_pauses_and_leaves_nothing(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        heading, badge = widget.locator(".nm-heading"), widget.locator(".nm-badge")
        found, by_torch = {}, {}

        def call(name, value, network="a"):
            by_torch[name] = run_cell(page, CALL.format(network=network, value=value)).strip()

        found["badge"] = badge.inner_text()
        call("call 1", 1.0)
        expect(heading).to_contain_text("call 1")
        frames(page)
        found["call 1"] = rows(widget)[0]["mean"]
        call("call 2", -7.0)
        expect(heading).to_contain_text("call 2")
        frames(page)
        found["call 2"] = rows(widget)[0]["mean"]
        control(widget, "pause").click()
        expect(badge).to_contain_text("paused")
        run_cell(page, HEARD_LATE)
        call("paused", 30.0)
        page.wait_for_timeout(300)  # an update would come within a tenth of a second
        found["paused"] = heading.inner_text(), rows(widget)[0]["mean"]
        control(widget, "pause").click()
        expect(badge).to_contain_text("live")
        call("resumed", 50.0)
        expect(heading).to_contain_text("call 3")
        frames(page)
        found["resumed"] = rows(widget)[0]["mean"]
        found["own while live"] = run_cell(page, TORCHS_OWN).strip()
        control(widget, "close").focus()
        page.keyboard.press("Enter")
        expect(widget).to_have_count(0)
        found["own once closed"] = run_cell(page, TORCHS_OWN).strip()
        (found["closed"],) = table_texts(page)
        call("after the end", 70.0)
        found["frozen"] = table_texts(page)
        found["afterwards"] = run_cell(page, AFTERWARDS).split()
        found["shown again"] = page.locator(".jp-Cell").last.inner_text().replace("\xa0", " ")
        found["widgets"] = widget.count()
        return found, by_torch

    found, by_torch = visit(lab, notebook_of(tmp_path, LOAD, LIVE), look)

    assert "live" in found["badge"]
    for name in ("call 1", "call 2", "resumed"):
        assert found[name] == by_torch[name]
    assert "call 2" in found["paused"][0]
    assert found["paused"][1] == by_torch["call 2"] != by_torch["paused"]
    assert found["own while live"] == "False"
    assert found["own once closed"] == "True"
    assert found["frozen"] == [found["closed"]]
    for text in (found["closed"], found["shown again"]):
        assert "a · call 3" in text
        assert by_torch["resumed"] in text.replace(" ", "")
        assert "this widget is closed: close() was called, or its button pressed" in text
    assert found["afterwards"] == ["False", by_torch["resumed"]]
    assert found["widgets"] == 0


GONE = f"""
c = nn.Linear(3, 4)
w3 = nnmagic.watch(c)
w3.show()
_ = c(torch.ones(1, 3))  # the next one comes too soon to be shown at once
{CALL.format(network="c", value=3.0)}
del c
gc.collect()
print(w3.live)
w3.selected, w3.search, w3.paused = "c", "linear", True
"""
"""The network of a widget goes, and then the widget is used as if it were open."""


def test_watching_ends_with_its_block_a_second_watch_and_the_extension(lab, tmp_path):
    def look(page):
        widgets = page.locator(".nnmagic")
        found = {}
        expect(widgets).to_have_count(1)
        run_cell(page, "w2 = nnmagic.watch(a)\nw2")
        expect(page.locator(".jp-Cell").last.locator(".nnmagic")).to_have_count(1)
        expect(widgets).to_have_count(1)
        tables = page.locator("[data-nnmagic]")
        expect(tables.first).to_contain_text("this widget is closed:")
        found["replaced"] = table_texts(page)
        found["second"] = run_cell(page, f"{WIDGETS}\nprint(len(open_ones), open_ones[0] is w2)")
        run_cell(page, "w2.close()")
        block = f"with nnmagic.watch(a):\n    {TORCHS_OWN}\n{TORCHS_OWN}"
        found["block"] = run_cell(page, block).split()
        run_cell(page, "import ipywidgets\nipywidgets.HBox([nnmagic.watch(a), nnmagic.watch(b)])")
        expect(widgets).to_have_count(2)
        run_cell(page, CALL.format(network="b", value=1.0))
        expect(widgets.nth(1).locator(".nm-heading")).to_contain_text("b · call 1")
        run_cell(page, CALL.format(network="a", value=1.0))
        expect(widgets.nth(0).locator(".nm-heading")).to_contain_text("a · call 1")
        found["both"] = [names(rows(each)) for each in widgets.all()]
        run_cell(page, "%nntrace --live b")
        magic = widgets.nth(2)
        expect(magic.locator(".nm-badge")).to_contain_text("live")
        expect(widgets).to_have_count(3)
        expect(page.locator("[data-nnmagic]").last).to_be_hidden()
        run_cell(page, CALL.format(network="b", value=2.0))
        expect(magic.locator(".nm-heading")).to_contain_text("b · call 1")
        found["gone"] = run_cell(page, GONE).splitlines()
        run_cell(page, "%unload_ext nnmagic")
        expect(control(widgets, "close").locator("visible=true")).to_have_count(0)
        expect(widgets).to_have_count(2)  # those in a box stay
        found["unloaded"] = run_cell(page, TORCHS_OWN)
        found["tables"] = [text for text in table_texts(page) if text]
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, LIVE), look)

    assert found["second"].split() == ["1", "True"]
    assert found["block"] == ["False", "True"]
    assert found["both"] == [["a", "0", "1"], ["b"]]
    assert found["unloaded"].strip() == "True"
    replaced, second = found["replaced"]
    assert "this widget is closed: another watch of a has replaced it" in replaced
    assert second == ""
    mean, is_live = found["gone"]
    (of_gone,) = [text for text in found["tables"] if text.startswith("c · call 2")]
    assert mean in of_gone.replace(" ", "")
    assert is_live == "False"
    reasons = [text.rpartition("this widget is closed: ")[2] for text in found["tables"]]
    assert reasons == [
        "another watch of a has replaced it",
        "close() was called, or its button pressed",
        "the extension was unloaded",
        "the network is gone",
    ]


BOX = f"""
a, b = nn.Sequential(nn.Linear(3, 2), nn.ReLU()), nn.Linear(3, 5)
{CALL.format(network="a", value=1.0)}
import ipywidgets
pair = [nnmagic.watch(a), nnmagic.watch(b)]
ipywidgets.HBox(pair)
"""


def test_in_a_box_a_widget_that_is_over_stays_and_says_why(lab, tmp_path):
    def look(page):
        found = {}
        halves = page.locator(".jp-Cell").nth(1).locator(".nnmagic")
        expect(halves).to_have_count(2)
        found["mean"] = run_cell(page, CALL.format(network="a", value=1.0)).strip()
        run_cell(page, "nnmagic.watch(a)")
        replaced, closed = halves.all()
        expect(replaced).to_contain_text("is closed: another watch of a has replaced it")
        control(closed, "close").click()
        expect(closed).to_contain_text("is closed: close() was called, or its button pressed")
        controls = [control(half, name) for half in halves.all() for name in ("pause", "close")]
        found["controls"] = [each.is_visible() for each in controls]
        found["rows"] = rows(replaced)
        found["panel"] = open_panel(replaced, "0")
        found["live"] = run_cell(page, "print([each.live for each in pair])")
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, BOX), look)

    assert found["controls"] == [False] * 4
    assert names(found["rows"]) == ["a", "0", "1"]
    assert found["rows"][0]["mean"] == found["mean"]
    assert found["panel"] == "0 · Linear"
    assert found["live"].strip() == "[False, False]"


GROWING = """
g = nn.Sequential(nn.Identity())
nnmagic.watch(g)
"""

PLACES = """root => [...root.querySelectorAll('.nm-row:not([hidden]) .nm-k-pair')].map(cell => {
  const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (texts.nextNode()) {
    const at = texts.currentNode.data.search(/[±…]/);
    if (at < 0) continue;
    range.setStart(texts.currentNode, at);
    range.setEnd(texts.currentNode, at + 1);
  }
  const {left, width} = cell.getBoundingClientRect();
  return [left, width, range.getBoundingClientRect().left].map(Math.round);
})"""
"""Where each pair of numbers stands, how wide its cell is, and where its sign in between stands."""


def test_a_number_never_changes_width_while_it_is_live(lab, tmp_path):
    def look(page):
        widget, found = page.locator(".nnmagic"), []
        for call, scale in enumerate(("1.0", "-1.0", "3e-7", "-98765.4", "2e9"), 1):
            run_cell(page, f"_ = g(torch.tensor([[0.5, 1.0]]) * {scale})")
            expect(widget.locator(".nm-heading")).to_contain_text(f"call {call}")
            frames(page)
            found.append((widget.evaluate(PLACES), rows(widget)[0]["mean"]))
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, GROWING), look)

    assert len({len(text) for _, text in found}) > 2, "numbers of several lengths were shown"
    assert all(places == found[0][0] for places, _ in found)


LOOP = """
with torch.no_grad():
    for i in range(2_000):
        y = a(torch.full((1, 3), i / 100))
print(f"{y.mean():.3f}±{y.std():.3f}")
"""


def test_a_quick_loop_sends_few_messages_and_its_last_call(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        page.evaluate(COUNT_MESSAGES)
        begin = time.monotonic()
        last = run_cell(page, LOOP).strip()
        expect(widget.locator(".nm-heading")).to_contain_text("call 2,000")
        frames(page)
        messages = page.evaluate("messages")
        return time.monotonic() - begin, last, rows(widget)[0]["mean"], messages

    seconds, last, shown, messages = visit(lab, notebook_of(tmp_path, LOAD, LIVE), look)

    assert shown == last
    assert 1 <= messages <= 10 * seconds + 1


FAILS_AT_TIMES = """
class Gate(nn.Module):
    def forward(self, x):
        if x.sum() < 0:
            raise ValueError("the gate is shut")
        return x

gated = nn.Sequential(nn.Identity(), Gate())
w = nnmagic.watch(gated)
w
"""


def test_a_live_widget_shows_a_call_that_fails_and_the_next_that_does_not(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        heading = widget.locator(".nm-heading")
        run_cell(page, "_ = gated(torch.ones(2))")
        expect(heading).to_contain_text("call 1")
        run_cell(page, "try:\n    gated(-torch.ones(2))\nexcept ValueError:\n    pass")
        expect(heading).to_contain_text("failed")
        frames(page)
        failing = [row["message"] for row in rows(widget)]
        run_cell(page, "_ = gated(torch.full((2,), 3.0))")
        expect(heading).to_contain_text("call 3")
        frames(page)
        after = [[row["message"], row["mean"]] for row in rows(widget)]
        return failing, after

    failing, after = visit(lab, notebook_of(tmp_path, LOAD, FAILS_AT_TIMES), look)

    assert failing == ["FAILED inside", None, "FAILED ValueError"]
    assert after == [[None, "3.000±0.000"]] * 3


BARS = "found => found.map(li => [li.innerText, li.querySelector('path').getAttribute('d')])"

BUSY = """
torch.manual_seed(0)
c = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
with nnmagic.tracing(c) as t:
    for i in range(4):
        c(torch.full((1, 3), 1.0 + i))
t
"""


def test_a_row_opened_while_a_cell_runs_shows_what_is_known_of_it(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        page.evaluate(SOONER)
        page.evaluate(ADD_AND_RUN, "import time\ntime.sleep(9)")
        row_of(widget, "0").locator(".nm-label").click()
        known = control(widget, "known")
        expect(known).to_be_visible(timeout=3_000)
        found = {"known": known.inner_text(), "busy": widget.locator(".nm-status").inner_text()}
        found["bars"] = known.locator("li:has(path)").evaluate_all(BARS)
        rest = widget.get_by_text("come when the kernel is free")
        found["rest"] = [rest.is_visible()]
        control(widget, "step").fill("1")
        found["slider"] = [control(widget, "step").input_value()]
        expect(widget.locator(".nm-status")).to_contain_text("busy", timeout=7_000)
        expect(control(widget, "step")).to_have_value("3", timeout=7_000)
        found["slider"].append(widget.locator(".nm-iterations").inner_text())
        control(widget, "panel").locator("canvas").first.wait_for(timeout=20_000)
        found["after"] = known.count()
        found["rest"].append(rest.is_visible())
        found["status"] = widget.locator(".nm-status").inner_text()
        expect(control(widget, "step")).to_have_value("1")
        found["slider"].append(widget.locator(".nm-iterations").inner_text())
        page.evaluate(AS_LATE)
        return found, run_cell(page, "print(f\"{t['0'].mean:.3f} ± {t['0'].std:.3f}\")").strip()

    found, by_record = visit(lab, notebook_of(tmp_path, LOAD, BUSY), look)

    assert by_record in found["known"].replace("\xa0", " ")
    assert [title.strip() for title, _ in found["bars"]] == ["histogram", "iterations"]
    assert all(path.count("h5") > 1 for _, path in found["bars"])
    assert found["busy"] == "loading …"
    assert found["rest"] == [True, False]
    assert (found["after"], found["status"]) == (0, "")
    begun, unanswered, answered = found["slider"]
    assert begun == "1"
    assert "3 of 4" in unanswered
    assert "busy" in unanswered
    assert "1 of 4" in answered
    assert "busy" not in answered


WATCHED_LOOP = f"""
{NOTE_INTERRUPTS}
import time
i = 0
while not is_asked:
    watched(torch.full((1, 3), float(i)))
    i += 1
    time.sleep(0.1)
"""


def test_what_is_known_of_a_row_goes_on_with_a_watched_network(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        page.evaluate(ADD_AND_RUN, WATCHED_LOOP)
        row_of(widget, "0").locator(".nm-label").click()
        known = control(widget, "known")
        known.wait_for()
        mean = widget.locator(".nm-body > [aria-selected=true] .nm-k-pair").first
        found = []
        for _ in range(3):
            expect(mean).not_to_have_text(mean.text_content())
            found.append(widget.evaluate(KNOWN_AND_ROW))
        page.evaluate(INTERRUPT)
        control(widget, "panel").locator("canvas").first.wait_for(timeout=20_000)
        return found, known.count()

    watched = "watched = nn.Sequential(nn.Linear(3, 2), nn.ReLU())\nnnmagic.watch(watched)"
    found, after = visit(lab, notebook_of(tmp_path, LOAD, watched), look)

    assert all(row and row in known for known, row in found)
    assert len({row for _, row in found}) == 3
    assert after == 0
