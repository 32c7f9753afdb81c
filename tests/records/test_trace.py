import inspect
import pickle

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.records.call_log import TraceLog


def test_the_frame_has_the_promised_columns_in_execution_order(doubling):
    frame = nnmagic.trace(doubling, torch.rand(2, 4)).to_frame()

    expected = (
        "network iteration step call layer type depth input_shape output_shape dtype "
        "device min max mean std zeros nan inf failed recomputed sources"
    )
    assert list(frame.columns) == expected.split()
    assert frame.call.tolist() == [0, 1, 2, 3]
    assert frame.dtype.tolist() == ["float32"] * 4
    assert frame.device.tolist() == ["cpu"] * 4


def test_the_statistics_are_of_the_first_floating_output():
    class Sorting(nn.Module):
        def forward(self, x):
            return torch.arange(3), x, x + 1

    call = nnmagic.trace(Sorting(), torch.tensor([1.0, 3.0]))[""]

    assert (call.dtype, call.mean) == ("float32", 2.0)
    assert [output.dtype for output in call.outputs] == ["int64", "float32", "float32"]
    assert call.outputs[2].mean == 3.0


def test_a_call_without_a_tensor_has_no_shape_and_no_numbers():
    class Silent(nn.Module):
        def forward(self, text):
            return len(text)

    call = nnmagic.trace(Silent(), "abc")[""]

    assert (call.input_shape, call.output_shape, call.mean, call.dtype) == (None, None, None, None)
    assert (call.inputs, call.outputs) == ((), ())


def test_a_layer_is_found_by_its_name_or_the_error_lists_what_there_is():
    with nnmagic.tracing() as trace:
        nn.Sequential(nn.ReLU())(torch.ones(1))
        nn.Sequential(nn.Tanh())(torch.ones(1))

    assert trace["Sequential#2:0"].type == "Tanh"
    with pytest.raises(KeyError, match="several networks have '0': Sequential:0, Sequential#2:0"):
        trace["0"]
    with pytest.raises(
        KeyError, match="no layer named '7' ran; there are Sequential:, Sequential:0"
    ):
        trace.calls("7")


class Log(nn.Module):
    def forward(self, x):
        return torch.log(x)


def test_the_first_call_to_make_nan_is_found_below_its_parents():
    net = nn.Sequential(nn.Sequential(nn.Identity(), Log()), nn.Linear(2, 2))

    trace = nnmagic.trace(net, torch.tensor([[-1.0, 1.0]]))

    assert trace.first_nonfinite.layer == "0.1"


def test_inf_made_before_nan_comes_first():
    trace = nnmagic.trace(nn.Sequential(Log(), Log()), torch.tensor([0.0]))

    assert (trace.first_nonfinite.layer, trace.first_nonfinite.inf) == ("0", 1)


def test_nan_that_was_there_before_is_nobodys():
    trace = nnmagic.trace(nn.Sequential(nn.ReLU(), Log()), torch.tensor([float("nan"), 1.0]))

    assert trace.first_nonfinite is None


def test_minus_infinity_in_a_mask_makes_no_input_bad():
    class Masked(nn.Module):
        def forward(self, x, mask):
            return x / 0 + mask

    mask = torch.tensor([0.0, float("-inf")])

    trace = nnmagic.trace(Masked(), torch.ones(2), mask)

    assert trace.first_nonfinite.layer == ""


def test_history_is_tidy():
    net = nn.Linear(2, 2)
    with nnmagic.tracing(net) as trace:
        net(torch.ones(1, 2))
        net(torch.ones(1, 2))

    history = trace.history()

    assert [*history.columns] == ["network", "iteration", "step", "layer", "quantity", "value"]
    assert set(history.quantity) == {"mean", "std", "min", "max", "zeros", "nan", "inf"}
    means = history[history.quantity == "mean"]
    assert means.step.tolist() == [0, 1]
    assert means.iteration.tolist() == [0, 0]  # each line is a place of its own
    assert means.value.tolist() == pytest.approx([trace[""].mean] * 2)


def test_a_call_is_a_value(doubling):
    trace = nnmagic.trace(doubling, torch.rand(2, 4))

    call = trace["shared"]

    assert call == trace["shared"]
    assert hash(call) == hash(trace["shared"])
    assert pickle.loads(pickle.dumps(call)) == call


def test_an_empty_log_is_equal_to_another():
    assert TraceLog("a") == TraceLog("a")
    assert TraceLog("a") != TraceLog("b")


@pytest.mark.slow
def test_a_call_costs_a_bounded_number_of_bytes():
    layers = [nn.Sequential(*[nn.ReLU() for _ in range(n)]) for n in (10, 60)]
    inputs = torch.rand(1000, 2000), torch.rand(4000, 2000)

    sizes = [[len(pickle.dumps(nnmagic.trace(net, x))) for net in layers] for x in inputs]

    for few, many in sizes:
        assert (many - few) / 50 < 80_000
        assert few < 9_500_000  # with the picture of what the network got and of what it returned


def test_a_call_of_an_earlier_iteration_costs_few_bytes():
    net, x = nn.Sequential(nn.Tanh(), nn.Tanh()), torch.rand(4, 50, 100)

    def size(iterations):
        with nnmagic.tracing(net) as trace:
            for _ in range(iterations):
                net(x)
        return len(pickle.dumps(trace))

    assert (size(202) - size(2)) / 200 / 3 < 6000


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in (torch.float64, torch.bfloat16, torch.complex64)
        ),
    ],
)
def test_all_pictures_of_a_trace_take_at_most_32_mib(dtype):
    with nnmagic.tracing() as trace:
        for i in range(20):  # each a network of its own, whose last iteration is drawn
            net = nn.Sequential(*[Shift(i) for _ in range(80)])
            net(torch.rand(40, 500).to(dtype))

    records = [trace.log.tensors.record(i) for i in range(len(trace.log.tensors))]
    drawn = [len(each.picture.sample.data) for each in records if each.picture is not None]
    assert len(drawn) >= 300
    assert 20 << 20 < sum(drawn) <= 32 << 20


class Shift(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return x + self.by


def test_a_call_knows_the_line_that_made_it():
    net = nnmagic.NeuralNetwork()

    trace = nnmagic.trace(net, torch.rand(1, 28, 28))

    source, first = inspect.getsourcelines(nnmagic.NeuralNetwork.forward)
    line = first + next(i for i, text in enumerate(source) if "self.flatten(images)" in text)
    assert trace["linear_relu_stack.1"].place == f"tutorial.py:{line}"


def test_only_the_last_step_has_pictures():
    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU())

    with nnmagic.tracing(net) as trace:
        for _ in range(2):
            net(torch.rand(2, 3, 40, 40))

    first, last = trace.calls("0")
    assert first.outputs[0].picture is None
    assert last.outputs[0].picture.sample.shape == (1, 16, 19, 19)
    assert last.outputs[0].picture.steps == (1, 1, 2, 2)
