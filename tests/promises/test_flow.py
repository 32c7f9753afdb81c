"""The sources of every call against the graph that autograd builds of the same network."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import nnmagic
from nnmagic.display.table import State

SLOW = pytest.mark.slow


def names(text):
    return text.split()


TORCHVISION = names("""
    alexnet convnext_tiny densenet121 efficientnet_b0 googlenet mnasnet0_5 mobilenet_v2
    mobilenet_v3_small mvit_v1_b regnet_x_400mf resnet18 shufflenet_v2_x0_5 squeezenet1_1 swin_t
    deeplabv3_mobilenet_v3_large
""")

TIMM = names("""
    test_byobnet test_convnext test_efficientnet test_mambaout test_coatnet test_nfnet test_resnet
    test_vit test_vit_relpos dla46x_c dpn48b ese_vovnet19b_dw ghostnet_050 hardcorenas_b lcnet_050
    resmlp_12_224 resnest14d selecsls42 starnet_s050 xcit_nano_12_p8_224
""")


class UNet(nn.Module):
    def __init__(self, width=4, depth=3):
        super().__init__()
        widths = [width << i for i in range(depth + 1)]
        pairs = list(pairwise(widths))
        self.head = nn.Conv2d(1, width, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairs[::-1])
        self.join = nn.ModuleList(nn.Conv2d(2 * a, a, 3, padding=1) for a, _ in pairs[::-1])
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        x, skips = self.act(self.head(x)), []
        for down in self.down:
            skips.append(x)
            x = self.act(down(x))
        for up, join in zip(self.up, self.join, strict=True):
            x = self.act(join(torch.cat([skips.pop(), up(x)], 1)))
        return x


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 5, num_layers=2, batch_first=True)
        self.cell = nn.GRUCell(5, 5)
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        every, (state, _) = self.rnn(x)
        h = state[-1]
        for step in every.unbind(1):
            h = self.cell(step, h)
        return self.out(h), every


class Shared(nn.Module):
    """One layer in many places, its outputs used again later, and written to in place."""

    def __init__(self):
        super().__init__()
        self.fc, self.norm, self.drop = nn.Linear(4, 4), nn.LayerNorm(4), nn.Dropout(0.5)

    def forward(self, x):
        a = self.fc(x)
        b = self.drop(self.norm(a))
        a[:, 0] += 1
        c = self.fc(b.mul(2)) + a
        c.clamp_(min=0)
        first, second = self.norm(c).chunk(2)
        return self.fc(torch.cat([second, first])), {"a": a, "b": self.drop(b)}


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.decoder = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.decoder(x.roll(1, 1), memory=self.encoder(x))


OWN = {
    "UNet": (UNet, (2, 1, 16, 16)),
    "Recurrent": (Recurrent, (2, 7, 4)),
    "Shared": (Shared, (2, 4)),
    "Attention": (Attention, (2, 5, 8)),
}


def torchvision_network(name):
    import torchvision

    keywords = {"weights": None}
    if name in ("googlenet", "inception_v3"):
        keywords |= {"init_weights": False, "aux_logits": False}
    if name.startswith("deeplab"):
        keywords["weights_backbone"] = None
    return torchvision.models.get_model(name, **keywords)


def built(name):
    if name in OWN:
        make, shape = OWN[name]
        return make(), torch.rand(shape)
    if name in TORCHVISION:
        fixed = name.startswith(("mvit", "swin"))
        shape = (
            (3, 16, 224, 224) if name == "mvit_v1_b" else (3, 224, 224) if fixed else (3, 64, 64)
        )
        return torchvision_network(name), torch.rand(1, *shape)
    import timm  # takes two seconds, which the quick part of the tests does not have

    net = timm.create_model(name, pretrained=False)
    size = net.default_cfg["input_size"]
    return net, torch.rand(1, *size if net.default_cfg.get("fixed_input_size") else (3, 96, 96))


def key(tensor):
    """What autograd knows a tensor by: the node that made it, and which of its outputs it is."""
    return None if tensor.grad_fn is None else (tensor.grad_fn, tensor.output_nr)


def tensors(value):
    return [each for each in tree_leaves(value) if isinstance(each, torch.Tensor)]


class Graph:
    """Each call of a run that nothing traces, in order: the keys of what it got and returned.

    Attributes:
        makers: for each call and each key that it got the innermost call that had returned it.
    """

    def __init__(self, net, *inputs):
        self.got, self.returned, self.makers, self.alive = [], [], [], []
        running, made = [], {}

        def begin(_, args, kwargs):
            running.append(len(self.got))
            self.alive += tensors((args, kwargs))
            self.got.append([key(each) for each in tensors((args, kwargs))])
            self.makers.append([made.get(each) for each in self.got[-1]])
            self.returned.append([])

        def end(_, args, output):
            call = running.pop()
            self.alive += tensors(output)
            self.returned[call] = [key(each) for each in tensors(output)]
            self.note(made, call)

        handles = []
        for module in net.modules():
            handles.append(module.register_forward_pre_hook(begin, with_kwargs=True))
            handles.append(module.register_forward_hook(end))
        net(*inputs)
        for handle in handles:
            handle.remove()

    def note(self, made, call):
        for each in self.returned[call]:
            if each is not None and each not in self.got[call]:
                made.setdefault(each, call)

    def reached(self, start, made):
        """Return the calls that a key depends on, through no other of them."""
        found, seen, pending = set(), set(), [start]
        while pending:
            each = pending.pop()
            if each in seen or each is None or each[0] is None:
                continue
            seen.add(each)
            if each in made:
                found.add(made[each])
            else:
                pending += each[0].next_functions
        return found


def traced(net, x, *, ops):
    with nnmagic.tracing(net, ops=ops) as trace:
        net(x)
    return trace


def lanes_of_leaves(trace, graph):
    """Yield each call that makes no other with the calls that its row's lanes come from, and those
    that made what it got."""
    table, parents = trace.table(), {*trace.log.parent}
    calls = [None if row.state & State.MANY_CALLS else row.subject.call for row in table.rows]
    for call, cell in zip(calls, table.cells("flow"), strict=True):
        if call is not None and call not in parents:
            expected = {*graph.makers[call]} - {None}
            yield call, {calls[source] for source in cell.sources}, expected


NETWORKS = [*OWN, *(pytest.param(name, marks=SLOW) for name in (*TORCHVISION, *TIMM))]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_source_is_the_one_that_autograd_knows(name):
    torch.manual_seed(0)
    net, x = built(name)
    net.eval()

    trace, graph = traced(net, x, ops=False), Graph(net, x)

    calls = list(trace)
    assert len(calls) == len(graph.got)
    for call, got in zip(calls, graph.got, strict=True):
        known = [i for i, each in enumerate(got) if each is not None]
        found = [call.sources[i] for i in known]
        assert found == [graph.makers[call.call][i] for i in known], call.layer
    assert sum(source is not None for call in calls for source in call.sources) > 0
    for call, found, expected in lanes_of_leaves(trace, graph):
        assert found == expected, calls[call].layer


@pytest.mark.parametrize("name", NETWORKS)
def test_with_ops_every_path_between_layers_is_known(name):
    torch.manual_seed(0)
    net, x = built(name)
    net.eval()

    trace, graph = traced(net, x, ops=True), Graph(net, x)

    calls, log = list(trace), trace.log
    modules = [call.call for call in calls if not log.is_function(call.call)]
    number = {call: i for i, call in enumerate(modules)}
    parents = {*log.parent}
    atomic = {number[call] for call in modules if call not in parents}
    made = {}
    for each in sorted(atomic):
        graph.note(made, each)

    def reached(source):
        found, pending = set(), [source]
        while pending:
            each = pending.pop()
            if each is None:
                continue
            if number.get(each) in atomic:
                found.add(number[each])
            else:
                pending += calls[each].sources
        return found

    assert len(modules) == len(graph.got)
    for call, got in zip(modules, graph.got, strict=True):
        for source, each in zip(calls[call].sources, got, strict=True):
            if each is not None:
                assert reached(source) == graph.reached(each, made), calls[call].layer
