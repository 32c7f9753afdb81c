import pickle
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nnmagic
from nnmagic.display.histogram_glyphs import histogram_glyphs
from nnmagic.display.lines import width_of
from nnmagic.display.sheet import sheet_of
from nnmagic.display.table import State, TensorShape
from nnmagic.display.text import table_text


def lines(trace, width=None):
    return table_text(trace.drawn(text=True), width).splitlines()


def labels(trace, *, text=True):
    return [row.label for row in trace.drawn(text=text).rows]


def test_the_sketch_of_the_default_network_holds_true_numbers():
    trace = nnmagic.trace(nnmagic.default_network(), nnmagic.default_input())
    hidden = nnmagic.default_network().linear_relu_stack[1]
    zeros = trace["linear_relu_stack.1"].zeros

    found = lines(trace)

    assert found[0] == "NeuralNetwork · float32 · cpu · 8 calls"
    assert " ".join(found[1].split()) == "layer type shape mean ± std min … max histogram zeros"
    assert found[5].startswith(
        "    ├─ 0               Linear      (1, 512)  0.016 ± 0.328  -1.003 …"
    )
    assert found[6].rstrip().endswith(f"{zeros:.0%}".replace("%", " %"))
    assert isinstance(hidden, nn.ReLU)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_text_fits_the_width_of_the_window(width):
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 2)
    for record in (
        nnmagic.trace(net.train(), torch.rand(2, 3, 8)),
        nnmagic.summary(net),
        nnmagic.params(net),
    ):
        text = table_text(record.drawn(text=True), width)

        assert all(width_of(line) <= width for line in text.splitlines())
        assert all(line == line.rstrip() for line in text.splitlines())
        assert "\x1b" not in text


def test_nan_is_told_by_who_made_it_and_who_inherited_it():
    class Log(nn.Module):
        def forward(self, x):
            return torch.log(x)

    net = nn.Sequential(nn.Identity(), Log(), nn.Linear(2, 2))

    table = nnmagic.trace(net, torch.tensor([[-2.0, 3.0]])).drawn(text=True)

    flags = dict(zip([row.label for row in table.rows], table.cells("flags"), strict=True))
    assert flags == {
        "Sequential": "2 NaN, made inside",
        "0": "",
        "1": "1 NaN, made here from -2.000 … 3.000",
        "2": "2 NaN, inherited",
    }
    assert [bool(row.state & State.DIMMED) for row in table.rows] == [False, False, False, True]
    assert table.notes[0].startswith(
        "first NaN: Sequential.1 (Log), from finite inputs in [-2.000, 3.000], "
        "in its own code: --ops shows where, called at test_"
    )
    assert "NaN or Inf arose" in table.heading


def flagged(trace):
    table = trace.table()
    return [row.label for row in table.rows if row.state & State.FLAGGED]


def test_an_output_of_zeros_only_is_flagged_in_words():
    trace = nnmagic.trace(nn.ReLU(), -torch.ones(3))

    assert "all zeros" in str(trace)
    assert flagged(trace) == ["ReLU"]


def zero(layer):
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (zero(nn.Linear(3, 2, bias=False)), torch.rand(4, 3)),  # as LoRA begins
        (zero(nn.Conv2d(1, 2, 1)), torch.rand(4, 1, 3, 3)),
        (zero(nn.BatchNorm1d(3)), torch.rand(4, 3)),  # as the last of a residual block begins
        (nn.Embedding(3, 2, padding_idx=0), torch.zeros(4, dtype=torch.int64)),
    ],
)
def test_zeros_that_a_layers_own_weights_make_are_no_alarm(layer, x):
    trace = nnmagic.trace(nn.Sequential(nn.Sequential(layer), nn.Identity(), nn.ReLU()), x)

    assert trace["0.0"].zeros == trace["2"].zeros == 1
    assert "all zeros" not in str(trace)
    assert flagged(trace) == []


def test_only_the_layer_that_makes_zeros_of_numbers_is_flagged():
    trace = nnmagic.trace(nn.Sequential(nn.ReLU(), nn.Identity(), nn.Tanh()), -torch.ones(3))

    assert flagged(trace) == ["0"]


