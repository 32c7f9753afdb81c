import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nnmagic


def run(log, *, every=1, grad=True, count=6):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    losses = []
    with nnmagic.tracing(net, every=every, grad=grad, log=log) as t:
        for _ in range(count):
            net.train()
            optimizer.zero_grad()
            loss = F.mse_loss(net(torch.rand(5, 4)), torch.zeros(5, 3))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            net.eval()
            with torch.no_grad():
                net(torch.rand(2, 4))
    return t, losses


def test_each_recorded_iteration_is_logged_once_with_its_number():
    logged = []
    t, losses = run(lambda numbers, step: logged.append((step, numbers)), every=2)

    assert [step for step, _ in logged] == [0, 2, 4]
    assert [numbers["loss"] for _, numbers in logged] == pytest.approx(losses[::2])
    history = t.history(series=True)
    training = history[history.series.str.contains("train")]
    for step, numbers in logged:
        rows = training[(training.iteration == step) & training.value.notna()]
        names = rows.layer + rows.layer.map(lambda name: "/" if name else "") + rows.quantity
        expected = dict(zip(names, rows.value, strict=True))
        assert {name: numbers[name] for name in expected} == expected
        assert {type(value) for value in numbers.values()} == {float}
        assert any(name.startswith("Sequential at ") for name in numbers)


def test_a_logger_that_fails_ends_the_logging_and_not_the_training():
    def fail(numbers, step):
        raise OSError("disk full")

    with pytest.warns(UserWarning, match="disk full"):
        t, losses = run(fail)

    assert len(losses) == 6
    assert any("not logged from iteration 0 on" in note for note in t.log.notes)
