"""A summary says the same whatever ran before it, and whatever a network does in its forward."""

import copy
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from threading import Barrier

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.network.naming import Naming
from nnmagic.structure.describe import describe
from nnmagic.structure.meta_cache import META_CACHE
from nnmagic.structure.shape_run import MetaRequest

pytestmark = pytest.mark.usefixtures("nothing_remembered")


def form_of(tensor):
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad


class Spying(nn.Module):
    """Notes the form of what a layer gives, and in which way it is part of a graph."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.seen = []

    def forward(self, x):
        y = self.layer(x)
        self.seen.append((form_of(y), y.is_leaf, y is x))
        return y


PICTURE = (2, 4, 9, 8)

LAYERS = {
    "Linear": (lambda: nn.Linear(8, 3), PICTURE),
    "Linear, no bias": (lambda: nn.Linear(8, 3, bias=False), PICTURE),
    "Linear, double": (lambda: nn.Linear(8, 3).double(), PICTURE),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding="valid"), (2, 4, 9)),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2), PICTURE),
    "Conv2d, groups": (lambda: nn.Conv2d(4, 8, 3, groups=2, padding="same"), PICTURE),
    "Conv2d, reflecting": (lambda: nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect"), PICTURE),
    "Conv2d, channels last": (
        lambda: nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last),
        PICTURE,
    ),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1), PICTURE),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), PICTURE),
    "BatchNorm2d, plain": (
        lambda: nn.BatchNorm2d(4, affine=False, track_running_stats=False),
        PICTURE,
    ),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), PICTURE),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4), PICTURE),
    "LayerNorm": (lambda: nn.LayerNorm((9, 8)), PICTURE),
    "RMSNorm": (lambda: nn.RMSNorm(8), PICTURE),
    "ReLU": (nn.ReLU, PICTURE),
    "ReLU in place": (lambda: nn.Sequential(nn.Linear(8, 3), nn.ReLU(inplace=True)), PICTURE),
    "GELU": (nn.GELU, PICTURE),
    "Hardswish": (nn.Hardswish, PICTURE),
    "PReLU": (nn.PReLU, PICTURE),
    "GLU": (nn.GLU, PICTURE),
    "Softmax": (lambda: nn.Softmax(1), PICTURE),
    "Dropout": (nn.Dropout, PICTURE),
    "Identity": (nn.Identity, PICTURE),
    "Flatten": (nn.Flatten, PICTURE),
    "Unflatten": (lambda: nn.Unflatten(1, (2, 2)), PICTURE),
    "MaxPool2d": (lambda: nn.MaxPool2d(2, ceil_mode=True), PICTURE),
    "MaxPool2d, indices": (lambda: nn.MaxPool2d(2, return_indices=True), PICTURE),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 1), PICTURE),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((1, None)), PICTURE),
    "Upsample": (lambda: nn.Upsample(scale_factor=(2, 3)), PICTURE),
    "ReflectionPad2d": (lambda: nn.ReflectionPad2d((1, 2, 0, 1)), PICTURE),
    "ZeroPad2d": (lambda: nn.ZeroPad2d(1), PICTURE),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), PICTURE),
    "PixelUnshuffle": (lambda: nn.PixelUnshuffle(1), PICTURE),
    "Unfold": (lambda: nn.Unfold(3), PICTURE),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(2), PICTURE),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_gives_what_torch_gives_in_the_first_and_the_second_summary(kind):
    make, shape = LAYERS[kind]
    plain = torch.rand(shape, dtype=torch.float64 if "double" in kind else torch.float32)
    turned = [plain.to(memory_format=torch.channels_last)] if plain.dim() == 4 else []
    for x, graph, train in product([plain, *turned], [False, True], [False, True]):
        META_CACHE.clear()
        found = []

        for by_rule in (False, True, True):
            net = Spying(make()).train(train) if kind != "MaxPool2d, indices" else make()
            with torch.set_grad_enabled(graph):
                described = describe(
                    MetaRequest(network=net, args=(x,), naming=Naming(), title=""), by_rule=by_rule
                )
            found.append((described, getattr(net, "seen", None)))

        assert found[1] == found[0], (x.stride(), graph, train)
        assert found[2] == found[0], (x.stride(), graph, train)


def test_a_forward_that_the_user_has_replaced_in_the_class_runs(monkeypatch):
    nnmagic.summary(nn.Tanh(), torch.rand(PICTURE))
    monkeypatch.setattr(nn.Tanh, "forward", lambda self, x: x[:1])

    assert nnmagic.summary(nn.Tanh(), torch.rand(PICTURE)).rows[0].output_shape == (1, 4, 9, 8)


def test_an_attribute_that_changes_between_two_calls_is_seen():
    class Dilated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3)

        def forward(self, x):
            for width in (1, 2, 3):
                self.conv.dilation = (width, width)
                x = self.conv(x)
            return x

    found = nnmagic.summary(Dilated(), torch.rand(1, 4, 20, 20))

    assert [row.output_shape[-1] for row in found.rows[1:]] == [18, 14, 8]


def test_operations_count_once_while_others_observe():
    net, x = nn.Sequential(*[nn.Linear(8, 8) for _ in range(3)]), torch.rand(2, 8)
    alone = nnmagic.summary(net, x)

    with nnmagic.tracing(nn.Identity()):
        assert nnmagic.summary(net, x) == alone
    with nnmagic.tracing() as trace:
        assert nnmagic.summary(net, x) == alone
        assert len(trace) == 4
    with ThreadPoolExecutor(3) as pool:
        all_there = Barrier(3)  # who begins during a run is part of it
        list(pool.map(lambda _: all_there.wait(), range(3)))
        nets = [copy.deepcopy(net) for _ in range(12)]
        together = list(pool.map(lambda each: nnmagic.summary(each, x), nets))

    assert [each.total_flops for each in together] == [alone.total_flops] * 12
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (nn.MaxPool2d(2), nn.MaxPool2d(2.0)),
        (nn.PixelShuffle(2), nn.PixelShuffle(2.0)),
        (nn.AdaptiveAvgPool2d((2, 2)), nn.AdaptiveAvgPool2d((2.0, 2))),
    ],
)
def test_a_number_of_another_type_is_another_number(right, wrong):
    nnmagic.summary(right, torch.rand(1, 4, 8, 8))

    with pytest.raises((TypeError, RuntimeError)):
        nnmagic.summary(wrong, torch.rand(1, 4, 8, 8))


def test_functions_that_the_user_has_replaced_are_called(monkeypatch):
    conv, linear = nn.Conv2d(4, 4, 3), nn.Linear(8, 8)
    nnmagic.summary(conv, torch.rand(PICTURE))
    nnmagic.summary(linear, torch.rand(2, 8))
    forward = nn.Conv2d._conv_forward
    padded = partial(nn.functional.pad, pad=(1, 1, 1, 1))
    monkeypatch.setattr(
        nn.Conv2d, "_conv_forward", lambda self, x, *rest: forward(self, padded(x), *rest)
    )

    assert nnmagic.summary(conv, torch.rand(PICTURE)).rows[0].output_shape == PICTURE

    monkeypatch.setattr(nn.functional, "linear", lambda x, *_: x[:1])

    assert nnmagic.summary(linear, torch.rand(2, 8)).rows[0].output_shape == (1, 8)


class Odd:
    """What cannot be compared."""

    def __eq__(self, other):
        raise ValueError("no comparison")

    def __hash__(self):
        return 1


def test_no_code_of_an_attribute_runs_and_none_is_kept():
    layers = nn.Linear(8, 8), nn.Linear(8, 8)
    for layer in layers:
        layer.cache = (Odd(),)
    net = nn.Sequential(*layers)
    layers[0].owner = (net,)
    reference = weakref.ref(net)

    assert len(nnmagic.summary(net, torch.rand(2, 8)).rows) == 3

    del net, layer, layers
    gc.collect()
    assert reference() is None


def test_an_error_in_a_layer_comes_each_time():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(3, 4))

    for _ in range(2):
        with pytest.raises(RuntimeError):
            nnmagic.summary(net, torch.rand(2, 4))


def test_nothing_of_a_network_is_kept_alive():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    nnmagic.summary(net, torch.rand(2, 3))
    references = [weakref.ref(each) for each in (net, net[0], net[0].weight, net[1].running_mean)]

    del net
    gc.collect()

    assert [reference() for reference in references] == [None] * 4