def test_a_dtype_that_differs_from_the_others_is_shown():
    class Choosing(nn.Module):
        def forward(self, x):
            return x.argmax(-1)

    trace = nnmagic.trace(
        nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Tanh(), Choosing()), torch.rand(3, 2)
    )

    table = trace.table()
    shapes = dict(zip([row.label for row in table.rows], table.cells("shape"), strict=True))
    assert shapes["3"] == TensorShape((3,), "int64")
    assert shapes["0"] == TensorShape((3, 2))
    assert "(3,) int64" in str(trace)


class Deep(nn.Module):
    def __init__(self, levels, last):
        super().__init__()
        self.inner = Deep(levels - 1, last) if levels else last

    def forward(self, x):
        return self.inner(x)


def test_text_shows_three_levels_and_says_how_to_see_the_rest():
    trace = nnmagic.trace(Deep(5, nn.Identity()), torch.ones(1))

    assert labels(trace) == ["Deep", "inner", "inner", "inner"]
    assert "3 rows below level 3 not shown; see them with --depth 6" in str(trace)
    assert len(labels(trace.show(depth=6))) == 7
    assert len(labels(trace.show(depth=1))) == 2
    assert len(labels(trace, text=False)) == 7


def test_a_flagged_call_is_shown_however_deep():
    trace = nnmagic.trace(Deep(5, nn.ReLU()), -torch.ones(1))

    assert len(labels(trace)) == 7


def test_layers_can_be_chosen_by_patterns():
    net = nn.Sequential(nn.Sequential(nn.Tanh(), nn.Identity()), nn.Tanh())
    trace = nnmagic.trace(net, torch.ones(2))

    table = trace.show(layers="0.*").drawn(text=True)

    assert [(row.label, bool(row.state & State.DIMMED)) for row in table.rows] == [
        ("Sequential", True),
        ("0", True),
        ("0", False),
        ("1", False),
    ]
    assert "no layer matches x y" in str(trace.show(layers=("x", "y")))


class Looping(nn.Module):
    def __init__(self, times):
        super().__init__()
        self.cell = nn.Sequential(nn.Tanh())
        self.times = times

    def forward(self, x):
        for _ in range(self.times):
            x = self.cell(x)
        return x


def test_a_layer_called_more_than_five_times_is_one_row_with_its_calls_inside():
    few, many = (nnmagic.trace(Looping(times), torch.ones(2)) for times in (5, 6))

    assert labels(few) == ["Looping"] + ["cell", "0"] * 5
    assert labels(many) == ["Looping", "cell × 6"]
    assert labels(many, text=False) == ["Looping", "cell × 6"] + ["cell", "0"] * 6
    assert "the last of 6 calls" in str(many)
    assert len(many.to_frame()) == 13


def test_one_iteration_is_shown_and_their_number_said():
    net = nn.Linear(2, 2)
    with nnmagic.tracing(net) as trace:
        for n in (1, 2, 3):
            net(torch.rand(n, 2))

    assert "iteration 2 of 3" in str(trace)
    assert "(3, 2)" in str(trace)
    assert "(1, 2)" in str(trace.show(step=0))
    assert "Linear has no iteration 9: 0, 1, 2 were recorded, the last is shown" in str(
        trace.show(step=9)
    )


def test_scores_are_read_after_the_layer_that_made_them():
    scores = torch.tensor([[1.0, 3.0, 2.0]])
    for last, value in ((nn.Linear(3, 3), None), (nn.Softmax(1), None), (nn.LogSoftmax(1), None)):
        net = nn.Sequential(nn.Identity(), last)
        out = net(scores)
        chances = {"Softmax": out, "LogSoftmax": out.exp()}.get(type(last).__name__, out.softmax(1))
        best = int(chances.argmax())

        text = str(nnmagic.trace(net, scores))

        assert (
            f"read as class scores: {best} is the largest of 3 ({100 * chances[0, best]:.1f} %"
            in text
        )
        assert value is None


def test_scores_are_not_read_where_they_are_unlikely():
    for net, x in (
        (nn.Sequential(nn.Linear(3, 3), nn.ReLU()), torch.rand(1, 3)),
        (nn.Linear(3, 3), torch.rand(1, 3)),
        (nn.Sequential(nn.Linear(3, 1)), torch.rand(1, 3)),
        (nn.Sequential(nn.Linear(3, 3)), torch.rand(1, 2, 3)),
    ):
        assert "class scores" not in str(nnmagic.trace(net, x))


