"""Healthy training programs raise no alarm, with gradients recorded or not."""

import warnings
from functools import partial

import pytest
import torch

import nnmagic
from learning.healthy import HEALTHY


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_loop_raises_no_alarm(name, grad):
    torch.manual_seed(0)

    with warnings.catch_warnings(), nnmagic.tracing(grad=grad) as trace:
        warnings.simplefilter("ignore")
        HEALTHY[name]()

    # a step that a GradScaler leaves out is worth a note, where gradients are recorded
    assert [each for each in trace.findings if each.level == "finding" or not grad] == []
    assert len(trace)


@pytest.mark.parametrize("left_out", [True, False])
def test_a_gradient_of_nan_is_worth_a_note_where_no_step_used_it(left_out):
    torch.manual_seed(0)
    run = HEALTHY["a GradScaler that leaves a step out"]

    with pytest.MonkeyPatch.context() as patch, nnmagic.tracing(grad=True) as trace:
        if not left_out:
            patch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, enabled=False))
        run()

    levels = {each.level for each in trace.findings if each.rule == "NaN in a gradient"}
    assert levels == {"note" if left_out else "finding"}
