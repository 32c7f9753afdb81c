import sys
from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass, make_dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import nnmagic
from nnmagic.network.nested_values import DEEPEST, tensors_in, tensors_of_call

Point = namedtuple("Point", "x y")


@dataclass
class Output:
    logits: torch.Tensor
    loss: torch.Tensor | None = None


def test_shapes_are_nested_as_the_values_are():
    one, two = torch.zeros(1), torch.zeros(2)
    cases = {
        (1,): one,
        None: "text",
        ((1,), ((2,),)): (one, [two, None]),
        ((1,), (2,)): Point(one, two),
        ((1,),): (one, None),
    }
    for shape, value in cases.items():
        assert tensors_in(value)[0] == shape
    assert tensors_in({"a": one, "b": 3})[0] == {"a": (1,)}
    assert tensors_in(OrderedDict(a=(one, two)))[0] == {"a": ((1,), (2,))}
    assert tensors_in(Output(one))[0] == {"logits": (1,)}
    assert tensors_in(torch.tensor(1.0))[0] == ()
    assert tensors_in([None, (None,)])[0] is None


class Kind:
    pass


class Shouting:
    def __repr__(self):
        raise RuntimeError("no repr")


class Verbose:
    def __repr__(self):
        return "many\n  words " * 100


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (("user", "rates", "item"), "('user', 'rates', 'item')"),
        (("one",), "('one',)"),
        ((), "()"),
        (((1, None), 2.5), "((1, None), 2.5)"),
        (frozenset({"b", "a"}), "frozenset({'a', 'b'})"),
        (None, "None"),
        (torch.float32, "torch.float32"),
        (Kind(), f"<{__name__}.Kind object>"),
        ((Kind(), 1), f"(<{__name__}.Kind object>, 1)"),
        (
            test_shapes_are_nested_as_the_values_are,
            "<function test_shapes_are_nested_as_the_values_are>",
        ),
        (torch.ones(2, 3), "Tensor (2, 3)"),
        (Shouting(), "Shouting"),
        (Verbose(), ("many words " * 100)[:60] + "…"),
    ],
    ids=[*range(13)],
)
def test_a_key_that_is_no_text_is_shown_by_its_repr_without_addresses(key, text):
    assert tensors_in({key: torch.ones(2)})[0] == {text: (2,)}


def test_keys_with_one_repr_are_all_kept():
    value = {Kind(): torch.ones(1), Kind(): torch.ones(2), Kind(): torch.ones(3)}

    name = f"<{__name__}.Kind object>"
    assert tensors_in(value)[0] == {name: (1,), f"{name}#2": (2,), f"{name}#3": (3,)}
    pair = {(1, 2): torch.ones(1), "(1, 2)": torch.ones(2)}
    assert tensors_in(pair)[0] == {"(1, 2)": (1,), "(1, 2)#2": (2,)}


def test_runs_on_a_graph_of_several_kinds_compare_equal():
    class Graph(nn.Module):
        def forward(self, x):
            return {key: value * 2 for key, value in x.items()}

    net = Graph()

    def run():
        edges = {("user", "rates", "item"): torch.ones(2, 4), Kind(): torch.ones(3)}
        return nnmagic.trace(net, edges)

    first, second = run(), run()
    assert first == second
    assert first[""].output_shape == {
        "('user', 'rates', 'item')": (2, 4),
        f"<{__name__}.Kind object>": (3,),
    }


def test_a_packed_sequence_shows_its_steps_and_their_order():
    packed = pack_sequence([torch.ones(2, 5), torch.ones(3, 5)], enforce_sorted=False)

    shape, tensors = tensors_in((packed, None))

    assert shape == (((5, 5), (3,), (2,), (2,)),)
    assert tensors == tuple(packed)


def test_an_output_of_transformers_shows_what_it_holds():
    cache = ((torch.ones(1, 2), torch.ones(1, 3)),)
    outputs = pytest.importorskip("transformers.modeling_outputs")
    output = outputs.BaseModelOutputWithPast(torch.ones(1, 4), past_key_values=cache)

    shape, _ = tensors_in(output)

    _, name_of_the_cache = output.keys()  # another one in newer versions
    assert shape == {"last_hidden_state": (1, 4), name_of_the_cache: (((1, 2), (1, 3)),)}


def test_a_container_that_holds_itself_is_no_trap():
    value = [torch.zeros(1)]
    value.append(value)
    one, other = {}, {"x": torch.zeros(2)}
    one["other"], other["one"] = other, one

    assert tensors_in(value)[0] == ((1,),)
    assert tensors_in(one)[0] == {"other": {"x": (2,)}}