class RootOfScores(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return torch.sqrt(self.fc(x) ** 2)


def test_what_a_function_makes_of_a_linears_output_is_not_read_as_class_scores():
    assert "class scores" not in str(nnmagic.trace(RootOfScores(), torch.rand(2, 3)))


def test_class_names_stand_on_the_scores():
    net = nn.Sequential(nn.Softmax(1))

    text = str(nnmagic.trace(net, torch.tensor([[0.0, 9.0]])).show(classes=["cat", "dog"]))

    assert "dog is the largest of 2 (100.0 % as it is)" in text
    assert "2 class names for 3 scores" in str(
        nnmagic.trace(net, torch.rand(1, 3)).show(classes=["a", "b"])
    )


def test_scores_of_many_classes_are_kept_whole():
    net, x = nn.Sequential(nn.AdaptiveAvgPool1d(4), nn.Linear(4, 5000)), torch.rand(2, 6000)
    best = net(x).argmax(1).tolist()

    text = str(nnmagic.trace(net, x))

    assert f"item 1 read as class scores: {best[0]} is the largest of 5000" in text


def test_the_fused_encoder_path_is_explained():
    net = nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()

    with torch.no_grad():
        trace = nnmagic.trace(net, torch.rand(1, 3, 8))

    assert len(trace) == 1
    assert "TransformerEncoderLayer ran as one fused operation" in str(trace)


def hostile():
    net = nn.Sequential()
    for name in (
        "<img src=x onerror=alert(1)>",
        "</script>",
        "line\nbreak",
        "\x1b[31mred",
        "层" * 30,
    ):
        net.add_module(name, nn.ReLU())
    return net


def test_hostile_names_do_no_harm():
    trace = nnmagic.trace(hostile(), torch.ones(2))
    html, text = trace._repr_html_(), str(trace)

    assert "<img" not in html
    assert "</script" not in html
    assert "\x1b" not in html + text
    assert "line\\nbreak" in text


def test_the_html_is_small():
    trace = nnmagic.trace(nnmagic.default_network())
    summary = nnmagic.summary(nnmagic.default_network(), nnmagic.default_input())

    for record, rows in ((trace, 8), (summary, 8)):
        size = len(record._repr_html_().encode())
        assert size < 30_000
        assert size / rows < 600


def test_a_large_trace_draws_five_hundred_rows_and_says_so():
    net = nn.Sequential(*[nn.Sequential(nn.Tanh()) for _ in range(1000)])

    trace = nnmagic.trace(net, torch.ones(2))

    assert len(trace.drawn(text=False).rows) == 500
    assert "1,501 of 2,001 rows not shown" in trace._repr_html_()
    assert trace._repr_html_().count("<summary") == 501


def test_flagged_calls_come_before_others_in_a_large_trace():
    net = nn.Sequential(*[nn.Tanh() for _ in range(900)], Deep(3, nn.ReLU()))

    found = labels(nnmagic.trace(net, -torch.ones(1)), text=False)

    assert found[-5:] == ["900", "inner", "inner", "inner", "inner"]


@pytest.mark.slow
def test_a_record_of_twenty_thousand_calls_is_drawn_at_once():
    net = nn.Sequential(*[nn.Sequential(nn.Tanh(), nn.Tanh()) for _ in range(6667)])
    trace = nnmagic.trace(net, torch.ones(2))
    assert len(trace) > 20_000

    begun = time.process_time()
    trace._repr_html_(), str(trace)

    assert (
        time.process_time() - begun < 10
    )  # it takes a tenth of a second; a quadratic way, minutes


def ended(run, error, **options):
    """Return the trace of a block that an exception ends."""
    with pytest.raises(error), nnmagic.tracing(**options) as trace:
        run()
    return trace


def twice(net, x):
    loss = net(x).sum()
    loss.backward()
    loss.backward()


OUTSIDE = {
    "a loss": (
        lambda net, x: F.cross_entropy(net(x), torch.tensor([0, 1, 2, 5])),
        IndexError,
        "F.cross_entropy(net(x), torch.tensor([0, 1, 2, 5]))",
    ),
    "a backward": (twice, RuntimeError, "loss.backward()"),
    "a check between the layers": (lambda net, x: int(net(x) > 0), ValueError, "int(net(x) > 0)"),
    "an index": (lambda net, x: net(x)[7], IndexError, "net(x)[7]"),
    "a name": (lambda net, x: net(x) + forgotten, NameError, "forgotten"),  # noqa: F821
}


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_run_that_failed_outside_the_layers_is_headed_so_with_what_raised(name, grad):
    run, error, code = OUTSIDE[name]
    net = nn.Sequential(nn.Linear(8, 3))

    trace = ended(lambda: run(net, torch.rand(4, 8)), error, grad=grad)

    table = trace.table()
    assert table.heading.startswith("tracing failed outside the layers · 2 calls finished")
    assert (table.noun, table.total) == ("row", None)  # the page counts other things than calls
    assert code in "".join(table.notes)
    assert any(note.startswith(error.__name__) for note in table.notes)
    assert "call .backward() inside" not in str(trace)
    assert trace.failed is None
    assert pickle.loads(pickle.dumps(trace)).table().heading == table.heading


def test_an_interrupt_is_headed_with_the_iterations_that_came_before_it():
    net = nn.Sequential(nn.Linear(8, 3))

    def loop():
        for step in range(30):
            net(torch.rand(4, 8))
            if step == 24:
                raise KeyboardInterrupt

    trace = ended(loop, KeyboardInterrupt)

    assert "interrupted after 25 iterations · 50 calls finished" in trace.table().heading
    assert "KeyboardInterrupt" in trace.table().notes


def test_an_interrupt_in_a_layer_is_headed_with_the_layer():
    class Interrupted(nn.Module):
        def forward(self, x):
            raise KeyboardInterrupt

    trace = ended(lambda: nn.Sequential(Interrupted())(torch.rand(3)), KeyboardInterrupt)

    assert "interrupted in Sequential.0 · 0 calls finished" in trace.table().heading


def test_an_error_that_is_raised_from_a_layers_names_both():
    def run():
        try:
            nn.Linear(8, 3)(torch.rand(4, 7))
        except RuntimeError as error:
            raise ValueError("mine") from error

    trace = ended(run, ValueError)

    assert "failed outside the layers" in trace.table().heading
    (note,) = [each for each in trace.table().notes if each.startswith("ValueError: mine; after")]
    assert "the last axis must be 8, it is 7" in note


def test_a_run_that_went_on_after_an_error_is_not_headed_as_failed():
    with nnmagic.tracing() as trace:
        try:
            nn.Linear(8, 3)(torch.rand(4, 7))
        except RuntimeError:
            nn.Linear(8, 3)(torch.rand(4, 8))

    assert "failed" not in trace.table().heading
    assert "interrupted" not in trace.table().heading


def test_a_row_of_a_loop_has_the_trend_of_its_mean_over_the_iterations():
    net = nn.Sequential(nn.Identity())
    with nnmagic.tracing(net) as loop:
        for i in range(19):
            net(torch.full((2,), float(i)))
    once = nnmagic.trace(net, torch.ones(2))

    (root, layer) = loop.table().cells("trend")

    assert root == layer
    assert layer.counts == (1, 12, 23, 34, 45, 56, 67, 78, 89, 100)
    assert layer.zero is None
    assert "trend" not in {column.key for column in once.table().columns}
    text = table_text(loop.table())
    assert "▁▁▂▃▄▄▅▆▇█" in text
    assert "▁▁▂▃▄▄▅▆▇█" in loop._repr_html_()
    width = max(map(len, text.splitlines()[1:4]))
    assert "no room" not in table_text(loop.table(), width + 1)
    assert " no room for: histogram\n" in table_text(loop.table(), width - 1)


def test_the_trend_of_what_stays_the_same_is_half_as_high_in_all_iterations():
    net = nn.Identity()
    with nnmagic.tracing(net) as loop:
        for _ in range(12):
            net(torch.full((2,), 0.3))

    (layer,) = loop.table().cells("trend")

    assert histogram_glyphs(layer).strip() == 10 * "▄"
    assert {*sheet_of(loop.table()).content["columns"][-2]["values"]} == {128}


def test_the_ends_of_integers_and_truth_values_are_whole_numbers():
    class Largest(nn.Module):
        def forward(self, x):
            return x.argmax(-1)

    class Mask(nn.Module):
        def forward(self, x):
            return x > 0

    x = torch.arange(6000.0).reshape(2, 3000)
    trace = nnmagic.trace(nn.Sequential(Largest(), Mask()), x)

    _, largest, mask = trace.table().cells("range")

    assert largest == (2999, 2999)
    assert mask == (1, 1)
    assert "2,999 … 2,999" in str(trace)
    assert "1 …     1" in str(trace)
    texts = next(
        c["texts"] for c in sheet_of(trace.table()).content["columns"] if c["key"] == "range"
    )
    assert texts["1"] == "2,999 … 2,999"
