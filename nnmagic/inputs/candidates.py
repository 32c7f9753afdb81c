"""The inputs to try on a network where none is given, the likeliest first."""

import inspect
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice, product
from typing import Any, TypeVar

import torch
from torch import nn

from nnmagic.inputs import first_layers
from nnmagic.inputs.arguments import arguments_of, main_arguments, required_arguments, specs_of
from nnmagic.inputs.specs import Candidate, ConstantSpec, Input, Spec, TensorSpec

COMBINATIONS = 8
MIXTURES = 64
MASKS = ("attention_mask", "decoder_attention_mask")
COMPANIONS = ("decoder_input_ids", "input_ids", "pixel_values", "input_features", "input_values")
F = TypeVar("F", TensorSpec, Spec)

WITHOUT_BATCH = ("offsets", "edge_index")
"""Arguments beside which the others have no batch axis."""


def candidates(
    network: nn.Module, declared: Sequence[Input | Candidate]
) -> Generator[Input | Candidate, int, None]:
    """Yield all inputs to try, and be sent by how much each was too large.

    Args:
        network: the network.
        declared: what it declares itself.
    """
    likely = chain(declared, named_candidates(network), guessed_candidates(network))
    yield from (each for each in likely)  # a chain takes no sent values, a generator does
    yield from fitted_candidates(network)


def sized_candidates(
    network: nn.Module, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[torch.dtype]
) -> Generator[Candidate, int, None]:
    """Yield what the user's shapes may be meant as, the likeliest first.

    Args:
        network: the network.
        shapes: the shapes.
        dtypes: one for each, or one for all; none tries the network's own, then integers.
    """
    below = first_layers.least_vocabulary(network) or 2
    parameters = arguments_of(network)
    by_name = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    positional = len(shapes) if not by_name else len(parameters) - len(by_name)
    every = dtypes if len(dtypes) == len(shapes) else [*dtypes] * len(shapes)
    choices = [every] if dtypes else product((None, torch.int64), repeat=len(shapes))
    for chosen in choices:
        is_noise = [d is None or d.is_floating_point or d.is_complex for d in chosen]
        specs = [
            TensorSpec(shape, dtype=dtype, below=None if noise else below)
            for shape, dtype, noise in zip(shapes, chosen, is_noise, strict=True)
        ]
        yield Candidate(
            args=tuple(specs[:positional]),
            kwargs=dict(zip(by_name, specs[positional:], strict=False)),
            reason="the size that was given",
        )


def declared_inputs(network: nn.Module) -> Iterator[Input | Candidate]:
    """Yield the inputs that a network declares.

    These are `example_input_array` of Lightning, `dummy_inputs` of transformers, and the input size
    in `pretrained_cfg` or `default_cfg` of timm.
    """
    for name in ("example_input_array", "dummy_inputs"):
        value = _attribute(network, name)
        if value is None:
            continue
        args = () if isinstance(value, Mapping) else value if isinstance(value, tuple) else (value,)
        kwargs = value if isinstance(value, Mapping) else {}
        yield Input(args=args, kwargs=kwargs, text=f"its {name}", reason="the network declares it")
    for name in ("pretrained_cfg", "default_cfg"):
        value = _attribute(network, name)
        size = value.get("input_size") if isinstance(value, Mapping) else None
        if size:
            yield Candidate(args=(TensorSpec((1, *size)),), reason=f"its {name} declares this size")


def _attribute(network: nn.Module, name: str) -> Any:
    try:
        return getattr(network, name, None)
    except Exception:  # noqa: BLE001 - a property of the user's that fails declares nothing
        return None


def named_candidates(network: nn.Module) -> Iterator[Candidate]:
    """Yield inputs by the names of the arguments of a network of transformers, its main one first.

    Its forward takes many inputs and requires few: the main one may need a companion, such as the
    picture beside a text or the first tokens of the answer. A mask spares it to look for padding.
    """
    main = main_arguments(network)
    taken = {each.name: each for each in arguments_of(network)}
    needed = dict.fromkeys([*main, *(each.name for each in required_arguments(network))])
    if not main or not set(needed) <= set(taken):
        return
    others = [name for name in COMPANIONS if name in taken and name not in needed]
    masks = [name for name in MASKS if name in taken]
    choices = product([[], *([other] for other in others), others], ([], masks[:1], masks))
    for names in dict.fromkeys((*needed, *more, *mask) for more, mask in choices):
        specs = [specs_of(taken[name], network) for name in names]
        for combination in islice(product(*specs), COMBINATIONS):
            kwargs = dict(zip(names, combination, strict=True))
            reasons = (spec.reason for name, spec in kwargs.items() if name not in MASKS)
            yield Candidate(kwargs=kwargs, reason=" and ".join(reasons))


