"""Networks, and faults planted in one layer of a copy of them: where two runs should part."""

import copy
import random

import timm
import torch
import torchvision
import transformers
from torch import nn


def _images(size=64, batch=2):
    return (torch.rand(batch, 3, size, size),), {}


def _ids(length=12, batch=2):
    return (), {"input_ids": torch.randint(0, 90, (batch, length))}


def _hugging(kind, config, **options):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 99}
    config = getattr(transformers, config)(**{**sizes, "pad_token_id": 0} | options)
    return getattr(transformers, kind)(config)


def _gpt2():
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=99)
    return transformers.GPT2LMHeadModel(config)


NETWORKS = {
    "resnet18": (torchvision.models.resnet18, _images),
    "mobilenet_v3_small": (torchvision.models.mobilenet_v3_small, _images),
    "vision transformer": (
        lambda: torchvision.models.VisionTransformer(32, 8, 3, 4, 48, 96, num_classes=10),
        lambda: _images(32),
    ),
    "densenet": (lambda: torchvision.models.DenseNet(8, (2, 2, 2), 16, num_classes=10), _images),
    "regnet": (
        lambda: torchvision.models.RegNet(
            torchvision.models.regnet.BlockParams([1, 2], [16, 32], [8, 8], [1.0, 1.0], [2, 2]),
            num_classes=10,
        ),
        _images,
    ),
    "convnext": (
        lambda: timm.create_model("convnext_atto", depths=(1, 1, 2, 1), dims=(16, 24, 32, 48)),
        _images,
    ),
    "vit of timm": (
        lambda: timm.create_model(
            "vit_tiny_patch16_224", img_size=64, depth=3, embed_dim=48, num_heads=3
        ),
        _images,
    ),
    "mixer": (
        lambda: timm.models.mlp_mixer.MlpMixer(
            num_classes=10, img_size=64, patch_size=16, num_blocks=3, embed_dim=48
        ),
        _images,
    ),
    "gpt2": (_gpt2, _ids),
    "bert": (lambda: _hugging("BertModel", "BertConfig", intermediate_size=64), _ids),
    "llama": (
        lambda: _hugging(
            "LlamaForCausalLM", "LlamaConfig", intermediate_size=64, num_key_value_heads=2
        ),
        _ids,
    ),
}

ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh, timm.layers.GELU)


def made(name, seed=0):
    """Return a network in eval mode, and the arguments of a call of it."""
    torch.manual_seed(seed)
    build, arguments = NETWORKS[name]
    net = build().eval()
    with torch.no_grad():
        for each in net.modules():  # what was trained is no identity
            if isinstance(each, nn.BatchNorm2d):
                each.running_mean.normal_(0, 0.1)
                each.running_var.uniform_(0.5, 2)
            if isinstance(each, nn.Linear) and not each.weight.any():
                each.weight.normal_(0, 0.02)
    return net, *arguments()


def _weighted(net):
    return [
        name
        for name, each in net.named_modules()
        if type(each) in (nn.Linear, nn.Conv2d) or type(each).__name__ == "Conv1D"
    ]


def changed_weight(net, rng):
    """Change a tenth of a layer's weights by as much as they are large."""
    name = rng.choice(_weighted(net))
    weight = net.get_submodule(name).weight
    with torch.no_grad():
        weight += weight.std() * (torch.rand_like(weight) < 0.1) * torch.randn_like(weight)
    return name


def other_dtype(net, rng, dtype=torch.bfloat16):
    """Round the weights of one layer to a narrower dtype."""
    name = rng.choice(_weighted(net))
    layer = net.get_submodule(name)
    layer.weight.data = layer.weight.data.to(dtype).to(layer.weight.dtype)
    return name


def swapped_activation(net, rng):
    """Put another activation in the place of one."""
    names = [
        name
        for name, each in net.named_modules()
        if "activation" in type(each).__name__.lower() or isinstance(each, ACTIVATIONS)
    ]
    name = rng.choice(names)
    other = nn.LeakyReLU(0.3) if rng.random() < 0.5 else nn.Softplus()
    net.set_submodule(name, other)
    return name


def transposed_reshape(net, rng):
    """Read what a layer returns in another order of its last axes."""
    name = rng.choice(_weighted(net))
    layer = net.get_submodule(name)
    forward = layer.forward

    def turned(x):
        y = forward(x)
        return y.transpose(-1, -2).reshape(y.shape) if min(y.shape[-2:]) > 1 else y.flip(1)

    layer.forward = turned
    return name


RESIDUAL = {
    "BasicBlock": lambda block: block.downsample is None,
    "InvertedResidual": lambda block: block.use_res_connect,
    "EncoderBlock": bool,
    "ConvNeXtBlock": lambda block: isinstance(block.shortcut, nn.Identity),
    "Block": bool,
    "MixerBlock": bool,
    "GPT2Block": bool,
    "BertOutput": bool,
    "ResBottleneckBlock": lambda block: block.proj is None,
    "LlamaDecoderLayer": bool,
}
"""Blocks by their class, each with what tells whether it adds its input to its output."""


def missing_residual(net, rng):
    """Take the input of a block with a residual from its output."""
    names = [
        name
        for name, each in net.named_modules()
        if RESIDUAL.get(type(each).__name__, lambda block: False)(each)
    ]
    name = rng.choice(names)
    block = net.get_submodule(name)
    forward = block.forward

    def without(x, *args, **kwargs):
        if type(block).__name__ == "BertOutput":  # it normalises what it has added
            return forward(x, torch.zeros_like(args[0]))
        y = forward(x, *args, **kwargs)
        return (y[0] - x, *y[1:]) if isinstance(y, tuple) else y - x

    block.forward = without
    return name


def other_eps(net, rng, eps=0.03):
    """Give a normalisation another eps."""
    names = [
        name
        for name, each in net.named_modules()
        if hasattr(each, "eps") or hasattr(each, "variance_epsilon")
    ]
    name = rng.choice(names)
    layer = net.get_submodule(name)
    attribute = "eps" if hasattr(layer, "eps") else "variance_epsilon"
    setattr(layer, attribute, eps)
    return name


FAULTS = {
    each.__name__: each
    for each in (
        changed_weight,
        other_dtype,
        swapped_activation,
        transposed_reshape,
        missing_residual,
        other_eps,
    )
}


IN_BFLOAT16 = {
    "other_dtype": {"dtype": torch.float8_e4m3fn},
    "other_eps": {"eps": 1.0},
}
"""How large the faults must be to be larger than what bfloat16 rounds."""


def planted(name, fault, seed, **options):
    """Return a network, the arguments of its call, a copy with the fault, and the fault's layer."""
    net, args, kwargs = made(name, seed)
    wrong = copy.deepcopy(net)
    layer = FAULTS[fault](wrong, random.Random(seed), **options)
    return net, args, kwargs, wrong, layer


def own_error(net, args, kwargs, wrong, layer):
    """Return how far the faulty layer's output lies from the other's, on the same input."""
    got, returned = [], []
    module = net.get_submodule(layer)
    handles = (
        module.register_forward_pre_hook(
            lambda module, *call: got.append(copy.deepcopy(call)), with_kwargs=True
        ),
        module.register_forward_hook(
            lambda module, args, output: returned.append(copy.deepcopy(output))
        ),
    )
    net(*args, **kwargs)
    for handle in handles:
        handle.remove()
    (args, kwargs), output = got[0], returned[0]
    other = wrong.get_submodule(layer)(*args, **kwargs)
    first = [each[0] if isinstance(each, tuple) else each for each in (output, other)]
    return float((first[0] - first[1]).norm() / first[1].norm())
