import io
from types import SimpleNamespace

from nnmagic.magics import progress
from nnmagic.magics.progress import SECONDS, ProgressLine


def test_the_line_shows_an_iteration_and_goes_away(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    stream = io.StringIO()
    line = ProgressLine(stream)

    line(lambda: {"loss": 0.5}, 0)  # too early to be read
    clock[0] += SECONDS
    line(lambda: {"loss": 0.25}, 1200)
    line(lambda: {"loss": 0.125}, 1201)
    line.close()

    shown, blank, end = stream.getvalue().split("\r")[1:]
    assert shown == "iteration 1,200 · loss 0.250"
    assert (blank, end) == (" " * len(shown), "")


def test_a_loop_that_is_over_at_once_writes_nothing():
    stream = io.StringIO()
    line = ProgressLine(stream)
    line(lambda: {}, 0)
    line.close()

    assert stream.getvalue() == ""
