"""Every call of a watched function is seen, and nothing of that is left."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.functional import mse_loss
from torch.utils.checkpoint import checkpoint

from nnmagic.network.watched_functions import backwards, watch


def test_a_call_is_seen_with_its_arguments_and_its_output():
    seen = []
    leave = watch(
        (F.mse_loss,),
        lambda name, given: seen.append((name, sorted(given))),
        lambda name, output: seen.append((name, float(output))),
    )

    mse_loss(torch.ones(2), target=torch.zeros(2))
    leave()
    mse_loss(torch.ones(2), target=torch.zeros(2))

    assert seen == [("mse_loss", ["input", "target"]), ("mse_loss", 1.0)]


def test_an_error_of_the_function_is_the_users_and_one_of_ours_is_nobodys():
    def fails(name, given):
        raise RuntimeError("ours")

    leave = watch((F.mse_loss,), fails)
    assert mse_loss(torch.ones(2), torch.zeros(2)) == 1
    with pytest.raises(AttributeError):
        mse_loss(torch.ones(2), "no tensor")
    leave()


def test_backwards_are_seen_at_both_ends_but_not_those_inside_others():
    seen, x = [], torch.ones(2, requires_grad=True)
    code = torch.autograd.backward.__code__

    with backwards(lambda tensors: seen.append(len(tensors)), lambda: seen.append("end")):
        checkpoint(torch.sin, x, use_reentrant=True).sum().backward()
        torch.autograd.backward([x.sum(), x.prod()])
        torch.autograd.grad(x.sum(), x)

    assert seen == [1, "end", 2, "end"]
    assert torch.autograd.backward.__code__ is code