def test_a_container_held_twice_is_shown_twice():
    shared = [torch.zeros(1)]

    shape, tensors = tensors_in((shared, shared))

    assert shape == (((1,),), ((1,),))
    assert tensors == (shared[0], shared[0])


def test_a_value_nested_beyond_all_measure_is_not_followed():
    value = deep = torch.zeros(1)
    for _ in range(DEEPEST):
        value = [value]
    for _ in range(10 * sys.getrecursionlimit()):
        deep = [deep]

    assert tensors_in(value)[1] == (*tensors_in(value)[1][:1],)
    assert len(tensors_in(value)[1]) == 1
    assert tensors_in(deep) == (None, ())


class Raising:
    def __getattribute__(self, name):
        raise RuntimeError(name)


class Unreadable(UserDict):
    def __iter__(self):
        raise RuntimeError("not now")


class Unnamed(tuple):
    def __repr__(self):
        raise RuntimeError("no text")

    __hash__ = tuple.__hash__


def test_a_value_whose_own_code_fails_holds_nothing():
    one = torch.zeros(1)

    assert tensors_in((Raising(), one, Unreadable(x=one)))[0] == ((1,),)
    assert list(tensors_in({Unnamed([1]): one})[0].values()) == [(1,)]


def test_an_iterator_is_left_alone():
    values = iter([torch.zeros(1)])

    assert tensors_in((values,)) == (None, ())
    assert len(list(values)) == 1


def test_a_class_and_a_set_hold_nothing():
    assert tensors_in((Output, {torch.zeros(1)}, range(3)))[0] is None


def test_the_shape_of_a_call_has_its_keywords_last():
    one, two = torch.zeros(1), torch.zeros(2)

    assert tensors_of_call((one,), {})[0] == (1,)
    assert tensors_of_call((one, two), {})[0] == ((1,), (2,))
    assert tensors_of_call((one,), {"mask": two})[0] == ((1,), {"mask": (2,)})
    assert tensors_of_call((one,), {"flag": True})[0] == ((1,),)
    assert tensors_of_call((), {"x": one})[0] == ({"x": (1,)},)
    assert tensors_of_call(([one],), {})[0] == (((1,),),)
    assert tensors_of_call((), {})[0] is None


def sequence(kind):
    """Make a value of parts, each a value with its shape and its tensors; a record holds them."""

    def made(parts):
        shape = tuple(shape for _, shape, _ in parts if shape is not None)
        tensors = [tensor for *_, held in parts for tensor in held]
        return kind(value for value, *_ in parts), shape or None, tensors

    return made


def mapping(kind):
    def made(parts):
        shape = {key: shape for key, (_, shape, _) in parts.items() if shape is not None}
        tensors = [tensor for *_, held in parts.values() for tensor in held]
        return kind({key: value for key, (value, *_) in parts.items()}), shape or None, tensors

    return made


def record_of(parts):
    return make_dataclass("Made", list(parts))(**parts)


def named_tuple_of(parts):
    parts = list(parts)
    return namedtuple("Made", [f"part{i}" for i in range(len(parts))])(*parts)


def leaf_tensor(size):
    tensor = torch.zeros(size)
    return tensor, tuple(size), [tensor]


leaves = st.one_of(
    st.sampled_from([None, 3, 2.5, "text", b"", range(2), {4}]).map(
        lambda value: (value, None, [])
    ),
    st.sampled_from([object, Raising]).map(lambda kind: (kind(), None, [])),
    st.lists(st.integers(0, 3), max_size=3).map(leaf_tensor),
)
names = st.sampled_from("abcdefgh")
trees = st.recursive(
    leaves,
    lambda inside: st.one_of(
        *(st.lists(inside, max_size=3).map(sequence(kind)) for kind in (list, tuple)),
        st.lists(inside, max_size=3).map(sequence(named_tuple_of)),
        *(
            st.dictionaries(st.text(max_size=3) | st.integers(), inside, max_size=3).map(
                mapping(kind)
            )
            for kind in (dict, OrderedDict, UserDict)
        ),
        st.dictionaries(names, inside, max_size=3).map(mapping(record_of)),
    ),
    max_leaves=12,
)


@given(trees)
def test_any_nested_value_gives_its_shapes_and_its_tensors_in_order(tree):
    value, shape, tensors = tree

    found, held = tensors_in(value)

    assert found == shape
    assert list(map(id, held)) == list(map(id, tensors))


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_long_list_of_numbers_holds_one_tensor(kind):
    one = torch.zeros(1)

    assert tensors_in(kind([*range(100_000), one])) == (((1,),), (one,))