def guessed_candidates(network: nn.Module) -> Iterator[Candidate]:
    """Yield what the first layers with weights take, in the arguments that a call has to give.

    An argument whose name or hint tells what it is gets that; every other one what a layer takes.
    """
    parameters = _to_give(network)
    meant = [specs_of(each, network) for each in parameters]
    layers = first_layers.first_layer_sizes(network)
    least = first_layers.least_vocabulary(network) or 2
    if len(parameters) > 1:  # any of them may get any input, so ids are such that all layers have
        layers = [[_below(size, least) for size in sizes] for sizes in layers]
    if any(each.name in WITHOUT_BATCH for each in parameters):
        layers = [list(map(_without_batch, sizes)) for sizes in layers]
        meant = [
            specs if each.name in WITHOUT_BATCH else list(map(_without_batch, specs))
            for each, specs in zip(parameters, meant, strict=True)
        ]
    taken = list(chain.from_iterable(layers))
    if any(meant):
        for size in taken[:1] if all(meant) else taken:
            for specs in islice(product(*(each or [size] for each in meant)), COMBINATIONS):
                yield _given(parameters, specs)
    constants = [each[:1] if each and isinstance(each[0], ConstantSpec) else [] for each in meant]
    for size in taken:
        yield _given(parameters, [each[0] if each else size for each in constants])
    if len(parameters) > 1:
        likeliest = [size for sizes in layers for size in sizes[:2]]
        likeliest.append(TensorSpec((1,), below=least, reason="a number for each item"))
        mixtures = product(*(each or likeliest for each in constants))
        for mixed in islice(mixtures, MIXTURES):
            if len(set(mixed)) > 1:
                yield _given(parameters, mixed)
    if not required_arguments(network):
        yield Candidate(reason="its forward requires no input")


def _to_give(network: nn.Module) -> list[inspect.Parameter]:
    named = [each for each in arguments_of(network) if each.kind is not each.VAR_KEYWORD]
    return required_arguments(network) or named[:1]


def _below(size: TensorSpec, vocabulary: int) -> TensorSpec:
    return size if size.below is None else replace(size, below=min(size.below, vocabulary))


def _without_batch(spec: F) -> F:
    """Return the items of a sequence as a batch of their own."""
    if isinstance(spec, TensorSpec) and len(spec.shape) > 1:
        return replace(spec, shape=(first_layers.SEQUENCE, *spec.shape[2:]))
    return spec


def _given(parameters: Sequence[inspect.Parameter], specs: Sequence[Spec]) -> Candidate:
    pairs = list(zip(parameters, specs, strict=True))
    return Candidate(
        args=tuple(spec for each, spec in pairs if each.kind is not each.KEYWORD_ONLY),
        kwargs={each.name: spec for each, spec in pairs if each.kind is each.KEYWORD_ONLY},
        reason=" and ".join(dict.fromkeys(spec.reason for spec in specs)),
    )


def fitted_candidates(network: nn.Module) -> Generator[Candidate, int, None]:
    """Yield pictures for the first convolution, smaller or larger as the last one was refused.

    A Linear after convolutions fits pictures of one size only, which halving finds in a few steps.
    """
    smallest = first_layers.smallest_picture(network)
    parameters = _to_give(network)
    if smallest is None or not parameters:
        return

    def of_side(side: int) -> Candidate:
        size = replace(smallest, shape=(*smallest.shape[:2], *[side] * axes))
        return _given(parameters, [size] * len(parameters))

    axes = len(smallest.shape) - 2
    low, high = 1, first_layers.LARGEST[axes]
    while low < high:
        middle = (low + high) // 2
        size_error = yield of_side(middle)
        low, high = (middle + 1, high) if size_error < 0 else (low, middle)
    for side in (low, *first_layers.EVERY_SIDE):
        yield of_side(side)
