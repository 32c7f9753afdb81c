"""`%nnsummary --real`: any expression, evaluated once, with the table of what ran in it."""

import copy

import pytest
import torch
from torch import nn

READING = (
    "class Net(nn.Module):\n"
    "    def __init__(self):\n"
    "        super().__init__()\n"
    "        self.up, self.down = nn.Linear(4, 4), nn.Linear(4, 4)\n"
    "    def forward(self, x):\n"
    "        return self.up(x) if x.sum() > 0 else self.down(x)\n"
    "    def generate(self, x, steps):\n"
    "        for _ in range(steps):\n"
    "            x = self(x)\n"
    "        return x\n"
    "net = Net(); loss_fn = nn.MSELoss(); x = torch.ones(1, 4)"
)


@pytest.fixture
def reading(session):
    session.run(READING)
    return session["net"]


def test_control_flow_that_reads_values_is_followed(session, reading):
    positive = session.run("%nnsummary --real net(x)")
    negative = session.run("%nnsummary --real net(-x)")

    assert [row.layer for row in positive.rows] == ["", "up", "down"]
    assert [row.call for row in positive.rows] == [0, 1, None]
    assert [row.layer for row in negative.rows] == ["", "down", "up"]
    assert positive.heading == "net(x) · real run · 40 parameters"


def test_any_expression_is_evaluated_once_in_the_users_own_mode(session, reading):
    session.run("calls = []\ndef once():\n    calls.append(torch.is_grad_enabled())\n    return x")
    reading.train()

    found = session.run(
        "with torch.no_grad():\n    %nnsummary --real -o s loss_fn(net.generate(once(), 3), x)"
    )

    assert found is None
    assert session["calls"] == [False]
    assert reading.training
    rows = [(row.network, row.layer) for row in session["s"].rows]
    assert len([row for row in rows if row == ("net", "")]) == 3
    assert rows[6] == ("loss_fn", "")


def test_a_network_alone_runs_on_an_input_of_its_own_and_is_put_back(session):
    session.run("net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()).train()")
    before = copy.deepcopy(session["net"].state_dict())
    random_state = torch.get_rng_state()

    found = session.run("%nnsummary --real net")

    assert found.title == "net on torch.rand(1, 4)"
    assert "run for real, and everything put back" in str(found)
    assert session["net"].training
    assert all(torch.equal(before[k], v) for k, v in session["net"].state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_lazy_network_alone_stays_lazy(session):
    session.run("net = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d())")

    found = session.run("%nnsummary --real net")

    expected = session.run("%nnsummary net")
    assert found.total_params == expected.total_params == 4 * 3 * 9 + 4 + 8
    assert [row.own_params for row in found.rows] == [0, 4 * 3 * 9 + 4, 8]
    assert found.total_flops == expected.total_flops
    assert "lazy parameters are counted as this input would make them" in str(found)
    assert [type(layer) for layer in session["net"]] == [nn.LazyConv2d, nn.LazyBatchNorm2d]
    assert all(isinstance(p, nn.UninitializedParameter) for p in session["net"].parameters())
    assert session["net"](torch.rand(2, 7, 5, 5)).shape == (2, 4, 3, 3)


def test_the_default_network_has_the_figures_of_the_run_for_shapes(session):
    found, expected = session.run("%nnsummary --real"), session.run("%nnsummary")

    assert found.rows == expected.rows
    assert found.total_flops == 1_337_344


def test_a_run_that_fails_shows_the_table_and_the_users_own_exception(session, reading):
    with pytest.raises(RuntimeError, match="mat1 and mat2") as caught:
        session.run("%nnsummary --real -o s net.generate(torch.ones(1, 5), 3)")

    (text,) = session.tables
    assert "real run · 40 parameters · failed" in text
    assert "failed: up (Linear) got (1, 5), weight is (4, 4)" in text
    assert [row.failed for row in session["s"].rows] == [True, True, False]
    assert caught.value.__notes__[0].startswith("nnmagic: raised in up (Linear), called at")


def test_an_error_outside_the_layers_shows_what_ran(session, reading):
    with pytest.raises(ZeroDivisionError) as caught:
        session.run("%nnsummary --real net(x) / (1 // 0)")

    (text,) = session.tables
    assert "failed: integer division or modulo by zero" in text
    assert "up" in text
    assert not hasattr(caught.value, "__notes__")


def test_an_interrupt_shows_what_ran_and_goes_on(session, reading):
    session.run("def stop(*args):\n    raise KeyboardInterrupt\nnet.down.forward = stop")

    with pytest.raises(KeyboardInterrupt):
        session.run("%nnsummary --real net(x) + net(-x)")

    assert "failed: down (Linear)" in session.tables[0]


def test_the_memory_of_a_training_step_is_of_the_run_for_shapes(session, reading):
    for option in ("--real", "--engine torchinfo"):
        text = session.refusal(f"%nnsummary {option} --optimizer adam net(x)")
        assert "--optimizer needs the meta device" in text


def test_an_expression_without_layers_is_a_usage_error(session):
    text = session.refusal("%nnsummary --real len('abc')")

    assert text.startswith("%nnsummary: no layer ran in \"len('abc')\" (it gave an int)")
