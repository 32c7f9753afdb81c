import re
import time

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from torch import nn

import nnmagic
from nnmagic.magics.display import update_static_tables
from nnmagic.widget import static_output
from nnmagic.widget.widget import MOST_OPEN, NetworkWidget


@pytest.fixture
def net():
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU())


@pytest.fixture
def published(monkeypatch):
    """What is published: (whether it updates, its display id, its bundle)."""
    shell, found = InteractiveShell.instance(), []

    def publish(data, metadata=None, *, transient=None, update=False, **options):
        found.append((update, (transient or {}).get("display_id"), data))

    monkeypatch.setattr(shell.display_pub, "publish", publish)
    return found


def shown(widget, page):
    widget.show()
    return page.show(widget)


def test_a_widget_is_shown_after_its_static_table_and_without_words_of_its_own(
    page, net, published
):
    widget = shown(nnmagic.watch(net), page)

    (_, mark, table), (_, _, view) = published

    assert f'data-nnmagic="{mark}"' in table["text/html"]
    assert f'<style>.jp-OutputArea-child:has([data-nnmagic="{mark}"])' in table["text/html"]
    assert widget.content["static"] == mark
    assert view["text/plain"] == ""
    assert "application/vnd.jupyter.widget-view+json" in view


CLOSING = {
    "close() was called": lambda widget, net: widget.close(),
    "another watch of Sequential has replaced it": lambda widget, net: nnmagic.watch(net),
    f"{MOST_OPEN} newer ones are open": lambda widget, net: [
        NetworkWidget(widget.trace) for _ in range(MOST_OPEN)
    ],
}


@pytest.mark.parametrize("reason", CLOSING)
def test_a_closed_widget_shows_the_last_call_and_why_it_is_closed(reason, page, net, published):
    widget = shown(nnmagic.watch(net), page)
    net(torch.rand(3, 4))
    y = net(torch.full((3, 4), 2.0))

    CLOSING[reason](widget, net)
    widget.show()

    assert not widget.live
    updates = [data for update, _, data in published if update]
    for data in (updates[-1], published[-1][2], widget._repr_mimebundle_()):
        assert f"this widget is closed: {reason}" in data["text/plain"]
        assert "(3, 4)" in data["text/plain"]
        assert "Traceback" not in data["text/plain"]
    assert widget.trace[""].outputs[0].values == y.tolist()
    widget.close()
    widget.selected = "0"


def test_the_static_table_is_that_of_the_last_call_at_the_end_of_each_cell(page, net, published):
    shown(nnmagic.watch(net), page)
    net(torch.rand(3, 4))
    net(torch.rand(5, 4))
    time.sleep(0.2)
    published.clear()

    update_static_tables()
    update_static_tables()

    ((is_update, _, data),) = published
    assert is_update
    assert "call 2" in data["text/plain"]
    assert "(5, 4)" in data["text/html"].replace("\xa0", " ")


def test_where_no_page_answers_the_static_table_follows_at_a_constant_height(
    page, net, published, monkeypatch
):
    monkeypatch.setattr(static_output, "SECONDS", 0.0)
    monkeypatch.setattr(static_output, "SHARE", 1e3)
    widget = shown(nnmagic.watch(net), page)

    for n in range(3):
        net(torch.rand(n + 1, 4))
        time.sleep(0.15)
    followed = [data["text/html"] for update, _, data in published if update]
    page.ask(widget, ask="latest")
    net(torch.rand(9, 4))
    time.sleep(0.15)

    assert len(followed) == 3
    assert len({re.search(r"height:[\d.]+em", html)[0] for html in followed}) == 1
    assert len([update for update, *_ in published if update]) == 3


def test_updates_are_a_second_apart(page, net, published, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(static_output, "monotonic", lambda: clock[0])
    shown(nnmagic.watch(net), page)

    def updates_after(seconds):
        clock[0] += seconds
        before = sum(update for update, *_ in published)
        time.sleep(0.15)  # a widget is sent a call at most ten times a second
        net(torch.rand(2, 4))
        return sum(update for update, *_ in published) - before

    assert [updates_after(seconds) for seconds in (0.5, 0.4, 0.2, 0.9, 0.2)] == [0, 0, 1, 0, 1]


def test_updates_that_take_long_are_farther_apart(page, net, published, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(static_output, "monotonic", lambda: clock[0])
    output, record = static_output.StaticOutput(), nnmagic.trace(net, torch.rand(2, 4))

    def brief(*args):
        clock[0] += 0.1
        return ""

    monkeypatch.setattr(static_output, "brief_text", brief)
    output.show(record, live=True)

    due = []
    for seconds in (4.9, 0.1):
        clock[0] += seconds
        due.append(output.is_due)

    assert due == [False, True]


def test_the_panel_of_a_trace_is_closed_in_words_too(page, net, published):
    widget = shown(NetworkWidget(nnmagic.trace(net, torch.rand(2, 4))), page)

    widget.close()

    assert "this widget is closed" in published[-1][2]["text/html"]
