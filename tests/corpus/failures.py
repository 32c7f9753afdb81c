"""Any failure: what a layer refuses, and what a forward does with an error."""

import dataclasses
from collections import OrderedDict

import torch
from torch import nn

from corpus.case import Net, case, names
from corpus.sequences import attention


@case(
    params=(784 * 20 + 20) + (20 * 10 + 10),
    layers=("Sequential!", "  0 Flatten", "  1 Linear!"),
    input=(1, 20),
    output=None,
    flops=None,
    error=RuntimeError,
    blamed="1 (Linear)",
    why="weight is (20, 784): the last axis must be 784, it is 20",
    never_ran=("2",),
)
def a_linear_layer_of_another_width():
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.Linear(20, 10))
    return names(net=net, x=torch.rand(1, 20))


@case(
    params=8 * 3 * 9 + 8,
    layers=("Sequential!", "  0 Conv2d!"),
    input=(1, 1, 8, 8),
    output=None,
    flops=None,
    error=RuntimeError,
    blamed="0 (Conv2d)",
    why="the channel axis must be 3, it is 1",
)
def a_convolution_of_other_channels():
    return names(net=nn.Sequential(nn.Conv2d(3, 8, 3)), x=torch.rand(1, 1, 8, 8))


@case(
    params=8 * 3 * 9 + 8,
    layers=("Sequential!", "  0 Conv2d!"),
    input=(1, 8, 8, 3),
    output=None,
    flops=None,
    error=RuntimeError,
    blamed="0 (Conv2d)",
    why=".movedim(-1, 1)",
)
def pictures_with_the_channels_last():
    return names(net=nn.Sequential(nn.Conv2d(3, 8, 3)), x=torch.rand(1, 8, 8, 3))


@case(
    params=10 * 4,
    layers=("Sequential!", "  0 Embedding!"),
    input=(1, 2),
    output=None,
    error=IndexError,
    blamed="0 (Embedding)",
    why="got ids 1 … 10, it has rows 0 … 9",
    summary_error=False,
)
def an_id_out_of_range():
    return names(net=nn.Sequential(nn.Embedding(10, 4)), x=torch.tensor([[1, 10]]))


@case(
    params=2 * 3 + 3,
    layers=("Sequential!", "  0 Linear!"),
    input=(4, 2),
    output=None,
    flops=None,
    error=RuntimeError,
    blamed="0 (Linear)",
    why="got float64, its parameters are float32",
)
def an_input_of_another_dtype():
    return names(net=nn.Sequential(nn.Linear(2, 3)), x=torch.rand(4, 2).double())


@case(
    params=8 * 3 * 9 + 8,
    layers=("Sequential!", "  0 Conv2d!"),
    input=(1, 3, 8, 8),
    output=None,
    flops=None,
    error=RuntimeError,
    blamed="0 (Conv2d)",
    why="got uint8, its parameters are float32",
)
def pictures_of_bytes():
    x = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    return names(net=nn.Sequential(nn.Conv2d(3, 8, 3)), x=x)


@case(
    params=3 + 3,
    layers=("Sequential!", "  0 BatchNorm1d!"),
    input=(1, 3),
    output=None,
    flops=None,
    error=ValueError,
    blamed="0 (BatchNorm1d)",
    why="in train mode it needs more than one value a channel",
)
def a_batch_norm_with_one_value():
    return names(net=nn.Sequential(nn.BatchNorm1d(3)), x=torch.rand(1, 3))


@case(
    params=4 * (8 * 8 + 8),
    expression="net(x, x, x, attn_mask=mask)",
    layers=("MultiheadAttention!",),
    never_ran=("out_proj",),
    input=((2, 5, 8), (2, 5, 8), (2, 5, 8), {"attn_mask": (4, 5)}),
    output=None,
    flops=None,
    error=RuntimeError,
    blamed="MultiheadAttention",
)
def an_attention_mask_of_another_shape():
    return attention() | names(mask=torch.zeros(4, 5))


