import gc
import subprocess
import sys
import threading
import time
import weakref

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.utils.checkpoint import checkpoint
from watched import settled

import nnmagic
from nnmagic.widget.widget import NetworkWidget


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU())


def is_torchs_own():
    return nn.Module.__call__.__code__.co_name == "_wrapped_call_impl"


def test_a_watch_shows_every_later_call(page, net):
    widget = page.show(nnmagic.watch(net))

    net(torch.rand(2, 4))
    x = torch.rand(2, 4)
    y = net(x)

    trace = settled(widget).trace
    assert trace[""].outputs[0].values == y.tolist()
    assert "call 2" in widget.sheet.content["heading"]


def test_a_watch_shows_all_layers_that_a_method_calls(page, net):
    widget = page.show(nnmagic.watch(net))

    for n in (2, 3):
        net.forward(torch.rand(n, 4))

    calls = list(settled(widget).trace)
    assert [(call.layer, call.output_shape) for call in calls] == [("0", (3, 4)), ("1", (3, 4))]
    assert {call.iteration for call in calls} == {1}


def test_a_watch_keeps_the_last_turn_of_a_method_that_calls_a_layer_again_and_again(page):
    class Looping(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.ReLU(), nn.Tanh()

        def run(self, times):
            for n in range(1, times + 1):
                self.head(self.cell(torch.rand(n, 4)))

    net = Looping()
    widget = page.show(nnmagic.watch(net))

    net.run(50)

    calls = list(settled(widget).trace)
    assert [(call.layer, call.output_shape) for call in calls] == [
        ("cell", (50, 4)),
        ("head", (50, 4)),
    ]


def test_the_latest_call_arrives_however_fast_the_network_runs(page, net):
    widget = page.show(nnmagic.watch(net))
    begin = time.monotonic()

    for _ in range(500):
        y = net(torch.rand(2, 4))

    seconds = time.monotonic() - begin
    assert settled(widget).trace[""].outputs[0].values == y.tolist()
    assert "call 500" in widget.sheet.content["heading"]
    updates = len(page.told("values"))
    assert updates <= 10 * seconds + 2


def test_a_recomputation_is_no_call(page):
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    widget = page.show(nnmagic.watch(net))

    checkpoint(net, torch.rand(2, 4), use_reentrant=False).sum().backward()

    assert "call 1" in settled(widget).sheet.content["heading"]
    assert len(widget.trace) == 3


def test_a_thread_that_begins_later_is_followed(page, net):
    widget = page.show(nnmagic.watch(net))

    thread = threading.Thread(target=net, args=[torch.rand(2, 4)])
    thread.start()
    thread.join()

    assert "call 1" in settled(widget).sheet.content["heading"]


def test_an_update_with_the_same_rows_is_one_message_of_numbers(page, net):
    widget = page.show(nnmagic.watch(net))
    net(torch.rand(2, 4))
    settled(widget)
    before = len(page.messages)
    time.sleep(0.11)

    net(torch.rand(2, 4))

    settled(widget)
    assert len(page.messages) == before + 1
    ((message, buffers),) = page.told("values")
    assert "call 2" in message["heading"]
    assert buffers


def test_calls_inside_a_larger_network_are_followed_too(page, net):
    outer = nn.Sequential(nn.ReLU(), net)
    widget = page.show(nnmagic.watch(net))

    outer(torch.rand(1, 4))
    nn.Linear(2, 2)(torch.rand(1, 2))

    trace = settled(widget).trace
    assert [call.layer for call in trace] == ["", "0", "1"]


@pytest.mark.parametrize("where", ["page", "Python"])
def test_a_pause_passes_calls_over(page, net, where):
    def pause(is_paused):
        if where == "page":
            page.ask(widget, ask="pause" if is_paused else "resume")
        else:
            widget.paused = is_paused

    widget = page.show(nnmagic.watch(net))
    net(torch.rand(2, 4))
    settled(widget)

    pause(True)
    net(torch.rand(2, 4))
    assert "call 1" in settled(widget).sheet.content["heading"]
    pause(False)
    time.sleep(0.11)
    net(torch.rand(2, 4))

    assert "call 2" in settled(widget).sheet.content["heading"]


def test_a_failed_call_is_shown_and_the_exception_goes_on(page, net):
    widget = page.show(nnmagic.watch(net))

    with pytest.raises(RuntimeError, match="cannot be multiplied") as caught:
        net(torch.rand(2, 5))

    assert settled(widget).trace.failed.layer == "0"
    assert not hasattr(caught.value, "__notes__")
    net(torch.rand(2, 4))
    assert settled(widget).trace.failed is None


def test_results_gradients_and_modes_are_as_without(page, net):
    x, twin = torch.rand(3, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    twin.load_state_dict(net.state_dict())
    widget = page.show(nnmagic.watch(net))

    net(x).sum().backward()
    twin(x).sum().backward()

    widget.close()
    assert torch.equal(net[0].weight.grad, twin[0].weight.grad)


@pytest.mark.parametrize("way", ["close", "button", "with", "another", "collected"])
def test_nothing_is_left_whatever_ends_it(way, page):
    net = nn.Sequential(nn.Linear(4, 4))
    widget = page.show(nnmagic.watch(net))
    net(torch.rand(1, 4))
    assert not is_torchs_own()

    if way == "close":
        widget.close()
    elif way == "button":
        page.ask(widget, ask="close")
    elif way == "with":
        with widget:
            net(torch.rand(1, 4))
    elif way == "another":
        nnmagic.watch(net).close()
    else:
        del net
        gc.collect()

    assert is_torchs_own()
    assert widget.comm is None
    assert [t for t in threading.enumerate() if isinstance(t, threading.Timer)] == []


@pytest.mark.parametrize("end", ["close", "cell"])
def test_the_last_call_is_shown_though_the_one_before_is_being_shown(page, net, end):
    widget = page.show(nnmagic.watch(net))
    showing, main = threading.Event(), threading.current_thread()

    def show_slowly(change):
        if threading.current_thread() is not main:
            showing.set()
            time.sleep(0.3)

    widget.observe(show_slowly, "trace")
    net(torch.rand(2, 4))
    net(torch.rand(2, 4))  # comes too soon to be shown at once
    assert showing.wait(5)
    y = net(torch.rand(2, 4))

    if end == "close":
        widget.close()
    else:
        widget.update_static()

    assert widget.trace[""].outputs[0].values == y.tolist()
    widget.close()
    assert [t for t in threading.enumerate() if isinstance(t, threading.Timer)] == []


def test_a_watch_that_ends_while_its_timer_begins_ends_quietly(page, net, monkeypatch):
    begins, watched = threading.Event(), page.show(nnmagic.watch(net))

    class SlowTimer(threading.Timer):
        def start(self):
            begins.set()
            time.sleep(0.3)
            super().start()

    monkeypatch.setattr(threading, "Timer", SlowTimer)
    network = threading.Thread(target=lambda: [net(torch.rand(2, 4)) for _ in range(2)])
    network.start()
    assert begins.wait(5)

    watched.close()

    assert [t for t in threading.enumerate() if isinstance(t, threading.Timer)] == []
    assert not watched.live
    network.join()


def test_a_widget_whose_network_is_gone_says_so():
    net = nn.Linear(2, 2)
    widget = nnmagic.watch(net)

    del net
    gc.collect()

    assert widget.closed_because == "the network is gone"


@pytest.mark.slow
def test_a_widget_whose_kernel_has_ended_says_so():
    code = """
import atexit, weakref
weakref.finalize(weakref, int)
atexit.register(lambda: print(widget.closed_because))  # called after what is registered later
atexit.register(lambda: globals().pop("net"))  # as IPython lets go of all variables
import nnmagic, torch
net = torch.nn.Linear(2, 2)
widget = nnmagic.watch(net)
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "its kernel has ended"


def test_two_networks_are_watched_and_ended_in_any_order(page, net):
    other = nn.Sequential(nn.ReLU())
    first, second = nnmagic.watch(net), nnmagic.watch(other)

    first.close()
    other(torch.rand(1, 3))

    assert settled(second).trace[""].output_shape == (1, 3)
    second.close()
    assert is_torchs_own()


def test_many_watchers_leave_nothing(page):
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    nnmagic.watch(net).close()
    gc.collect()
    threads = threading.active_count()
    hooks = [len(module._forward_hooks) for module in net.modules()]
    watchers = []

    for _ in range(200):
        with nnmagic.watch(net) as widget:
            net(torch.rand(1, 4))
            watchers.append(weakref.ref(widget.watcher))
        page.messages.clear()
    del widget
    gc.collect()

    assert is_torchs_own()
    assert threading.active_count() == threads
    assert [len(module._forward_hooks) for module in net.modules()] == hooks
    assert sum(watcher() is not None for watcher in watchers) == 0
    assert NetworkWidget.open_ones() == []


def test_large_tensors_are_measured_by_samples_between_full_measures(page):
    net = nn.Sequential(nn.ReLU())
    widget = page.show(nnmagic.watch(net))

    for _ in range(20):  # where another program holds the cores a call may come too late
        net(torch.rand(300, 300))
        net(torch.rand(300, 300))
        measured = settled(widget).trace["0"].outputs[0].measured
        if measured is not None:
            break

    assert measured == 256
    assert any("samples of 256 values" in note for note in widget.sheet.content["notes"])


def test_a_compiled_network_is_watched_as_it_runs(page, net):
    torch._dynamo.reset()  # other tests may have used up how often Sequential is compiled
    frames = CompileCounter()
    compiled = torch.compile(net, backend=frames)
    x = torch.rand(2, 4)

    with nnmagic.watch(compiled) as widget:
        compiled(x)
        y = compiled(x)
        settled(widget)
        types = [call.type for call in widget.trace]
        notes = widget.sheet.content["notes"]

    assert types == ["OptimizedModule"]
    assert frames.frame_count == 1
    assert torch.equal(y, net(x))
    assert any("compiled" in note for note in notes)


def test_what_is_no_network_is_refused():
    with pytest.raises(TypeError, match="watch takes a network, not int"):
        nnmagic.watch(3)


def test_observers_of_the_trace_are_told_of_each_update(page, net):
    seen = []
    widget = page.show(nnmagic.watch(net))
    widget.observe(lambda change: seen.append(len(change["new"])), "trace")

    net(torch.rand(2, 4))

    settled(widget)
    assert seen == [3]


def test_a_page_that_comes_later_gets_the_latest_numbers(page, net):
    widget = page.show(nnmagic.watch(net))
    for _ in range(2):
        net(torch.rand(2, 4))
    settled(widget)
    page.messages.clear()

    page.ask(widget, ask="latest")

    ((message, _),) = page.told("values")
    assert "call 2" in message["heading"]


def test_a_live_widget_runs_again_and_follows_on(page, net):
    widget = page.show(nnmagic.watch(net))
    assert widget.content["run"]["reason"] == "no call yet"
    net(torch.rand(2, 4))
    assert settled(widget).sheet.content["run"]["sources"] == ["same", "noise", "variable"]

    page.ask(widget, ask="run", on="noise", seed=3)

    noise = torch.rand(2, 4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(widget.trace.output, net(noise))
    assert "call 2" in settled(widget).sheet.content["heading"]
