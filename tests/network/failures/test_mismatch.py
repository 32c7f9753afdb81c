import linecache

import pytest
import torch
import torch.nn.functional as F
from corpus.case import Net
from refusals import refusal, zeros
from torch import nn, rand

import nnmagic


class Pair(nn.Module):
    def forward(self, x, mask, scale=1.0):
        return F.scaled_dot_product_attention(x, x, x, attn_mask=mask) * scale


def test_arguments_that_do_not_fit_the_forward_are_explained_by_its_signature():
    says = "takes (x, mask, scale=1.0): missing a required argument: 'mask'"

    assert refusal(Pair(), rand(2, 3)) == says
    assert refusal(nn.Linear(3, 2), x=rand(1, 3)) == ("takes (input): it has no 'x'")
    assert refusal(nn.Linear(3, 2), rand(1, 3), rand(1)) == (
        "takes (input): too many positional arguments"
    )


def test_a_forward_of_the_users_is_quoted_with_the_shapes_that_it_met():
    assert refusal(Pair(), rand(2, 5, 8), rand(4, 4).double()) == (
        "in “F.scaled_dot_product_attention(x, x, x, attn_mask=mask)” "
        "with x (2, 5, 8), mask (4, 4) float64"
    )


def test_a_batch_in_a_list_is_told_where_the_users_own_forward_trips_over_it():
    class Net(nn.Module):
        def forward(self, x):
            return x.flatten(1)

    says = "got a list of tensors, (4, 2), (4,): a DataLoader's batch? type net(batch[0])"

    assert refusal(Net(), [rand(4, 2), zeros(4)]) == says


def test_a_list_that_the_forward_takes_is_not_blamed():
    class Net(nn.Module):
        def forward(self, parts):
            return torch.cat(parts)

    assert refusal(Net(), [rand(4, 2), rand(4)]) == ""


def test_ids_that_reach_a_network_with_parameters_of_its_own_are_not_blamed():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(rand(4))

        def forward(self, ids):
            raise RuntimeError("something else")

    assert refusal(Net(), zeros(3)) == ""


def test_code_from_a_notebook_is_quoted_too():
    source = "def f(x, w):\n    return x @ w\n"
    linecache.cache["<cell>"] = (len(source), None, source.splitlines(True), "<cell>")
    space = {}
    exec(compile(source, "<cell>", "exec"), space)

    class Net(nn.Module):
        def forward(self, x):
            return space["f"](x, rand(4, 4))

    assert refusal(Net(), rand(2, 3)) == (
        "in “x @ w” with x (2, 3), w (4, 4): "
        "axis -1 of x is 3, axis -2 of w is 4: they must be the same"
    )


@pytest.mark.parametrize(
    ("call", "note"),
    [
        (lambda: nn.Linear(3, 2)(rand(4, 5)), "raised in Linear, called at"),
        (lambda: Net(lambda net, x: nn.Softmax(1)(x))(rand(3)), "raised in Softmax, called at"),
        (
            lambda: nn.Sequential(nn.ReLU(), nn.Linear(3, 2))(rand(4, 5)),
            "raised in Sequential.1 (Linear), called at",
        ),
    ],
)
def test_a_layer_without_a_name_is_called_by_its_class_once(call, note):
    with pytest.raises((RuntimeError, IndexError)) as caught, nnmagic.tracing():
        call()

    assert caught.value.__notes__[0].startswith(f"nnmagic: {note}")


class Turning(nn.Module):
    def forward(self, x):
        return self(x)


def test_a_network_that_calls_itself_is_told(session):
    session.shell.user_ns.update(net=Turning(), x=rand(2))
    with pytest.raises(RecursionError) as caught:
        session.run("%nntrace net(x)")

    assert caught.value.__notes__[0].endswith(": calls itself without end")


def test_what_a_layer_got_is_told_where_nothing_more_is_known():
    with pytest.raises(RuntimeError) as caught, nnmagic.tracing():
        nn.Bilinear(4, 5, 3)(rand(2, 4), rand(2, 6))

    assert caught.value.__notes__[0].endswith(": got ((2, 4), (2, 6))")
