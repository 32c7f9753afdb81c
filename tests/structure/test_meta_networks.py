"""Whole networks on the meta device, with the rules and without."""

import pytest
import torch
import torchvision
from meta_tensors import form, run
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

import nnmagic
from nnmagic.network.naming import Naming
from nnmagic.structure.describe import describe
from nnmagic.structure.meta_cache import MetaCache
from nnmagic.structure.shape_run import MetaRequest


def llama():
    import transformers  # takes seconds

    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = transformers.LlamaConfig(
        **small, num_attention_heads=4, num_key_value_heads=2, vocab_size=50
    )
    return transformers.LlamaForCausalLM(config)


def gpt2():
    import transformers  # takes seconds

    tokens = {"bos_token_id": 0, "eos_token_id": 0}
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50, **tokens)
    return transformers.GPT2LMHeadModel(config)


class Derivative(nn.Module):
    """Differentiates within its forward, twice, as networks for differential equations do."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 1))

    def forward(self, x):
        x = x.requires_grad_()
        slope = x
        y = self.net(x)
        for _ in range(2):
            (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
            y = slope
        return slope


def picture(size):
    return torch.rand(2, 3, size, size)


NETWORKS = {
    "default": (nnmagic.NeuralNetwork, torch.rand(2, 28, 28)),
    "resnet18": (torchvision.models.resnet18, picture(64)),
    "channels last": (
        torchvision.models.resnet18,
        picture(64).to(memory_format=torch.channels_last),
    ),
    "mobilenet_v3_small": (torchvision.models.mobilenet_v3_small, picture(64)),
    "efficientnet_b0": (torchvision.models.efficientnet_b0, picture(64)),
    "densenet121": (torchvision.models.densenet121, picture(64)),
    "shufflenet": (torchvision.models.shufflenet_v2_x0_5, picture(64)),
    "convnext_tiny": (torchvision.models.convnext_tiny, picture(64)),
    "swin_t": (torchvision.models.swin_t, picture(64)),
    "vit": (lambda: torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64), picture(32)),
    "r3d": (torchvision.models.video.r3d_18, torch.rand(1, 3, 4, 32, 32)),
    "encoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2),
        torch.rand(2, 5, 16),
    ),
    "lstm": (lambda: nn.LSTM(3, 4, 2, bidirectional=True), torch.rand(5, 2, 3)),
    "llama": (llama, torch.zeros(2, 7, dtype=torch.int64)),
    "gpt2": (gpt2, torch.zeros(2, 7, dtype=torch.int64)),
    "half": (lambda: torchvision.models.resnet18().half(), picture(64).half()),
    "bfloat16": (lambda: llama().bfloat16(), torch.zeros(2, 7, dtype=torch.int64)),
    "derivative": (Derivative, torch.rand(3, 2)),
}

LARGE = (
    "efficientnet_b0",
    "mobilenet_v3_small",
    "densenet121",
    "convnext_tiny",
    "swin_t",
    "r3d",
    "half",
)


def each_network(names):
    marks = {name: [pytest.mark.slow] * (name in LARGE) for name in names}
    return [pytest.param(name, marks=marks[name]) for name in names]


@pytest.mark.parametrize("name", each_network(NETWORKS))
@pytest.mark.parametrize("train", [True, False])
def test_a_summary_is_the_same_with_and_without_the_rules(name, train):
    make, x = NETWORKS[name]
    net = make().train(train)

    def summary(by_rule):
        with torch.set_grad_enabled(train or name == "derivative"):
            return describe(
                MetaRequest(network=net, args=(x,), naming=Naming(), title=name), by_rule=by_rule
            )

    found = summary(by_rule=True)

    assert found == summary(by_rule=False)
    assert found.total_flops
    assert all(row.output_shape for row in found.rows if row.call is not None)


class Saving(TorchDispatchMode):
    """Takes the operations' results from elsewhere."""

    def __init__(self, kernels):
        super().__init__()
        self.kernels = kernels

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(self.kernels, func, args, kwargs)


@pytest.mark.parametrize(
    "name", each_network(["resnet18", "mobilenet_v3_small", "convnext_tiny", "encoder"])
)
def test_the_graph_for_a_backward_is_the_same_with_and_without_the_rules(name):
    make, x = NETWORKS[name]
    net, x = make().train().to("meta"), x.to("meta")

    def saved(kernels):
        forms = []
        with saved_tensors_hooks(lambda t: forms.append(form(t)) or t, lambda t: t):
            if kernels is None:
                return net(x), forms
            with Saving(kernels):
                return net(x), forms

    found, found_forms = saved(MetaCache())
    expected, expected_forms = saved(None)

    assert found_forms == expected_forms
    assert type(found.grad_fn) is type(expected.grad_fn)
    found.sum().backward()
    assert all(p.grad.shape == p.shape for p in net.parameters())
