"""The values of a run: those that plain hooks see, measured anew where they were written to."""

import pytest
import torch
import torchvision
from torch import nn

import nnmagic


def test_an_in_place_layer_does_not_rewrite_the_layer_before():
    net = torchvision.models.resnet18().eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = net.bn1(net.conv1(x))

        found = nnmagic.trace(net, x)

    assert found["bn1"].min == expected.min().item() < 0
    assert found["relu"].min == 0


def test_values_and_statistics_equal_those_of_plain_hooks():
    net = nnmagic.NeuralNetwork().eval()
    x = torch.rand(3, 28, 28)
    outputs = {}
    handles = [
        module.register_forward_hook(lambda m, a, out, name=name: outputs.update({name: out}))
        for name, module in net.named_modules()
    ]
    net(x)
    for handle in handles:
        handle.remove()

    found = nnmagic.trace(net, x)

    assert {call.layer for call in found} == set(outputs)
    for call in found:
        expected = outputs[call.layer].double()
        assert call.output_shape == tuple(expected.shape)
        assert call.mean == pytest.approx(expected.mean().item(), rel=1e-5, abs=1e-7)
        assert call.std == pytest.approx(expected.std().item(), rel=1e-5)
        assert (call.min, call.max) == (expected.min().item(), expected.max().item())
    assert found[""].outputs[0].values == outputs[""].tolist()


def test_a_tensor_that_passes_unchanged_is_measured_once():
    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Sequential(nn.Tanh())))

    found = nnmagic.trace(net, torch.rand(2, 4))

    # the input, the linear output, the tanh output: what containers return is these
    assert len(found.log.tensors.samples) == 3


def test_a_tensor_that_is_changed_in_place_is_measured_anew():
    class Adding(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(x).add_(100)

    found = nnmagic.trace(Adding(), torch.rand(2, 4))

    assert found["fc"].max < 50 < found[""].min


def test_inference_tensors_are_recorded():
    with torch.inference_mode():
        found = nnmagic.trace(nn.Sequential(nn.ReLU(inplace=True)), torch.randn(5))

    assert found["0"].min == 0


def test_under_vmap_values_are_blank_with_a_reason_and_the_result_is_the_same():
    net, x = nn.Linear(4, 2), torch.rand(3, 4)
    expected = torch.func.vmap(net)(x)

    with nnmagic.tracing() as found:
        out = torch.func.vmap(net)(x)

    assert torch.equal(out, expected)
    assert (found[""].output_shape, found[""].mean) == ((2,), None)
    assert found[""].outputs[0].unknown


class Doubling(nn.Module):
    """Writes to what it gets where no version counter tells."""

    def forward(self, x):
        x.data.mul_(2)
        return x


def hooked(kind):
    layer = nn.Identity()
    write = Doubling().forward
    if kind == "hook":
        layer.register_forward_hook(lambda module, args, output: write(output))
    if kind == "hook before":
        layer.register_forward_pre_hook(lambda module, args: write(*args))
    return layer


@pytest.mark.parametrize("kind", ["own forward", "hook", "hook before", "hook of all modules"])
def test_what_a_layer_writes_unseen_is_measured(kind):
    layer = Doubling() if kind == "own forward" else hooked(kind)
    handle = None
    if kind == "hook of all modules":
        write = Doubling().forward

        def double(module, args, output):
            if isinstance(module, nn.Identity):
                write(output)

        handle = nn.modules.module.register_module_forward_hook(double)
    try:
        trace = nnmagic.trace(nn.Sequential(nn.ReLU(), layer), torch.ones(3))
    finally:
        if handle is not None:
            handle.remove()

    assert [trace["0"].mean, trace["1"].mean, trace[""].mean] == [1, 2, 2]


def test_what_torchs_own_layer_passes_on_is_not_measured_again():
    class Mine(nn.Identity):
        pass

    x = torch.rand(3, 7, 100)
    torchs = nnmagic.trace(nn.Sequential(nn.ReLU(), nn.Identity(), nn.Dropout().eval()), x)
    mine = nnmagic.trace(nn.Sequential(nn.ReLU(), Mine(), Mine()), x)

    assert len(torchs.log.tensors.samples) == 2
    assert len(mine.log.tensors.samples) == 4
    assert [call.outputs for call in torchs] == [call.outputs for call in mine]
