"""All of torchvision's networks for classification, at a small input."""

import zlib

import pytest
import torch
import torchvision

import nnmagic

FIXED = ("vit", "maxvit")
"""Networks that take pictures of one size only."""

NAMES = torchvision.models.list_models(module=torchvision.models)


def picture(name):
    size = 224 if name.startswith(FIXED) else 96
    return torch.rand(1, 3, size, size)


def checksum(tensor):
    """The sum of the bits as integers, which wraps; a hundredth of the time of a CRC."""
    values = tensor.detach()
    return (values.view(torch.int32) if values.is_floating_point() else values).sum().item()


def state_of(network):
    """Modes, hooks, and every tensor by its identity, version and a checksum of its values."""
    tensors = {
        name: (id(tensor), tensor._version, checksum(tensor))
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    modules = [
        (name, module.training, len(module._forward_hooks), len(module._backward_hooks))
        for name, module in network.named_modules()
    ]
    return tensors, modules, zlib.crc32(torch.get_rng_state().numpy())


OPTIONS = {"googlenet": {"aux_logits": False}}
"""What the published numbers of a network leave out."""


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_torchvisions_has_the_same_bits_and_the_published_numbers(name):
    network = torchvision.models.get_model(name, weights=None, **OPTIONS.get(name, {})).eval()
    weights = torchvision.models.get_model_weights(name)
    published = min(weights, key=lambda each: each.transforms().crop_size)
    size, x = published.transforms().crop_size[0], picture(name)
    with torch.no_grad():
        expected = network(x)
        before = state_of(network)

        trace = nnmagic.trace(network, x)
        summary = nnmagic.summary(network, torch.empty(1, 3, size, size, device="meta"))
        params = nnmagic.params(network)

    assert torch.equal(trace.output, expected)
    assert state_of(network) == before
    assert summary.total_params == params.total == published.meta["num_params"]
    assert summary.total_flops / 2e9 == pytest.approx(published.meta["_ops"], rel=1e-3, abs=1e-3)
