import re
import time

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from torch import nn
from torch.nn import functional as F

from nnmagic.network.naming import Naming
from nnmagic.recording.run import recording
from nnmagic.records.trace import Trace
from nnmagic.widget import static_output
from nnmagic.widget.live_loop import LiveLoop
from nnmagic.widget.widget import NetworkWidget


class Loop:
    """A loop that trains a small network, followed live or not."""

    def __init__(self, **options):
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        self.optimizer = torch.optim.SGD(self.net.parameters(), 0.5, momentum=0.9)
        self.options = options
        self.losses = []

    def step(self):
        loss = F.cross_entropy(self.net(torch.randn(16, 4)), torch.arange(16) % 3)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())

    def run(self, times, live=None, pause=0.0):
        naming = Naming(lambda: [("net", self.net)], only=True)
        follow = None if live is None else live.follow
        with recording(
            "cell", naming, watched=[self.net], follow=follow, **self.options
        ) as recorder:
            for _ in range(times):
                self.step()
                time.sleep(pause)
        return Trace(log=recorder.log, root=recorder.roots)


def as_it_is(trace):
    return trace


def live_loop():
    """What follows a loop from its first iteration on, however long an update takes here."""
    return LiveLoop(as_it_is, after=0, share=1)


def floats(buffer, columns):
    return np.frombuffer(buffer, "<f4").reshape(-1, columns)


def test_a_loop_is_shown_while_it_runs(page):
    loop, live = Loop(grad=True), live_loop()

    trace = loop.run(5, live, pause=0.15)

    points = page.told("point")
    assert [message["point"]["iteration"] for message, _ in points] == [0, 1, 2, 3]
    message, buffers = points[2]
    titles = [curve["title"] for curve in message["point"]["curves"]]
    values = dict(zip(titles, floats(buffers[0], len(titles))[1], strict=True))
    history = trace.history().query("iteration == 2 and layer == '0'").set_index("quantity").value
    assert values["mean, and the middle 90 %"] == pytest.approx(history["mean"], rel=1e-5)
    assert values["output gradient norm"] == pytest.approx(history["grad_norm"], rel=1e-5)
    assert values["weight.update ratio"] == pytest.approx(history["weight.update_ratio"], rel=1e-5)
    low, high = (floats(buffers[side], 1)[1, 0] for side in (1, 2))
    assert low < values["mean, and the middle 90 %"] < high
    told, _ = page.told("values")[-1]
    assert "iteration 3 of 5" in told["heading"]
    assert told["losses"][0]["values"] == pytest.approx(loop.losses[:4], rel=1e-3)


def test_a_quick_loop_sends_at_most_ten_updates_a_second(page):
    begin = time.monotonic()

    Loop().run(300, live_loop())

    assert 1 <= len(page.told("point")) <= 10 * (time.monotonic() - begin) + 1


def test_nothing_is_sent_while_nothing_is_recorded(page):
    Loop(every=4).run(12, live_loop(), pause=0.11)

    assert [message["point"]["iteration"] for message, _ in page.told("point")] == [0, 4, 8]


def test_a_short_loop_is_not_shown_before_its_end(page):
    live = LiveLoop(as_it_is, after=60)

    trace = Loop().run(3, live)

    assert live.widget is None
    assert not live.finish(trace)
    assert page.messages == []


def test_the_widget_of_the_loop_becomes_that_of_the_record(page):
    loop, live = Loop(), live_loop()
    trace = loop.run(3, live)
    widget = live.widget
    assert widget.running
    assert widget.sheet.content["run"] is None

    assert live.finish(trace)

    assert NetworkWidget.open_ones() == [widget]
    assert not widget.running
    assert widget.content["steps"] == {"iterations": [0, 1, 2], "shown": 2}
    assert widget.content["run"]["enabled"]
    assert "iteration 2 of 3" in widget.content["heading"]
    page.set(widget, selected="0", step=1)
    message, _ = page.told("panel")[-1]
    assert message["panel"]["curves"][0]["iterations"] == [0, 1, 2]
    assert "iteration 1 of 3" in widget.content["heading"]


