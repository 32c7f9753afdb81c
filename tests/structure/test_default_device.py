"""Layers that run without the default device of a run for shapes."""

import inspect
import sys

import pytest
import torch
from odd_layers import Own, hooked, hooked_before, replaced
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import DeviceContext

import nnmagic
from nnmagic.network.naming import Naming
from nnmagic.structure.default_device import FILES, put_back, set_aside
from nnmagic.structure.describe import describe
from nnmagic.structure.shape_run import MetaRequest


def stack():
    modes = [torch._C._get_function_stack_at(i) for i in range(len_of_stack())]
    return [type(mode) for mode in modes]


def len_of_stack():
    return torch._C._len_torch_function_stack()


def test_a_known_layer_runs_without_the_device_and_gives_it_back():
    with torch.device("meta"):
        device = set_aside(nn.ReLU())

        assert torch.empty(2).device.type == "cpu"
        put_back(device)
        assert torch.empty(2).device.type == "meta"
    assert len_of_stack() == 0


@pytest.mark.parametrize(
    "make", [Own, hooked, hooked_before, replaced, lambda: nn.MultiheadAttention(2, 1), nn.Module]
)
def test_it_stays_where_code_of_the_users_may_run(make):
    with torch.device("meta"):
        assert set_aside(make()) is None
        assert torch.empty(2).device.type == "meta"


def test_it_stays_under_a_hook_of_all_modules():
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        with torch.device("meta"):
            assert set_aside(nn.ReLU()) is None
    finally:
        handle.remove()


def test_a_mode_of_the_users_is_left_alone():
    class Mode(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **kwargs or {})

    with Mode():
        assert set_aside(nn.ReLU()) is None
        with torch.device("meta"):
            assert set_aside(nn.ReLU()) is None
            assert len_of_stack() == 2
    assert len_of_stack() == 0


def test_no_such_layer_makes_a_tensor_without_a_device():
    """What a forward calls in Python is given every tensor, or names the device of a new one."""
    layers = {
        each
        for file in FILES
        for each in vars(sys.modules[file]).values()
        if isinstance(each, type) and each.__module__ == file and issubclass(each, nn.Module)
    }
    assert {nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.Embedding, nn.Softmax} <= layers
    for layer in layers - {nn.MultiheadAttention}:
        source = inspect.getsource(layer.forward)
        assert not any(f"torch.{name}(" in source for name in ("zeros", "ones", "arange", "tensor"))


class Catching(nn.Module):
    """Goes on after an error in a layer, and makes a tensor without a device."""

    def __init__(self):
        super().__init__()
        self.wrong, self.right = nn.Linear(3, 2), nn.Linear(4, 2)

    def forward(self, x):
        try:
            x = self.wrong(x)
        except RuntimeError:
            x = self.right(x)
        return x + torch.ones(2)


def test_it_is_back_after_an_error_in_a_layer():
    found = nnmagic.summary(Catching(), torch.rand(5, 4))

    assert [row.failed for row in found.rows] == [False, True, False]
    assert found.rows[0].output_shape == (5, 2)
    assert len_of_stack() == 0


class Stopping(nn.Linear):
    """Is interrupted."""

    def forward(self, x):
        super().forward(x)
        raise KeyboardInterrupt


def test_nothing_is_left_after_an_interrupt():
    with pytest.raises(KeyboardInterrupt):
        nnmagic.summary(nn.Sequential(nn.ReLU(), Stopping(2, 2)), torch.rand(3, 2))

    assert len_of_stack() == 0


def test_the_sessions_own_default_device_is_what_it_was():
    torch.set_default_device("cpu")
    try:
        found = nnmagic.summary(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.rand(4, 3))

        assert stack() == [DeviceContext]
        assert torch.empty(1).device.type == "cpu"
        assert found.rows[0].output_shape == (4, 2)
    finally:
        torch.set_default_device(None)


def test_a_summary_is_the_same_with_and_without_it():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Hardswish(), nn.GroupNorm(2, 8),
        nn.MaxPool2d(2), nn.ReflectionPad2d(1), nn.Upsample(scale_factor=2), nn.InstanceNorm2d(8),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(8), nn.Dropout(), nn.Linear(8, 5),
        nn.PReLU(), nn.Softmax(1),
    )  # fmt: skip
    x = torch.rand(2, 3, 16, 16)

    def found(by_rule):
        return describe(
            MetaRequest(network=net, args=(x,), naming=Naming(), title=""), by_rule=by_rule
        )

    assert found(by_rule=True) == found(by_rule=False)
