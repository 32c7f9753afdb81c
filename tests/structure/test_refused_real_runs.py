"""What is not run for real unasked: what is heavy, has no values, or is wrong anyway."""

import pytest
import torch
from IPython.core.error import UsageError
from one_linear import linear
from torch import nn

import nnmagic
from nnmagic.structure.describe import ValuesNeededError

WRONG = {
    "a width": lambda net, x: net.fc(x[:, :7]),
    "a width after values": lambda net, x: net.fc(x[:, :7]) if x.sum() > 0 else x,
    "a name": lambda net, x: undefined,  # noqa: F821
    "an assertion of values": lambda net, x: (_ for _ in ()).throw(AssertionError(x.sum().item())),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_network_fails_as_its_own_run_does(name, session):
    net, x = linear(WRONG[name]), torch.ones(4, 8)
    session.shell.user_ns.update(net=net, x=x)
    with pytest.raises(Exception) as own:  # noqa: PT011 - of any type
        net(x)
    with pytest.raises(type(own.value)) as traced:
        session.run("%nntrace net(x)")
    session.displayed.clear()

    with pytest.raises(type(own.value)) as caught:
        session.run("%nnsummary net(x)")

    assert str(caught.value) == str(own.value)
    assert caught.value.__notes__ == [
        note.replace(", called at “net(x)”", "") for note in traced.value.__notes__
    ]
    assert caught.value.__context__ is None
    (shown,) = session.displayed
    assert "FAILED" in shown["text/plain"]


def reading(net, x):
    return net.fc(x) * x.max().item()


def heavy(run):
    net = linear(run)
    net.table = nn.Parameter(torch.empty((1 << 28) + 1))  # a byte or four above 1 GiB, untouched
    return net


REFUSED = {
    "heavy": (lambda: heavy(reading), torch.ones(4, 8), "it is heavy, 1.00 GiB"),
    "on meta": (lambda: linear(reading).to("meta"), torch.ones(4, 8), "on meta"),
    "an argument on meta": (
        lambda: linear(reading),
        torch.ones(4, 8, device="meta"),
        "an argument is on meta",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_real_run_that_would_be_heavy_or_has_no_values_is_refused(name, session):
    make, x, why = REFUSED[name]
    session.shell.user_ns.update(net=make(), x=x)

    with pytest.raises(ValuesNeededError, match=why):
        nnmagic.summary(session["net"], x)
    with pytest.raises(UsageError) as caught:
        session.run("%nnsummary net(x)")

    assert "x.max().item()" in str(caught.value)
    assert why in str(caught.value)
    assert str(caught.value).endswith("type --real to run it for real")
    assert "\n" not in str(caught.value)


def test_a_heavy_network_is_run_for_real_where_that_is_asked_for(session):
    session.shell.user_ns.update(net=heavy(reading), x=torch.ones(4, 8))

    summary = session.run("%nnsummary --real net(x)")

    assert summary.rows[0].output_shape == (4, 3)


@pytest.mark.parametrize("make", [heavy, lambda run: linear(run).to("meta")])
def test_a_network_that_is_wrong_and_not_run_fails_on_meta(make, session):
    session.shell.user_ns.update(net=make(WRONG["a width"]), x=torch.ones(4, 8))

    with pytest.raises(RuntimeError, match="4, 7") as caught:
        session.run("%nnsummary net(x)")

    assert caught.value.__notes__[0].startswith("nnmagic: raised on the meta device in fc (Linear)")


def test_what_is_wrong_is_not_said_to_need_values(session):
    session.shell.user_ns.update(net=linear(WRONG["a width"]), x=torch.ones(4, 8))

    with pytest.raises(RuntimeError):
        session.run("%nnsummary net(x)")

    (shown,) = session.displayed
    assert "real tensors" not in shown["text/plain"]


def test_a_heavy_network_alone_is_refused_for_its_size():
    net = linear(lambda net, x: net.fc(x) if x.sum().item() > 0 else x)
    net.register_buffer("large", torch.empty((1 << 28) + 1))

    with pytest.raises(ValuesNeededError, match="heavy"):
        nnmagic.summary(net)