def test_a_validation_is_shown_while_the_loop_that_learns_waits(page):
    loop, live = Loop(), live_loop()

    def validate():
        loop.net.eval()
        with torch.no_grad():
            for _ in range(4):
                loop.net(torch.randn(2, 4))
                time.sleep(0.6)

    step, loop.step = loop.step, lambda: (step(), step(), validate())
    loop.run(1, live)

    states = [data["state"] for _, _, data, _ in page.messages if "state" in data]
    contents = [state["content"] for state in states if "content" in state]
    assert contents[-1]["count"] == 2 * contents[0]["count"]  # two trees


def test_a_finding_is_told_as_soon_as_it_arises(page):
    loop, live = Loop(grad=True), live_loop()
    loop.optimizer.zero_grad = lambda: None

    loop.run(5, live, pause=0.12)

    (finding,) = page.told("values")[-1][0]["findings"]
    assert "optimizer.zero_grad()" in finding["text"]
    assert (finding["name"], finding["iteration"]) == ("net", 1)


def test_what_exceeds_a_bound_is_told_while_the_loop_runs(page):
    loop, live = Loop(grad=True), live_loop()
    loop.optimizer = torch.optim.SGD(loop.net.parameters(), 1e-9)

    trace = loop.run(90, live, pause=0.04)

    rules = [each["text"] for each in page.told("values")[-1][0]["findings"]]
    assert any("raise the learning rate" in text for text in rules)
    assert [each.rule for each in trace.findings].count("steps that change nothing") == 1


def test_a_loop_that_is_followed_learns_the_same(page):
    plain, followed = Loop(), Loop()

    torch.manual_seed(1)
    plain.run(20)
    torch.manual_seed(1)
    followed.run(20, live_loop(), pause=0.03)

    assert plain.losses == followed.losses
    mine, others = plain.net.state_dict(), followed.net.state_dict()
    assert all(torch.equal(mine[name], others[name]) for name in mine)


def test_a_display_that_fails_leaves_the_loop_alone(page):
    def refuse(trace):
        raise ValueError("no such column")

    trace = Loop().run(3, LiveLoop(refuse, after=0))

    assert len(trace.log.roots) == 3
    assert any("not shown live: ValueError: no such column" in note for note in trace.log.notes)


def test_an_inference_loop_is_shown_too(page):
    net = nn.Sequential(nn.ReLU())
    naming = Naming(lambda: [("net", net)], only=True)

    with (
        recording("cell", naming, watched=[net], follow=live_loop().follow),
        torch.no_grad(),
    ):
        for _ in range(3):
            net(torch.rand(2))
            time.sleep(0.12)

    assert len(page.told("point")) == 2


def test_courses_are_known_before_the_end(page):
    live = live_loop()

    Loop().run(4, live, pause=0.12)

    trends = [c for c in live.widget.sheet.content["columns"] if c["key"] == "trend"]
    assert any(trends[0]["values"])


def test_where_no_page_answers_the_static_table_of_a_loop_follows(page, monkeypatch):
    monkeypatch.setattr(static_output, "SECONDS", 0.0)
    monkeypatch.setattr(static_output, "SHARE", 1e3)
    shell, published = InteractiveShell.instance(), []

    def publish(data, metadata=None, *, transient=None, update=False, **options):
        published.append((update, data["text/plain"], data.get("text/html", "")))

    monkeypatch.setattr(shell.display_pub, "publish", publish)

    Loop().run(4, live_loop(), pause=0.15)

    updates = [(text, html) for is_update, text, html in published if is_update]
    assert [re.search(r"iteration (\d) of", text)[1] for text, _ in updates] == ["0", "1", "2"]
    assert len({re.search(r"height:[\d.]+em", html)[0] for _, html in updates}) == 1
