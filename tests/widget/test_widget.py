import gc
import weakref

import ipywidgets
import pytest
import torch
import traitlets
from torch import nn

import nnmagic
from nnmagic.widget.row_panels import RowPanels
from nnmagic.widget.widget import MOST_OPEN, NetworkWidget


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU())


def widget_of(page, trace):
    return page.show(NetworkWidget(trace))


def test_a_selected_layer_gets_its_panel(page, net):
    widget = widget_of(page, nnmagic.trace(net, torch.rand(2, 4)))

    page.set(widget, selected="1")

    ((message, buffers),) = page.told("panel")
    assert message["key"] == "1"
    assert message["panel"]["type"] == "ReLU"
    assert len(buffers) == 2


def test_a_selected_key_that_is_no_row_is_answered_that_there_is_nothing(page, net):
    widget = widget_of(page, nnmagic.trace(net, torch.rand(2, 4)))

    page.set(widget, selected="nothing")

    ((message, buffers),) = page.told("panel")
    assert (message["key"], message["panel"], buffers) == ("nothing", None, [])
    assert "not among the rows" in message["lines"][0]


def test_a_panel_that_cannot_be_made_says_why(page, net, monkeypatch):
    def fails(self, subject):
        raise IndexError("no such place")

    widget = widget_of(page, nnmagic.trace(net, torch.rand(2, 4)))
    monkeypatch.setattr(RowPanels, "panel", fails)

    page.set(widget, selected="1")

    ((message, _),) = page.told("panel")
    assert message["panel"] is None
    assert "IndexError: no such place" in message["lines"][0]


def test_a_run_from_the_page_shows_its_trace(page, net):
    widget = widget_of(page, nnmagic.trace(net, torch.rand(2, 4)))

    page.ask(widget, ask="run", on="noise", seed=5)

    noise = torch.rand(2, 4, generator=torch.Generator().manual_seed(5))
    assert torch.equal(widget.trace.output, net(noise))
    assert "seed 5" in widget.content["heading"]


def test_a_refused_run_is_one_line_on_the_page(page, net):
    widget = widget_of(page, nnmagic.trace(net, torch.rand(2, 4)))

    page.ask(widget, ask="run", on="variable", name="no_such_name")

    ((message, _),) = page.told("error")
    assert message["lines"] == [
        "'no_such_name' is no variable; type the name of a tensor in the notebook"
    ]


def test_load_all_sends_the_whole_tensor(page):
    net = nn.Sequential(nn.Linear(100, 100))
    x = torch.rand(30, 100)
    widget = widget_of(page, nnmagic.trace(net, x))
    page.set(widget, selected="0")

    page.ask(widget, ask="all", tensor="output", index=0)

    message, buffers = page.told("panel")[-1]
    picture = message["panel"]["outputs"][0]["picture"]
    assert picture["shape"] == [30, 100]
    sent = torch.frombuffer(bytearray(buffers[picture["buffer"]]), dtype=torch.float32)
    assert torch.equal(sent.view(30, 100), net(x).detach())


def test_the_iteration_that_is_asked_for_is_shown(page, net):
    inputs = [torch.rand(2, 4) for _ in range(3)]
    with nnmagic.tracing(net) as trace:
        for x in inputs:
            net(x)
    widget = widget_of(page, trace)
    assert widget.step == 2

    page.set(widget, step=0)

    assert widget.content["steps"] == {"iterations": [0, 1, 2], "shown": 0}
    assert "iteration 0" in widget.content["heading"]


def test_another_trace_is_shown_when_it_is_assigned(page, net):
    widget = widget_of(page, nnmagic.trace(net, torch.rand(2, 4)))

    widget.trace = nnmagic.trace(net, torch.rand(7, 4))

    shapes = next(c for c in widget.content["columns"] if c["key"] == "shape")
    assert shapes["strings"] == ["(7, 4)"]


@pytest.mark.parametrize("given", [None, nn.ReLU()])
def test_what_is_no_record_is_refused_in_one_line_and_nothing_changes(page, net, given):
    trace = nnmagic.trace(net, torch.rand(2, 4))
    widget = widget_of(page, trace)

    with pytest.raises(traitlets.TraitError) as refused:
        widget.trace = given

    kind = type(given).__name__
    assert str(refused.value) == f"trace takes a record, as nnmagic.trace gives, not {kind}"
    assert widget.trace is trace
    assert widget.content["heading"].startswith("Sequential")
    widget.close()
    widget.show()


def test_traits_can_be_linked(page, net):
    a, b = (widget_of(page, nnmagic.trace(net, torch.rand(2, 4))) for _ in range(2))
    traitlets.link((a, "selected"), (b, "selected"))

    page.set(a, selected="0")

    assert b.selected == "0"
    assert len(page.told("panel")) == 2


def test_an_older_widget_closes_where_there_are_many(page, net):
    trace = nnmagic.trace(net, torch.rand(2, 4))

    widgets = [widget_of(page, trace) for _ in range(MOST_OPEN + 2)]

    assert [widget.comm is None for widget in widgets] == [True] * 2 + [False] * MOST_OPEN
    assert NetworkWidget.open_ones() == widgets[2:]


@pytest.mark.parametrize("is_shown_alone", [False, True])
def test_a_widget_in_a_box_stays_there_when_it_is_closed_and_says_why(page, net, is_shown_alone):
    widget = nnmagic.watch(net)
    if is_shown_alone:
        page.show(widget)
    box = ipywidgets.HBox([widget])
    shown = box.get_state()["children"]
    net(torch.rand(2, 4))

    nnmagic.watch(net)
    page.set(widget, selected="1")
    page.ask(widget, ask="run", on="noise")
    widget.close()

    assert box.get_state()["children"] == shown
    assert widget.content["notes"][-1] == (
        "this widget is closed: another watch of Sequential has replaced it"
    )
    assert "call 1" in widget.content["heading"]
    assert widget.content["run"] is None
    assert not widget.live
    ((message, _),) = page.told("panel")
    assert message["panel"]["type"] == "ReLU"


def test_a_closed_widget_can_be_put_into_a_box(page, net):
    widget = widget_of(page, nnmagic.trace(net, torch.rand(2, 4)))
    widget.close()

    (shown,) = ipywidgets.HBox([widget]).get_state()["children"]

    assert shown == f"IPY_MODEL_{widget.comm.comm_id}"
    assert widget.content["notes"][-1].startswith("this widget is closed: ")


def test_a_closed_widget_is_collected(page, net):
    widget = widget_of(page, nnmagic.trace(net, torch.rand(2, 4)))
    gone = weakref.ref(widget)

    widget.close()
    del widget
    gc.collect()

    assert gone() is None


def test_summaries_and_parameters_have_widgets_too(page, net):
    params = page.show(NetworkWidget(nnmagic.params(net)))
    summary = page.show(NetworkWidget(nnmagic.summary(net)))

    page.set(params, selected="0.weight")
    page.set(summary, selected="0")

    panels = [message["panel"] for message, _ in page.told("panel")]
    assert [panel["title"] for panel in panels] == ["0.weight", "0"]
    assert [params.content["title"], summary.content["title"]] == ["name", "layer"]


def test_a_page_without_widgets_shows_a_few_words(page, net):
    widget = widget_of(page, nnmagic.trace(net, torch.rand(2, 4)))

    assert repr(widget) == "<nnmagic widget: Trace of Sequential: 3 calls>"
