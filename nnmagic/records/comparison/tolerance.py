"""How far rounding alone may take the two outputs of a call apart."""

import re
from collections.abc import Sequence
from functools import cached_property
from math import prod, sqrt
from typing import NamedTuple

from nnmagic.records.call_log import TraceLog

EPSILONS = {
    "float64": 2.0**-52,
    "complex128": 2.0**-52,
    "float32": 2.0**-23,
    "complex64": 2.0**-23,
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
}
"""The distance from 1 to the next number of a dtype."""

TINY = {"float16": 2.0**-14, "float64": 2.0**-1022, "complex128": 2.0**-1022}
"""The least number with all bits, of the others 2**-126."""

FLOAT8 = re.compile(r"float8_e\dm(\d)")

ELEMENTWISE = re.compile(
    r"(Leaky|P|RRe|Rand)?ReLU6?|[CSG]?ELU|Hard\w+|SiLU|Mish|Sigmoid|Tanh|Softplus|\w*shrink|\w*[Dd]rop"
    r"(out|Path)\w*|Identity|(Un)?[Ff]latten|Threshold|Pixel\w+|\w*Pad[123]d|\w*Upsample\w*|Embedding"
)
"""Layers in which no value is a sum of many."""

RECURRENT = re.compile(r"RNN|LSTM|GRU")

POOLING_OVER_ITEMS = re.compile(r"(Batch|Instance|Group)Norm|\w*Pool")


NARROWEST_SUM = EPSILONS["float32"]
"""Narrower floats are added up in float32, and rounded once."""


class Tolerances:
    """The largest relative errors of outputs that rounding explains.

    A sum of K products, each rounded to eps, errs by a random walk of K steps: by about
    sqrt(K) eps / 2, relative to the sum of a healthy layer. Two sides err, and a factor of two is
    left for the rounding of inputs and weights: 2 eps sqrt(K). The worst case, K eps (Higham,
    Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), would hide most faults.

    Of dtypes narrower than float32 the sum is made in float32, and its result, the inputs and the
    weights are rounded to the narrow eps: 2 eps + 2 eps32 sqrt(K). On the layers of 10 networks
    with their own rounding alone at most 0.55 eps was seen in bfloat16 and float16.

    Args:
        mine: this run.
        other: the other run.
    """

    def __init__(self, mine: TraceLog, other: TraceLog) -> None:
        self.mine, self.other = mine, other

    def of(self, a: int, b: int) -> "Tolerance | None":
        """Return the tolerance of a pair of calls; None where no output is a float."""
        outputs = self.mine.outputs[a], self.other.outputs[b]
        return self._of_tensors(*outputs, self.terms[a])

    def of_inputs(self, a: int, b: int) -> "Tolerance | None":
        """Return what a cast explains of the inputs of a pair; None where none is a float."""
        return self._of_tensors(self.mine.inputs[a], self.other.inputs[b], 1)

    def _of_tensors(self, a: Sequence[int], b: Sequence[int], terms: int) -> "Tolerance | None":
        dtypes = [*_floats(self.mine, a), *_floats(self.other, b)]
        if not dtypes:
            return None
        return Tolerance(max(map(eps_of, dtypes)), terms, max(map(tiny_of, dtypes)))

    @cached_property
    def terms(self) -> Sequence[int]:
        """For each call of this run the terms of the longest sum in it, at least 1."""
        log = self.mine
        terms = [own_terms(log, call) for call in range(len(log))]
        for call in reversed(range(len(log))):
            parent = log.parent[call]
            if parent >= 0:
                terms[parent] = max(terms[parent], terms[call])
        return terms


class Tolerance(NamedTuple):
    """What rounding explains of the difference between two outputs.

    Attributes:
        eps: the distance from 1 to the next number of the coarser dtype.
        terms: how many terms the longest sum has.
        tiny: below this absolute value the dtype loses bits: so small a difference is none.
    """

    eps: float
    terms: int
    tiny: float

    @property
    def error(self) -> float:
        """The largest relative error that rounding explains."""
        if self.eps <= NARROWEST_SUM:
            return 2 * self.eps * sqrt(self.terms)
        return 2 * self.eps + 2 * NARROWEST_SUM * sqrt(self.terms)

    def __str__(self) -> str:
        """Return it with its derivation."""
        sum_ = f"sqrt({self.terms:,})"
        how = f"2 eps {sum_}" if self.eps <= NARROWEST_SUM else f"2 eps + 2 eps32 {sum_}"
        return f"{self.error:.2g}: {how}"


def _floats(log: TraceLog, tensors: Sequence[int]) -> list[str]:
    dtypes = (log.tensors.metadata_of(tensor).dtype for tensor in tensors)
    return [dtype for dtype in dtypes if dtype in EPSILONS or FLOAT8.match(dtype)]


def eps_of(dtype: str) -> float:
    """Return the distance from 1 to the next number of a dtype of floats."""
    narrow = FLOAT8.match(dtype)
    return 2.0 ** -int(narrow[1]) if narrow else EPSILONS[dtype]


def tiny_of(dtype: str) -> float:
    """Return the least number that a dtype of floats holds with all its bits."""
    narrow = FLOAT8.match(dtype)
    return 2.0**-6 if narrow else TINY.get(dtype, 2.0**-126)


def own_terms(log: TraceLog, call: int) -> int:
    """Return how many terms the longest sum has in the layer itself, without those it calls.

    It is read off the shapes of the parameters; of a layer without any off those of its input.
    """
    layer = log.layer[call]
    kind = log.layers[layer].type
    if ELEMENTWISE.fullmatch(kind):
        return 1
    shapes = [shape for shape in log.parameters.get(layer, {}).values() if len(shape) > 1]
    weights = [max(prod(shape[1:]), prod(shape) // max(1, shape[1])) for shape in shapes]
    metadata = log.tensors.metadata_of
    inputs = [[size or 1 for size in metadata(t).shape] for t in log.inputs[call]]
    if RECURRENT.match(kind):
        steps = max((size for shape in inputs for size in shape[:2]), default=1)
        return max(weights, default=1) * steps
    if weights and layer not in log.custom:
        return max(weights)
    if POOLING_OVER_ITEMS.match(kind):
        return max((prod(s) // max(1, s[1]) for s in inputs if len(s) > 1), default=1)
    if not log.is_leaf(call) and layer not in log.custom:
        return 1  # a container of torch's: what it calls adds up, it does not
    return max((*weights, *(size for shape in inputs for size in shape)), default=1)
