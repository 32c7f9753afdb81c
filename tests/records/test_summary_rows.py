"""The rows of a summary."""

import pickle

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.display.sheet import sheet_of
from nnmagic.records.summary_rows import LayerShape
from nnmagic.widget.panel import PanelMaker


def rows():
    return nnmagic.summary(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.rand(4, 3)).rows


def test_equal_rows_are_equal_and_survive_pickling():
    found = rows()

    assert isinstance(found, tuple)
    assert found == rows()
    assert hash(found) == hash(rows())
    assert found != found[1:]
    assert pickle.loads(pickle.dumps(found)) == found


def test_a_row_names_its_values():
    linear = rows()[1]

    assert isinstance(linear, LayerShape)
    assert (linear.layer, linear.type, linear.depth) == ("0", "Linear", 1)
    assert (linear.input_shape, linear.output_shape) == ((4, 3), (4, 2))
    assert (linear.params, linear.output_bytes, linear.flops) == (3 * 2 + 2, 4 * 2 * 4, 2 * 4 * 6)


def test_a_row_cannot_be_changed():
    with pytest.raises(AttributeError):
        rows()[0].params = 1


class Named(nn.Module):
    """Takes a dictionary of tensors."""

    def forward(self, inputs):
        return inputs


def test_a_row_with_named_tensors_has_a_hash():
    summary = nnmagic.summary(Named(), {"a": torch.rand(2), "b": torch.rand(3)})

    assert summary.rows[0].input_shape == ({"a": (2,), "b": (3,)},)
    assert hash(summary) == hash(nnmagic.summary(Named(), {"a": torch.rand(2), "b": torch.rand(3)}))


class Wordy(nn.Module):
    """Says far too much of itself."""

    def __init__(self, text):
        super().__init__()
        self.text = text

    def extra_repr(self):
        return self.text

    def forward(self, x):
        return x


@pytest.mark.parametrize(
    "text",
    ["a" * 10_000_000, "<b>" * 1_000_000, "µ\u202e" * 1_000_000, "one, two, " * 1_000_000],
    ids=["a word", "tags", "marks", "words"],
)
def test_what_a_layer_says_of_itself_is_whole_in_the_record_and_cut_in_displays(text):
    net = nn.Sequential(*(Wordy(text) for _ in range(3)))

    summary = nnmagic.summary(net, torch.ones(1, 2))

    assert summary.rows[1].config == " ".join(text.split())
    assert summary.to_frame().config[1] == " ".join(text.split())
    sheet = sheet_of(summary.table())
    panel = PanelMaker().layer_panel(summary.rows[1])
    for shown in (str(summary), summary._repr_html_(), str(sheet.content), str(panel)):
        assert len(shown) < 50_000
    length = len(summary.rows[1].config)
    assert f"({length:,}\N{NO-BREAK SPACE}characters)" in summary._repr_html_()


def test_a_trace_and_a_long_expression_are_cut_too(session):
    session.run("net = nn.Linear(2, 2)")
    numbers = ", ".join(["[1., 2.]"] * 10_000)

    for magic in ("%nntrace --static", "%nnsummary"):
        record = session.run(f"{magic} net(torch.tensor([{numbers}]))")

        assert len(record.brief()) > 100_000
        assert len(str(record)) < 20_000
        assert len(record._repr_html_()) < 20_000


def test_what_is_short_enough_is_shown_whole():
    text = ", ".join(f"option_{i}={i}" for i in range(10))

    summary = nnmagic.summary(Wordy(text), torch.ones(1))

    assert text in summary._repr_html_().replace("\N{NO-BREAK SPACE}", " ")
