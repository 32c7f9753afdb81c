"""Hooks, and modules that answer attributes, print and call in ways of their own."""

import torch
from torch import nn

from corpus.case import Net, case, names


@case(
    params=2 * 2 + 2,
    layers=("Sequential", "  0 Linear", "  1 ReLU"),
    input=(4, 2),
    output=(4, 2),
    flops=2 * 4 * 2 * 2,
    stats={"0": {"min": 5.0, "max": 5.0, "std": 0.0}, "": {"mean": 5.0}},
    backward=True,
)
def a_hook_that_replaces_the_output():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    net[0].register_forward_hook(lambda module, args, out: out * 0 + 5)
    return names(net=net, x=torch.rand(4, 2))


@case(
    params=2 * 2 + 2,
    layers=("Sequential", "  0 Linear", "  1 ReLU"),
    input=(4, 2),
    output=(1, 2),
    flops=2 * 1 * 2 * 2,
    backward=True,
)
def a_hook_that_replaces_the_input():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    net[0].register_forward_pre_hook(lambda module, args: (args[0][:1] * 2,))
    return names(net=net, x=torch.rand(4, 2))


@case(
    params=2 * 2 + 2,
    layers=("Net", "  fc Linear"),
    expression="net(x, scale=2)",
    input=((4, 2),),
    output=(4, 2),
    stats={"": {"max": 0.0}},
    flops=2 * 4 * 2 * 2,
)
def a_hook_that_replaces_keyword_arguments():
    net = Net(lambda net, x, scale: net.fc(x) * scale, fc=nn.Linear(2, 2))
    net.register_forward_pre_hook(
        lambda module, args, kwargs: (args, kwargs | {"scale": 0}), with_kwargs=True
    )
    return names(net=net, x=torch.rand(4, 2))


@case(
    params=2 * 2 + 2,
    layers=("Sequential", "  0 Linear", "  1 Sigmoid"),
    input=(4, 2),
    output=(4, 2),
    flops=2 * 4 * 2 * 2,
    backward=True,
)
def a_full_backward_hook():
    net = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid())
    net[0].register_full_backward_hook(lambda module, into, out: (into[0] * 2,))
    net[1].register_full_backward_pre_hook(lambda module, out: (out[0] * 3,))
    return names(net=net, x=torch.rand(4, 2).requires_grad_())


class Guarded(nn.Module):
    """A wrapper whose `__getattr__` knows nothing and says so in its own way."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def __getattr__(self, name):
        modules = self.__dict__.get("_modules", {})
        if name in modules:
            return modules[name]
        raise RuntimeError(f"no {name} here")

    def forward(self, x):
        return self.inner(x)


@case(
    params=2 * 3 + 3,
    layers=("Guarded", "  inner Linear"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    backward=True,
)
def a_hostile_getattr():
    return names(net=Guarded(nn.Linear(2, 3)), x=torch.rand(4, 2))


class Unprintable(nn.Linear):
    """Cannot be printed."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def extra_repr(self):
        raise RuntimeError("no extra repr")


@case(
    params=2 * 3 + 3,
    layers=("Sequential", "  0 Unprintable"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    backward=True,
)
def a_repr_that_raises():
    return names(net=nn.Sequential(Unprintable(2, 3)), x=torch.rand(4, 2))


class Announced(nn.Linear):
    """Has a `__call__` of its own that goes on to torch's."""

    def __call__(self, x):
        return super().__call__(x) + 1


class Direct(nn.Linear):
    """Has a `__call__` of its own that never calls torch's."""

    def __call__(self, x):
        return self.forward(x)


@case(
    params=(2 * 3 + 3) + (3 * 2 + 2),
    layers=("Sequential", "  0 Announced", "  1 Linear"),
    input=(4, 2),
    output=(4, 2),
    flops=2 * 4 * (2 * 3 + 3 * 2),
    backward=True,
)
def a_call_that_goes_on_to_torchs():
    return names(net=nn.Sequential(Announced(2, 3), nn.Linear(3, 2)), x=torch.rand(4, 2))


@case(
    params=(2 * 3 + 3) + (3 * 2 + 2),
    layers=("Sequential", "  1 Linear"),
    input=(4, 2),
    output=(4, 2),
    flops=2 * 4 * (2 * 3 + 3 * 2),
    never_ran=("0",),
    backward=True,
)
def a_call_that_never_calls_torchs():
    return names(net=nn.Sequential(Direct(2, 3), nn.Linear(3, 2)), x=torch.rand(4, 2))
