"""Convolutions, embeddings, and weights that are parametrized, pruned or quantized."""

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from corpus.case import UNKNOWN, Net, case, names


@case(
    params=4 * 2 * 9 + 4 + 4 + 4,
    layers=("Sequential", "  0 Conv2d", "  1 BatchNorm2d", "  2 ReLU", "  3 MaxPool2d"),
    input=(2, 4, 8, 8),
    output=(2, 4, 4, 4),
    flops=2 * 2 * (8 * 8) * 4 * 2 * 9,
    backward=True,
    said=("3 batch-norm statistics",),
)
def a_grouped_convolution_with_batch_norm():
    net = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )
    return names(net=net, x=torch.rand(2, 4, 8, 8))


@case(
    params=4 * 2 * 9 + 4 + 4 + 4,
    layers=("Sequential", "  0 Conv2d", "  1 BatchNorm2d"),
    input=(2, 4, 8, 8),
    output=(2, 4, 6, 6),
    flops=2 * 2 * (6 * 6) * 4 * 2 * 9,
    said=("network unchanged",),
    backward=True,
)
def a_frozen_batch_norm_in_a_network_that_trains():
    net = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4))
    net[1].eval()
    return names(net=net, x=torch.rand(2, 4, 8, 8))


@case(
    params=3 * 4 * 2 * 2 + 4,
    layers=("ConvTranspose2d",),
    input=(1, 3, 5, 5),
    output=(1, 4, 10, 10),
    flops=2 * (5 * 5) * 3 * 4 * (2 * 2),
    backward=True,
)
def a_transposed_convolution():
    return names(net=nn.ConvTranspose2d(3, 4, 2, stride=2), x=torch.rand(1, 3, 5, 5))


@case(
    params=6 * 3,
    layers=("EmbeddingBag",),
    expression="net(ids, offsets)",
    input=((4,), (2,)),
    output=(2, 3),
    backward=True,
)
def a_bag_of_embeddings():
    return names(
        net=nn.EmbeddingBag(6, 3), ids=torch.tensor([1, 2, 4, 5]), offsets=torch.tensor([0, 2])
    )


@case(
    params=4 * 2 * 3 + 4,
    layers=("Bilinear",),
    expression="net(x, y)",
    input=((5, 2), (5, 3)),
    output=(5, 4),
    flops=None,
    backward=True,
)
def a_bilinear_layer():
    return names(net=nn.Bilinear(2, 3, 4), x=torch.rand(5, 2), y=torch.rand(5, 3))


@case(
    params=3 * 3 + 3,
    layers=("Net", "  fc Linear"),
    input=(3, 3),
    output=(3, 3),
    flops=UNKNOWN,
    summary_said=("FLOPs unknown of: ", "linalg_inv"),
    backward=True,
)
def an_operation_without_a_formula():
    net = Net(lambda net, x: torch.linalg.inv(net.fc(x)), fc=nn.Linear(3, 3))
    return names(net=net, x=torch.rand(3, 3))


@case(
    params=3 + 3 * 2 + 3,
    layers=(
        "ParametrizedLinear",
        "  parametrizations.weight ParametrizationList",
        "    parametrizations.weight.0 _WeightNorm",
    ),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    backward=True,
)
def a_parametrized_weight():
    return names(net=parametrizations.weight_norm(nn.Linear(2, 3)), x=torch.rand(4, 2))


class Symmetric(nn.Module):
    """Makes a matrix symmetric."""

    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)


@case(
    params=3 * 3 + 3,
    layers=(
        "ParametrizedLinear",
        "  parametrizations.weight ParametrizationList",
        "    parametrizations.weight.0 Symmetric",
    ),
    input=(4, 3),
    output=(4, 3),
    flops=2 * 4 * 3 * 3,
    backward=True,
)
def a_parametrization_of_the_users():
    net = nn.Linear(3, 3)
    parametrize.register_parametrization(net, "weight", Symmetric())
    return names(net=net, x=torch.rand(4, 3))


@case(
    params=4 * 3 + 3,
    layers=("Linear",),
    input=(5, 4),
    output=(5, 3),
    flops=2 * 5 * 4 * 3,
    backward=True,
)
def a_pruned_weight():
    net = nn.Linear(4, 3)
    prune.l1_unstructured(net, "weight", amount=0.5)
    return names(net=net, x=torch.rand(5, 4))


@case(
    params=4 * 3 + 3 + 3,
    layers=("Linear",),
    input=(5, 4),
    output=(5, 3),
    flops=2 * 5 * 4 * 3,
    backward=True,
)
def an_old_weight_norm():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.utils.weight_norm(nn.Linear(4, 3))
    return names(net=net, x=torch.rand(5, 4))


@case(
    params=0,
    layers=("Sequential", "  0 Linear", "  1 ReLU"),
    input=(5, 4),
    output=(5, 3),
    flops=2 * 5 * 4 * 3,
    never_ran=("0._packed_params",),
    context=torch.no_grad,
)
def dynamically_quantized_weights():
    import warnings

    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
    return names(net=net, x=torch.rand(5, 4))
