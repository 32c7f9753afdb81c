"""What goes into a call and comes out: nested, by keyword, or no tensor at all."""

import dataclasses
import types
from collections import OrderedDict, UserDict, namedtuple

import torch
from torch import nn

from corpus.case import Net, case, names


@case(
    params=4 * 3 + 3,
    layers=("Net", "  fc Linear"),
    expression="net(x=x, scale=2.0)",
    input=({"x": (2, 4)},),
    output=(2, 3),
    flops=2 * 2 * 4 * 3,
    backward=True,
)
def keyword_only_arguments():
    net = Net(lambda net, *, x, scale: net.fc(x) * scale, fc=nn.Linear(4, 3))
    return names(net=net, x=torch.rand(2, 4))


@case(
    params=4 * 2 + 2,
    layers=("Net", "  fc Linear"),
    expression="net(x, mask=m)",
    input=((2, 4), {"mask": (2, 1)}),
    output=(2, 2),
    flops=2 * 2 * 4 * 2,
)
def a_positional_and_a_keyword_argument():
    net = Net(lambda net, x, mask: net.fc(x) * mask, fc=nn.Linear(4, 2))
    return names(net=net, x=torch.rand(2, 4), m=torch.ones(2, 1))


@case(
    layers=("Net",),
    expression="net((a, b), None, 3)",
    input=(((2,), (3,)),),
    output=((3,), (2,)),
)
def tuples_in_and_out():
    net = Net(lambda net, pair, nothing, number: (pair[1], nothing, pair[0]))
    return names(net=net, a=torch.rand(2), b=torch.rand(3))


@case(layers=("Net",), expression="net([a, [b]])", input=(((2,), ((3,),)),), output=((2,),))
def lists_in_and_out():
    net = Net(lambda net, nested: [nested[0], []])
    return names(net=net, a=torch.rand(2), b=torch.rand(3))


@case(
    layers=("Net",),
    expression="net({'a': a, 'b': {'c': a}})",
    input=({"a": (2,), "b": {"c": (2,)}},),
    output={"out": (2,), 7: ((2,),)},
)
def dicts_in_and_out():
    net = Net(lambda net, d: {"out": d["a"] + 1, "none": None, 7: (d["b"]["c"], "text")})
    return names(net=net, a=torch.rand(2))


@case(
    layers=("Net",),
    expression="net(OrderedDict(a=a))",
    input=({"a": (2,)},),
    output={"a": (2,)},
)
def other_mappings_in_and_out():
    net = Net(lambda net, d: UserDict(a=d["a"] * 2))
    return names(net=net, a=torch.rand(2), OrderedDict=OrderedDict)


Pair = namedtuple("Pair", "left right")


@case(layers=("Net",), expression="net(Pair(a, b))", input=(((2,), (3,)),), output=((3,), (2,)))
def named_tuples_in_and_out():
    net = Net(lambda net, pair: Pair(pair.right, pair.left))
    return names(net=net, a=torch.rand(2), b=torch.rand(3), Pair=Pair)


@dataclasses.dataclass
class Batch:
    """What a data loader of somebody's gives."""

    pictures: torch.Tensor
    labels: torch.Tensor | None = None
    name: str = "batch"


@case(
    params=9,
    layers=("Net", "  fc Linear"),
    expression="net(Batch(x, name='first'))",
    input=({"pictures": (4, 2)},),
    output={"pictures": (4, 3), "labels": (4,)},
    flops=2 * 4 * 2 * 3,
)
def dataclasses_in_and_out():
    net = Net(lambda net, batch: Batch(net.fc(batch.pictures), torch.zeros(4)), fc=nn.Linear(2, 3))
    return names(net=net, x=torch.rand(4, 2), Batch=Batch)


@case(
    params=9,
    layers=("Net", "  fc Linear"),
    input=(4, 2),
    output={"logits": (4, 3), "attentions": ((4, 3),)},
    flops=2 * 4 * 2 * 3,
    backward=True,
)
def a_model_output():
    from transformers.modeling_outputs import SequenceClassifierOutput

    def run(net, x):
        logits = net.fc(x)
        return SequenceClassifierOutput(logits=logits, attentions=(logits.softmax(-1),))

    return names(net=Net(run, fc=nn.Linear(2, 3)), x=torch.rand(4, 2))


@case(layers=("Net",), expression="net('text', n=3)", input=None, output=None)
def no_tensor_at_all():
    return names(net=Net(lambda net, text, n: text * n))


@case(layers=("Net",), expression="net()", input=None, output=(3,), flops=0)
def no_arguments():
    return names(net=Net(lambda net: torch.arange(3.0)))


@case(layers=("Net",), expression="net(space)", input=None, output=(2,), flops=0)
def an_object_that_hides_its_tensors():
    net = Net(lambda net, space: torch.ones(2) * 2)
    return names(net=net, space=types.SimpleNamespace(x=torch.rand(5)))
