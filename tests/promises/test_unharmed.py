"""Nothing of the user's is damaged, and nothing is asked through a name that the user took."""

import collections
import functools
from contextlib import suppress

import pytest
import torch
from conftest import valueless
from corpus import CASES
from torch import nn
from torch.utils._pytree import tree_leaves

import nnmagic

NAMES = """
    modules named_modules parameters named_parameters buffers named_buffers children named_children
    train eval state_dict apply get_submodule get_parameter zero_grad requires_grad_ to type float
    half cpu cuda add_module register_buffer register_parameter extra_repr share_memory
"""
"""Methods of `nn.Module`."""

METHODS = NAMES.split()


class Convolutions(nn.Module):
    """Three layers, and attributes by names that `nn.Module` uses for its methods."""

    def __init__(self, names):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.inner = nn.Sequential(nn.ReLU())
        for module in (self, self.norm, self.inner):
            vars(module).update((name, [nn.Conv2d(1, 4, 3)]) for name in names)

    def forward(self, x):
        return self.inner(self.norm(self.conv(x)))


@pytest.mark.parametrize("names", [*([name] for name in METHODS), METHODS])
def test_a_name_of_a_method_may_be_an_attribute(names):
    plain, net, x = Convolutions([]), Convolutions(names), torch.rand(2, 1, 8, 8)

    for record in (nnmagic.summary, nnmagic.trace):
        for args in ((x,), ()):
            rows, expected = record(net, *args).to_frame(), record(plain, *args).to_frame()
            for column in ("layer", "type", "input_shape", "output_shape"):
                assert list(rows[column]) == list(expected[column])
    assert list(nnmagic.params(net).to_frame().name) == [n for n, _ in plain.named_parameters()]
    assert all(vars(module)[name] for module in (net, net.norm, net.inner) for name in names)
    assert net.training
    assert net.norm.training


class FrozenDict(dict):
    """Refuses to be changed, as a configuration does."""

    def refuse(self, *args, **kwargs):
        raise TypeError("a frozen dictionary")

    __setitem__ = __delitem__ = update = clear = pop = popitem = setdefault = copy = refuse


class Output(collections.OrderedDict):
    """Refuses to be updated, and holds what it has as attributes too."""

    def refuse(self, *args, **kwargs):
        raise TypeError("an output")

    update = pop = setdefault = __delitem__ = refuse

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        super().__setattr__(key, value)


class Listening(list):
    """Counts the writes through its own methods."""

    writes = 0

    def wrote(self, *args):
        type(self).writes += 1

    clear = extend = append = __setitem__ = __iadd__ = wrote


class Counting(dict):
    """Asks to be left alone: its length, its keys and its copy raise."""

    def refuse(self, *args):
        raise RuntimeError("asked")

    __len__ = __iter__ = keys = values = items = copy = __bool__ = refuse


CONTAINERS = {
    "frozen": lambda: FrozenDict(width=8, blocks=(1, 2)),
    "output": lambda: Output(logits=1, states=(2,)),
    "listening": lambda: Listening([1, 2, 3]),
    "refusing": lambda: Counting(a=1),
    "default": lambda: collections.defaultdict(list, a=[1]),
    "nested": lambda: {"config": FrozenDict(inner=FrozenDict(a=1)), "all": [Listening([4])]},
}


class Holding(nn.Module):
    """Holds a container, and leaves it alone."""

    def __init__(self, container):
        super().__init__()
        self.config = container
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(x)


def plain(value):
    """A container's content, told by the methods of its base class."""
    if isinstance(value, dict):
        return [(key, plain(each)) for key, each in dict.items(value)]
    return list(map(plain, list.__iter__(value))) if isinstance(value, list) else value


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_that_did_not_change_is_not_written(name):
    net, x = Holding(CONTAINERS[name]()), torch.rand(2, 8)
    container, content, writes = net.config, plain(net.config), Listening.writes

    for ask in (lambda: nnmagic.summary(net, x), lambda: nnmagic.summary(net)):
        assert ask().rows[0].output_shape[-1] == 3
    nnmagic.trace(net)

    assert net.config is container
    assert plain(container) == content
    assert Listening.writes == writes


def test_an_iteration_goes_on_where_nothing_was_written():
    net = Holding(collections.OrderedDict(a=1, b=2, c=3))
    iterator = iter(net.config)
    assert next(iterator) == "a"

    nnmagic.summary(net, torch.rand(2, 8))

    assert list(iterator) == ["b", "c"]  # a write would raise


def test_a_container_that_changed_is_put_back_past_its_own_methods():
    class Storing(Holding):
        def forward(self, x):
            dict.__setitem__(self.config, "last", x)
            list.append(self.seen, x)
            self.order.move_to_end("a")
            return super().forward(x)

    net = Storing(FrozenDict(width=8))
    net.seen, net.order = Listening([1]), collections.OrderedDict(a=1, b=2)
    writes = Listening.writes

    nnmagic.summary(net, torch.rand(2, 8))

    assert plain(net.config) == [("width", 8)]
    assert plain(net.seen) == [1]
    assert list(net.order) == ["a", "b"]
    assert Listening.writes == writes


