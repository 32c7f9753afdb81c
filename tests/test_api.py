import pytest
import torch
import torchinfo
from torch import nn

import nnmagic


class Scaled(nn.Module):
    """Takes an argument that has an option's name."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x, optimizer=1.0):
        return self.layer(x) * optimizer


def test_a_summary_with_an_optimizer_has_its_state():
    net, x = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2)), torch.rand(3, 8)

    summary = nnmagic.summary_with(optimizer="adam")(net, x)

    values = 8 * 4 + 4 + 4 * 2 + 2
    steps = 4 * len(list(net.parameters()))  # a float32 for each parameter
    assert summary.training.optimizer == "adam"
    assert summary.training.optimizer_bytes == 2 * 4 * values + steps
    assert summary.rows == nnmagic.summary(net, x).rows


def test_a_summary_with_a_plan_tells_what_each_rank_holds():
    net = nn.Sequential(nn.Linear(8, 4, bias=False), nn.Linear(4, 2, bias=False))
    plan = {"fsdp": 2, "dtype": torch.bfloat16}

    of_call = nnmagic.summary_with(plan=plan, optimizer="sgd")(net, torch.rand(3, 8))
    alone = nnmagic.summary_with(plan=plan)(net)

    assert of_call.plan.param_bytes == alone.plan.param_bytes == (8 * 4 + 4 * 2) * 2 // 2


@pytest.mark.parametrize("args", [(), (torch.rand(2, 8),)])
def test_a_summary_for_real_runs_the_network_though_shapes_would_do(args):
    for_real = nnmagic.summary_with(real=True)(Scaled(), *args)

    assert for_real.rows[0].output_shape[-1] == 4
    assert "real run" in for_real.heading
    assert "real run" not in nnmagic.summary(Scaled(), *args).heading


@pytest.mark.parametrize("args", [(), (torch.rand(2, 8),)])
def test_a_summary_by_torchinfo_has_its_figures(args):
    net = nn.Linear(8, 4)

    theirs = nnmagic.summary_with(engine="torchinfo")(net, *args)

    truth = torchinfo.summary(net, input_data=torch.rand(2, 8), verbose=0)
    assert theirs.total_params == truth.total_params
    assert "torchinfo" in str(theirs)


def test_all_arguments_of_the_second_call_are_the_modules():
    x = torch.rand(2, 8)

    summary = nnmagic.summary_with(optimizer="adam")(Scaled(), x, optimizer=torch.ones(2, 1))

    assert summary.rows[0].input_shape == ((2, 8), {"optimizer": (2, 1)})
    assert summary.training.optimizer == "adam"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"engine": "keras"}, "engine must be one of nnmagic, torchinfo"),
        ({"optimizer": "adamm"}, "optimizer must be one of"),
        ({"real": True, "engine": "torchinfo"}, "exclude each other"),
        ({"real": True, "optimizer": "adam"}, "exclude each other"),
        ({"engine": "torchinfo", "plan": {"fsdp": 2}}, "exclude each other"),
        ({"plan": {"dtype": "bfloat16"}}, "dtype is a torch.dtype, not 'bfloat16'"),
        ({"plan": {"pp": 2}}, "a plan has fsdp, tp, dtype, not 'pp'"),
        ({"plan": {"tp": 0}}, "tp is over how many ranks, 1 or more, not 0"),
    ],
)
def test_options_that_cannot_be_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        nnmagic.summary_with(**options)
