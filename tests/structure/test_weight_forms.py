import copy

import pytest
import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic
from torch.nn.utils import parametrizations, parametrize, prune

import nnmagic
from nnmagic.structure.weight_forms import weight_forms

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Doubled(nn.Module):
    def forward(self, half):
        return torch.cat([half, half])

    def right_inverse(self, whole):
        return whole[: len(whole) // 2].clone()


class Failing(nn.Module):
    def forward(self, weight):
        return weight * float(weight.detach().sum())


def quantized(dtype=torch.qint8):
    net = nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.LSTM(5, 6)))
    return quantize_dynamic(net, {nn.Linear, nn.LSTM}, dtype=dtype)


LINEAR, LSTM = 4 * 5 + 5, 4 * 6 * (5 + 6) + 2 * 4 * 6


def test_packed_weights_are_counted_beside_the_parameters():
    net = quantized()

    summary = nnmagic.summary(net, torch.rand(3, 2, 4))

    stored = (20 + 4 * 5) + (4 * 6 * (5 + 6) + 4 * 2 * 4 * 6)  # a byte a weight, four a bias
    assert (summary.total_params, summary.logical_params) == (0, LINEAR + LSTM)
    assert summary.packed_bytes == stored
    assert [(row.layer, row.weights.partition(",")[0]) for row in summary.rows[:4]] == [
        ("", f"{LINEAR + LSTM} packed"),
        ("0", f"{LINEAR} packed"),
        ("1", f"{LSTM} packed"),
        ("1.0", f"{LSTM} packed"),
    ]
    line = f"packed: {LINEAR + LSTM} values in {stored} B (float32, qint8), not among the"
    assert line in str(summary)
    assert line in str(nnmagic.params(net))


def test_weights_packed_in_half_precision_take_two_bytes():
    forms = weight_forms(quantized(torch.float16))

    assert {layer: held[0].count for layer, held in forms.items()} == {"0": LINEAR, "1.0": LSTM}
    assert forms["0"][0].stored_bytes == 2 * 20 + 4 * 5
    assert forms["0"][0].source == "float16, float32"


def test_a_mask_is_told_by_its_density():
    layer = nn.Linear(4, 5)
    prune.custom_from_mask(layer, "weight", torch.tensor([[1, 0, 0, 0]] * 5))

    summary = nnmagic.summary(nn.Sequential(layer), torch.rand(2, 4))

    form = summary.forms[0]
    assert (form.name, form.count, form.density) == ("0.weight", 20, 0.25)
    assert form.stored_bytes == 2 * 4 * 20
    assert summary.total_params == summary.logical_params == 25
    assert summary.rows[1].weights == "weight pruned: 25 % kept"
    assert "pruned: 20 values, 25 % kept, 160 B with their masks: 0.weight" in str(summary)


@pytest.mark.parametrize(
    ("parametrised", "parameters"),
    [
        (parametrizations.weight_norm, 5 + 20),
        (parametrizations.spectral_norm, 20),
        (parametrizations.orthogonal, 20),
        (nn.utils.weight_norm, 5 + 20),
        (nn.utils.spectral_norm, 20),
        (lambda net: parametrize.register_parametrization(net, "weight", Doubled()), 8),
    ],
)
def test_a_computed_weight_counts_what_it_has_and_what_it_is_made_of(parametrised, parameters):
    width = 4
    outputs = 4 if parameters == 8 else 5
    net = nn.Sequential(parametrised(nn.Linear(width, outputs)))

    summary = nnmagic.summary(net, torch.rand(2, width))

    (form,) = summary.forms
    assert (form.name, form.count) == ("0.weight", width * outputs)
    assert (form.parameters, form.stored_bytes) == (parameters, 4 * parameters)
    assert summary.total_params == sum(p.numel() for p in net.parameters())
    assert summary.logical_params == width * outputs + outputs


def test_counting_computed_weights_leaves_the_network_as_it_was():
    net = parametrizations.spectral_norm(nn.Linear(4, 5)).train()
    before = copy.deepcopy(net.state_dict())
    random_state = torch.get_rng_state()

    weight_forms(net)

    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())


def test_a_weight_whose_computation_reads_values_is_unknown():
    net = parametrize.register_parametrization(nn.Linear(4, 5), "weight", Failing(), unsafe=True)

    params = nnmagic.params(net)

    assert params.forms[0].count is None
    assert "parametrised: an unknown number of values computed from 20 parameters" in str(params)


def test_a_plain_network_has_none():
    assert weight_forms(nnmagic.default_network()) == {}