@case(
    params=2 * 3 + 3,
    layers=("Sequential!", "  0 Linear!"),
    expression="net([x, y])",
    input=(((4, 2), (4,)),),
    output=None,
    flops=None,
    error=TypeError,
    blamed="0 (Linear)",
)
def a_list_where_a_tensor_belongs():
    return names(net=nn.Sequential(nn.Linear(2, 3)), x=torch.rand(4, 2), y=torch.zeros(4))


class PickyError(Exception):
    """Wants two arguments."""

    def __init__(self, code, place):
        super().__init__(f"{code} at {place}")
        self.code = code


class SlottedError(Exception):
    """Has slots."""

    __slots__ = ("code",)


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    """Takes no attributes."""

    code: int


class OwnInterrupt(BaseException):
    """Is no Exception."""


ERRORS = {
    "picky": lambda: PickyError(3, "home"),
    "slotted": lambda: SlottedError("slots"),
    "of_a_key": lambda: KeyError("key"),
    "of_unicode": lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
    "frozen": lambda: FrozenError(3),
    "group": lambda: ExceptionGroup("many", [ValueError("a"), KeyError("b")]),
    "keyboard_interrupt": KeyboardInterrupt,
    "stop_iteration": lambda: StopIteration(3),
    "generator_exit": GeneratorExit,
    "base_exception": lambda: OwnInterrupt("stop"),
    "recursion": lambda: RecursionError("too deep"),
    "memory": lambda: MemoryError("no memory"),
    "assertion": AssertionError,
    "empty": lambda: Exception(),
}


def _raising(name, error):
    def make():
        def fail(net, x):
            raise ERRORS[name]()

        net = nn.Sequential(OrderedDict(fc=nn.Linear(2, 3), fail=Net(fail), rest=nn.ReLU()))
        return names(net=net, x=torch.rand(4, 2))

    make.__name__ = f"an_error_{name}"
    return case(
        params=2 * 3 + 3,
        layers=("Sequential!", "  fc Linear", "  fail Net!"),
        input=(4, 2),
        output=None,
        flops=None,
        error=error,
        blamed="fail (Net)",
        never_ran=("rest",),
    )(make)


for _name, _error in ERRORS.items():
    _raising(_name, type(_error()))


@case(
    params=(2 * 3 + 3) + (5 * 3 + 3),
    layers=("Net", "  first Linear!", "  second Linear"),
    input=(4, 5),
    output=(4, 3),
    flops=2 * 4 * 5 * 3,
    said=("FAILED, caught",),
    backward=True,
)
def an_error_that_the_forward_catches():
    def run(net, x):
        try:
            return net.first(x)
        except RuntimeError:
            return net.second(x)

    return names(net=Net(run, first=nn.Linear(2, 3), second=nn.Linear(5, 3)), x=torch.rand(4, 5))


@case(
    params=2 * 3 + 3,
    layers=("Net!", "  fc Linear!"),
    input=(4, 5),
    output=None,
    flops=None,
    error=LookupError,
    blamed="Net",
)
def an_error_that_the_forward_replaces():
    def run(net, x):
        try:
            return net.fc(x)
        except RuntimeError as error:
            raise LookupError("of my own") from error

    return names(net=Net(run, fc=nn.Linear(2, 3)), x=torch.rand(4, 5))


@case(
    params=2 * 3 + 3,
    layers=("Sequential!", "  0 Linear!"),
    input=(4, 2),
    output=None,
    error=ZeroDivisionError,
    blamed="0 (Linear)",
    summary_error=False,
    summary_said=("fails on meta tensors",),
    flops=2 * 4 * 2 * 3,
)
def an_error_in_a_hook():
    net = nn.Sequential(nn.Linear(2, 3))
    net[0].register_forward_hook(lambda module, args, out: 1 / 0)
    return names(net=net, x=torch.rand(4, 2))


@case(
    params=2 * 3 + 3,
    layers=("Linear",),
    expression="net(x).no_such_method()",
    input=(4, 2),
    output=(4, 3),
    error=AttributeError,
    summary="net(x)",
    summary_error=False,
    flops=2 * 4 * 2 * 3,
)
def an_error_after_the_network():
    return names(net=nn.Linear(2, 3), x=torch.rand(4, 2))