@functools.lru_cache
def causal(n):
    return torch.ones(n, n).tril().bool()


@functools.cache
def causal_on(n, device):
    return torch.ones(n, n, device=device).tril().bool(), n


FILE = {"kept": torch.ones(1)}


class Attending(nn.Module):
    """Attention whose mask is kept somewhere outside the network."""

    def __init__(self, mask):
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.mask = mask

    def forward(self, x):
        y = self.fc(x)
        return (y @ y.T).masked_fill(~self.mask(len(x), x), -1e9)


class Cached(Attending):
    """Keeps it on its class."""

    masks, last = {}, torch.ones(3)

    def __init__(self):
        super().__init__(self.kept)

    def kept(self, n, x, memory={}):  # noqa: B006 - and so is this
        mask = memory[n] = self.masks[n] = torch.ones(n, n).tril().bool()
        Cached.last = Cached.new = x
        return mask


def in_a_closure():
    held, pairs = torch.zeros(2), []

    def mask(n, x):
        nonlocal held
        held = torch.ones(n, n).tril().bool()
        pairs.append((n, {"mask": held}))
        return held

    return Attending(mask), lambda: (held, pairs)


def in_the_file(n, x):
    FILE["kept"] = FILE[n] = torch.ones(n, n).tril().bool()
    return FILE[n]


def in_another_module(n, x, other=nn.ReLU()):  # noqa: B008 - shared on purpose
    other.last = torch.ones(n, n).tril().bool()
    return other.last


MASKED = {
    "lru_cache": lambda: Attending(lambda n, x: causal(n)),
    "cache": lambda: Attending(lambda n, x: causal_on(n, x.device)[0]),
    "class": Cached,
    "file": lambda: Attending(in_the_file),
    "closure": lambda: in_a_closure()[0],
    "module": lambda: Attending(in_another_module),
}


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", MASKED)
def test_no_tensor_without_values_is_left_outside(name, autocast, none_without_values):
    net, x = MASKED[name](), torch.rand(4, 8)

    with torch.autocast("cpu", enabled=autocast):
        for ask in (lambda: nnmagic.summary(net, x), lambda: nnmagic.summary(net)):
            ask()
            assert not any(each.is_meta for each in tree_leaves(net(x)))
        trace = nnmagic.trace(net)

    assert trace[""].mean is not None
    causal.cache_clear()
    causal_on.cache_clear()


def test_what_was_there_before_is_there_still():
    FILE.clear()
    Cached.masks.clear()
    kept = FILE["kept"] = torch.ones(1)
    last = Cached.last = torch.ones(3)
    old = causal_on(7, torch.device("cpu"))
    closed, held = in_a_closure()
    before = held()

    for net in (Cached(), Attending(in_the_file), closed, MASKED["cache"]()):
        nnmagic.summary(net, torch.rand(4, 8))

    assert {"kept": kept} == FILE
    assert Cached.last is last
    assert not Cached.masks
    assert held()[0] is before[0]
    assert held()[1] == [(4, {})]
    assert causal_on(7, torch.device("cpu"))[0] is old[0]


class Collector:
    """Keeps what a hook gets, on itself."""

    def __init__(self):
        self.last, self.all, self.by_name = 1, [], {"fc": torch.ones(2)}

    def note(self, module, args, output):
        self.last = self.newest = output
        self.all.append((args, output))
        self.by_name["fc"] = self.by_name["other"] = [output]


def test_what_a_hook_collects_is_as_before(none_without_values):
    collector, features, by_name = Collector(), [torch.ones(1)], {}
    first, fc = features[0], collector.by_name["fc"]
    net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
    for i, layer in enumerate(net):
        layer.register_forward_hook(collector.note)
        layer.register_forward_hook(lambda module, args, output: features.append(output))
        layer.register_forward_hook(
            functools.partial(lambda found, *call: found.update({len(found): call[2]}), by_name)
        )
        layer.register_forward_pre_hook(lambda module, args, i=i: by_name.update({str(i): args}))

    nnmagic.summary(net, torch.rand(2, 8))
    nnmagic.summary(net)

    assert features == [first]
    assert by_name == {}
    assert vars(collector) == {"last": 1, "all": [], "by_name": {"fc": fc}}
    net(torch.rand(2, 8))
    assert torch.cat([each.flatten() for each in features]).isfinite().all()


def test_what_a_failed_run_for_shapes_collected_is_taken_out_too():
    features = []
    net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(5, 3))
    net[0].register_forward_hook(lambda module, args, output: features.append(output))

    with pytest.raises(RuntimeError):
        nnmagic.summary(net, torch.rand(2, 8))

    assert not any(each.is_meta for each in features)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_no_case_of_the_corpus_leaves_a_tensor_without_values(name):
    case = CASES[name]
    found = case.make()
    before = valueless(collected=False)

    for ask in (nnmagic.summary, nnmagic.trace):
        with suppress(BaseException), case.context():
            ask(found["net"])

    new = valueless(collected=False).keys() - before.keys()
    assert not new or not valueless().keys() - before.keys()
