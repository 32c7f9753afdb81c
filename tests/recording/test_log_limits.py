import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nnmagic
from nnmagic.records.thinning import MOST_ITERATIONS, stride_for

LENGTH = 2500
NONFINITE = (1203, 1777)


@pytest.fixture(scope="module")
def long_run():
    """A long training loop with validation, its trace, and what the loop itself worked out."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    truth = []

    def run(x):
        return net(x)

    with nnmagic.tracing(net, grad=True) as t:
        for i in range(LENGTH):
            net.train()
            x = torch.rand(4, 3)
            if i in NONFINITE:
                x[0, 0] = math.nan
            output = run(x)
            loss = output.square().mean()
            optimizer.zero_grad()
            loss.backward()
            norm = net[0].weight.detach().double().norm().item()
            gradient = net[0].weight.grad.double().norm().item()
            if i not in NONFINITE:
                optimizer.step()
            truth.append((output.mean().item(), loss.item(), norm, gradient))
            if i % 2:
                net.eval()
                with torch.no_grad():
                    run(x)
    return t, truth


def iterations(trace, series):
    history = trace.history(series=True)
    return sorted(set(history[history.series == series].iteration))


@pytest.mark.slow
def test_a_long_run_keeps_its_iterations_evenly(long_run):
    trace, _ = long_run
    numbers = iterations(trace, "Sequential (train)")

    assert len(numbers) <= MOST_ITERATIONS
    assert numbers[0] == 0
    assert numbers[-1] == LENGTH - 1
    assert NONFINITE[0] in numbers
    even = [each for each in numbers if each not in (NONFINITE[0], LENGTH - 1)]
    assert len({b - a for a, b in pairwise(even)}) == 1
    assert len(even) > MOST_ITERATIONS / 4
    assert f"{len(numbers):,} of {LENGTH:,} recorded iterations are kept" in str(trace)


@pytest.mark.slow
def test_validation_is_a_series_of_its_own(long_run):
    trace, _ = long_run

    assert iterations(trace, "Sequential (eval)")[-1] == LENGTH // 2 - 1


@pytest.mark.slow
def test_what_is_kept_is_what_the_loop_worked_out(long_run):
    trace, truth = long_run
    history = trace.history(series=True)
    history = history[history.series == "Sequential (train)"]
    for place, (layer, quantity) in enumerate(
        [("", "mean"), ("", "loss"), ("0", "weight.norm"), ("0", "weight.grad_norm")]
    ):
        rows = history[(history.layer == layer) & (history.quantity == quantity)]
        rows = rows[~rows.iteration.isin(NONFINITE)]
        expected = [truth[each][place] for each in rows.iteration]
        assert len(expected) > MOST_ITERATIONS / 4
        assert rows.value.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.slow
def test_calls_keep_the_numbers_that_they_have_in_the_run(long_run):
    trace, _ = long_run
    frame = trace.to_frame()
    roots = frame[frame.layer == ""]
    trained = roots[roots.step == roots.iteration + roots.iteration // 2]

    assert (roots.call == 3 * roots.step).all()
    assert trace.call(int(trained.call.iloc[-1])).iteration == trained.iteration.iloc[-1]
    with pytest.raises(KeyError, match="no call 3 "):
        trace.call(3)


@pytest.mark.slow
def test_a_thinned_record_survives_a_file(long_run, tmp_path):
    trace, _ = long_run
    trace.save(tmp_path / "t.safetensors")

    loaded = nnmagic.load(tmp_path / "t.safetensors")

    assert loaded == trace
    assert loaded.to_frame().call.tolist() == trace.to_frame().call.tolist()
    assert loaded.history().equals(trace.history())


@pytest.mark.slow
def test_the_last_iteration_keeps_all_its_values(long_run):
    trace, _ = long_run

    assert trace[""].outputs[0].values is not None
    assert next(c for c in trace.calls("0")[::-1] if c.gradient).iteration == LENGTH - 1


@pytest.mark.slow
def test_old_values_of_a_run_with_large_tensors_are_shortened():
    net = nn.Sequential(*(nn.Linear(300, 300) for _ in range(5)))
    with nnmagic.tracing(net) as t:
        for _ in range(1000):
            net(torch.rand(4, 300))

    first, last = (next(iter(t)), t[""])

    assert len(first.outputs[0].spread.flat()) <= 256
    assert last.outputs[0].values is not None
    assert len(last.outputs[0].spread.flat()) > 256
    assert first.mean is not None


def test_a_run_of_a_thousand_iterations_is_kept_whole():
    net = nn.Linear(2, 2)
    with nnmagic.tracing(net, every=2) as t:
        for _ in range(2 * MOST_ITERATIONS):
            F.relu(net(torch.rand(1, 2)))

    assert len(t) == MOST_ITERATIONS
    assert "are kept" not in str(t)


@pytest.mark.parametrize(("recorded", "stride"), [(10, 1), (500, 1), (501, 2), (10**6, 2048)])
def test_the_stride_doubles_until_there_is_room(recorded, stride):
    assert stride_for(recorded, 500) == stride
