import types

import pytest
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.fc = nn.Linear(width, 3)

    def forward(self, x):
        return self.fc(x)


class Unready(nn.Module):
    def __init__(self):
        self.scale = 2


@pytest.fixture
def said(session):
    """What the UsageError of a line says."""
    session.shell.user_ns.update(net=Net(), Net=Net, unready=Unready(), x=torch.rand(4, 8))
    session.shell.user_ns.update(trainer=types.SimpleNamespace(model=Net()))
    return session.refusal


@pytest.mark.parametrize(
    ("line", "typed"),
    [
        ("%nnsummary net, (1, 8)", "%nnsummary net --input-size 1,8"),
        ("%nntrace (net, [2, 8])", "%nntrace net --input-size 2,8"),
        ("%nnsummary net, x", "%nnsummary net(x)"),
        ("%nnparams net, (1, 8)", "%nnparams net"),
        ("%nnsummary Net", "%nnsummary Net()"),
        ("%nntrace Net", "%nntrace Net()"),
        ("%nnparams Net", "%nnparams Net()"),
        ("%nntrace y = net(x)", "%nntrace net(x) -o y"),
        ("%nnsummary y = net(x)", "%nnsummary net(x) -o y"),
        ("%nnparams y = net", "%nnparams net -o y"),
        ("%nnparams net.parameters()", "%nnparams net"),
        ("%nnparams net.state_dict", "%nnparams net.state_dict()"),
        ("%nnsummary [net, nn.ReLU()]", "%nnsummary nn.Sequential(*[net, nn.ReLU()])"),
        ("%nntrace trainer", "%nntrace trainer.model"),
    ],
)
def test_what_is_to_be_typed_is_said_and_works(session, said, line, typed):
    expression = typed.partition(" ")[2]

    assert said(line).endswith(f" {expression}")
    assert session.run(f"{typed};" if "-o" in typed else typed) is not None or session["y"]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (
            "%nnsummary nn.Linear",
            "(it gave the class Linear); make a network of it first: nn.",
        ),
        ("%nntrace for _ in range(2): net(x)", "goes into a cell that begins with %%nntrace"),
        ("%nntrace net(x) --depht 2", "unknown option --depht; did you mean --depth?"),
        ("%nntrace net(x", "'(' was never closed"),
        ("%nntrace lambda: net(x)", "(lambda: net(x))()"),
        ("%nnsummary x", "type the call that makes it, such as net(x)"),
        ("%nnparams 3", "type a network or a state dict"),
        *(
            (f"{magic} unready", "Unready lacks super().__init__() in its __init__: add that as")
            for magic in ("%nntrace", "%nnsummary", "%nnparams", "%nnsummary --real")
        ),
    ],
)
def test_a_line_that_cannot_be_followed_says_why(said, line, part):
    assert part in said(line)


def test_a_module_without_a_forward_is_not_told_to_rename_it(said):
    assert "rename" not in said("%nntrace nn.Module()")
