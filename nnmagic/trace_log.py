"""The columns of a run: one entry a call, one entry a tensor that was seen."""

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import hypot, isnan
from typing import Any, NamedTuple

from nnmagic import units
from nnmagic.records import Sample, Samples, TensorRecord
from nnmagic.units import Shape

RUNNING, FINISHED, FAILED, STOPPED = range(4)
"""How a call ended; a recomputation is stopped once the backward has what it needs of it."""


class Statistics(NamedTuple):
    """The numbers of one tensor as doubles, NaN where unknown; meanings as in `TensorRecord`."""

    min: float
    max: float
    mean: float
    std: float
    zeros: float
    nan: float
    inf: float
    negative_inf: float


NOTHING_KNOWN = Statistics(*[float("nan")] * len(Statistics._fields))


UNKNOWN_BYTES = array("d", NOTHING_KNOWN).tobytes()


class Layer(NamedTuple):
    """What a call says of its layer: its network's index, its dotted name, its class name."""

    network: int
    name: str
    type: str


class Form(NamedTuple):
    """What tensors of one kind share."""

    shape: tuple[int | None, ...]
    dtype: str
    device: str
    numel: int


def tensor_record(
    form: Form, numbers: Statistics, samples: Samples, unknown: str, measured: int | None = None
) -> TensorRecord:
    """Return the record of a tensor, what is unknown as None."""
    known: dict[str, Any] = {
        name: None if isnan(value) else value for name, value in numbers._asdict().items()
    }
    for name in ("nan", "inf", "negative_inf"):
        known[name] = None if known[name] is None else int(known[name])
    return TensorRecord(
        **form._asdict(), **known, **samples._asdict(), unknown=unknown, measured=measured
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a call ended by an exception.

    Attributes:
        type: the exception's class name.
        message: the first line of its text.
        mismatch: what the layer got against what it expects, where that is known.
        place: the file and line, or the source line, of the code that called the layer.
        cause: the exception of which layer it was raised after, `""` for none.
    """

    type: str
    message: str
    mismatch: str
    place: str
    cause: str = ""


class TraceLog:
    """Append-only columns that a recorder fills and a `Trace` reads.

    Calls are numbered in the order in which they began, a parent before its children; tensors in
    the order in which they were first seen. A tensor that passes from one layer to the next
    unchanged is one entry.

    Attributes:
        constant: the outermost calls that returned the same for all items of a batch that differ.
        tainted: for a call that made NaN or Inf, which of its parameters and buffers held some.
    """

    __slots__ = (
        "_numbers",
        "constant",
        "depth",
        "ended",
        "failures",
        "forms",
        "forms_seen",
        "functions",
        "graded",
        "gradients",
        "input_shape",
        "inputs",
        "layer",
        "layers",
        "layers_seen",
        "measured",
        "networks",
        "notes",
        "output_shape",
        "outputs",
        "parameter_gradients",
        "parent",
        "place",
        "places",
        "places_seen",
        "raised",
        "recomputed",
        "samples",
        "settle",
        "shapes",
        "shapes_seen",
        "step",
        "tainted",
        "tensor_form",
        "title",
        "unknown",
    )

    def __init__(self, title: str) -> None:
        self.title = title
        self.notes: list[str] = []
        self.networks: list[str] = []
        self.layers: list[Layer] = []
        self.layers_seen: dict[tuple[int, str, str], int] = {}
        self.shapes: list[Shape] = []
        self.shapes_seen: dict[Any, int] = {}
        self.places: list[str] = []
        self.places_seen: dict[tuple[str, int], int] = {}
        self.layer = array("l")
        self.place = array("l")
        self.step = array("q")
        self.depth = array("l")
        self.parent = array("l")
        self.input_shape = array("l")
        self.output_shape = array("l")
        self.inputs: list[tuple[int, ...]] = []
        self.outputs: list[tuple[int, ...]] = []
        self.ended = bytearray()
        self.failures: dict[int, Failure] = {}
        self.raised: int | None = None
        self.recomputed: set[int] = set()
        self.functions: set[int] = set()
        self.constant: set[int] = set()
        self.tainted: dict[int, tuple[str, ...]] = {}
        self.graded = False
        self.gradients: dict[int, int] = {}
        self.parameter_gradients: dict[int, dict[str, int | None]] = {}
        self.forms: list[Form] = []
        self.forms_seen: dict[Form, int] = {}
        self.tensor_form = array("l")
        self._numbers = array("d")
        self.samples: list[Samples | bytes | None] = []
        self.settle: Callable[[], None] | None = None
        self.measured: dict[int, int] = {}
        self.unknown: dict[int, str] = {}
        self.shape_index(None)

    def __len__(self) -> int:
        return len(self.layer)

    def __getstate__(self) -> dict[str, Any]:
        self.numbers  # noqa: B018 - what is still to be computed
        return {name: getattr(self, name) for name in self.__slots__} | {"settle": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TraceLog):
            return NotImplemented
        mine, theirs = self.__getstate__(), other.__getstate__()
        mine["_numbers"], theirs["_numbers"] = self.numbers.tobytes(), other.numbers.tobytes()
        return mine == theirs

    def __hash__(self) -> int:
        return hash(self.title)

    # Writing: for recorders only.

    def layer_index(self, network: int, name: str, type_name: str) -> int:
        """Return the number of a layer, a new one at the first sight."""
        index = self.layers_seen.setdefault((network, name, type_name), len(self.layers))
        if index == len(self.layers):
            self.layers.append(Layer(network, name, type_name))
        return index

    def shape_index(self, shape: Shape) -> int:
        """Return the number of a shape, a new one at the first sight."""
        try:
            index = self.shapes_seen.setdefault(shape, len(self.shapes))
        except TypeError:  # a dict inside
            index = self.shapes_seen.setdefault(repr(shape), len(self.shapes))
        if index == len(self.shapes):
            self.shapes.append(shape)
        return index

    def place_index(self, path: str, line: int, text: Callable[[str, int], str]) -> int:
        """Return the number of a place in the code, `text` says how it is shown."""
        index = self.places_seen.setdefault((path, line), len(self.places))
        if index == len(self.places):
            self.places.append(text(path, line))
        return index

    def add_call(
        self,
        layer: int,
        step: int,
        depth: int,
        parent: int,
        place: int,
        input_shape: Shape,
        inputs: tuple[int, ...],
    ) -> int:
        """Append a call that has begun; return its number.

        Its parent is -1 outside every other call. Calls of several threads may alternate, so that
        the depths alone do not tell it.
        """
        self.layer.append(layer)
        self.step.append(step)
        self.depth.append(depth)
        self.parent.append(parent)
        self.place.append(place)
        self.input_shape.append(self.shape_index(input_shape))
        self.output_shape.append(0)
        self.inputs.append(inputs)
        self.outputs.append(())
        self.ended.append(RUNNING)
        return len(self.ended) - 1

    def say(self, note: str) -> None:
        """Add a line below the table, unless it is there."""
        if note not in self.notes:
            self.notes.append(note)

    def drop_last(self) -> None:
        """Take back the call that was added last."""
        for column in (self.layer, self.step, self.depth, self.parent, self.place):
            column.pop()
        self.input_shape.pop()
        self.output_shape.pop()
        self.inputs.pop()
        self.outputs.pop()
        self.ended.pop()

    def finish(self, call: int, output_shape: Shape, outputs: tuple[int, ...]) -> None:
        """Note what a call returned."""
        self.output_shape[call] = self.shape_index(output_shape)
        self.outputs[call] = outputs
        self.ended[call] = FINISHED

    def fail(self, call: int, failure: Failure) -> None:
        """Note that a call ended by an exception."""
        self.failures[call] = failure
        self.ended[call] = FAILED

    def stop(self, call: int) -> None:
        """Note that a recomputation ended before it returned."""
        self.ended[call] = STOPPED

    def form_index(self, form: Form) -> int:
        """Return the number of a form, a new one at the first sight."""
        index = self.forms_seen.setdefault(form, len(self.forms))
        if index == len(self.forms):
            self.forms.append(form)
        return index

    def add_whole(self, form: int, values: bytes) -> int:
        """Append a small tensor, all of its values at once, its numbers later; return its number.

        Args:
            form: the number of its form, of float32 or float64 values.
            values: the values.
        """
        self.tensor_form.append(form)
        self._numbers.frombytes(UNKNOWN_BYTES)
        self.samples.append(values)
        return len(self.samples) - 1

    def add_unmeasured(self, form: int) -> int:
        """Append a tensor, its numbers and samples later; return its number."""
        self.tensor_form.append(form)
        self._numbers.frombytes(UNKNOWN_BYTES)
        self.samples.append(None)
        return len(self.samples) - 1

    @property
    def unsettled(self) -> array:
        """The numbers of all tensors as they are, NaN where they are to be computed."""
        return self._numbers

    def set_numbers(self, tensor: int, numbers: Iterable[float]) -> None:
        """Set the numbers of a tensor that was added without."""
        width = len(NOTHING_KNOWN)
        self._numbers[tensor * width : (tensor + 1) * width] = array("d", numbers)

    def add_tensor(
        self,
        form: Form,
        numbers: Statistics,
        samples: Samples,
        unknown: str,
        measured: int | None = None,
    ) -> int:
        """Append a tensor; return its number."""
        self.tensor_form.append(self.form_index(form))
        self._numbers.extend(numbers)
        self.samples.append(samples)
        if unknown:
            self.unknown[len(self.samples) - 1] = unknown
        if measured is not None:
            self.measured[len(self.samples) - 1] = measured
        return len(self.samples) - 1

    # Reading.

    @property
    def numbers(self) -> array:
        """The numbers of all tensors, one after the other; what is still missing is computed."""
        if self.settle is not None:
            self.settle()
        return self._numbers

    def samples_of(self, tensor: int) -> Samples:
        """Return what is kept of a tensor's values."""
        if self.samples[tensor] is None and self.settle is not None:
            self.settle()
        samples = self.samples[tensor]
        if isinstance(samples, Samples):
            return samples
        whole = self.whole(tensor)
        return Samples(whole, whole)

    def whole(self, tensor: int) -> Sample:
        """Return all values of a tensor that was added whole."""
        form, values = self.form_of(tensor), self.samples[tensor]
        assert isinstance(values, bytes)
        shape = tuple(size for size in form.shape if size is not None)  # none of them is nested
        return Sample("f" if form.dtype == "float32" else "d", shape, values)

    def is_function(self, call: int) -> bool:
        """Tell whether a call is one of a tensor function, not of a module."""
        return self.layer[call] in self.functions

    def gradient_of(self, call: int) -> int | None:
        """Return the gradient of the output tensor that a row is about, if there is one."""
        output = self.main_output(call)
        return None if output is None else self.gradients.get(output)

    def own_gradient(self, call: int) -> float | None:
        """Return the norm of the gradients of a layer's own parameters, None without any."""
        own = self.parameter_gradients.get(self.layer[call], {})
        norms = [self.tensor(each).norm for each in own.values() if each is not None]
        return None if not norms or None in norms else hypot(*(norm or 0.0 for norm in norms))

    def layer_of(self, call: int) -> Layer:
        """Return the layer of a call."""
        return self.layers[self.layer[call]]

    def place_of(self, call: int) -> str:
        """Return what a sentence calls the layer of a call."""
        layer = self.layer_of(call)
        return units.layer_name(self.networks[layer.network], layer.name)

    def form_of(self, tensor: int) -> Form:
        """Return what a tensor shares with others of its kind."""
        return self.forms[self.tensor_form[tensor]]

    def statistics_of(self, tensor: int) -> Statistics:
        """Return the numbers of a tensor."""
        width = len(NOTHING_KNOWN)
        return Statistics(*self.numbers[tensor * width : (tensor + 1) * width])

    def tensor(self, index: int) -> TensorRecord:
        """Return the record of a tensor."""
        return tensor_record(
            self.form_of(index),
            self.statistics_of(index),
            self.samples_of(index),
            self.unknown.get(index, ""),
            self.measured.get(index),
        )

    def main_output(self, call: int) -> int | None:
        """Return the output tensor that a row is about: the first numeric one, else the first."""
        outputs = self.outputs[call]
        for tensor in outputs:
            if self.form_of(tensor).dtype.startswith(("float", "bfloat", "complex")):
                return tensor
        return outputs[0] if outputs else None

    def nested(self, calls: Iterable[int]) -> Iterator[int]:
        """Yield calls in the order in which they began, each followed by those made within it.

        Only where several threads called layers is this another order.
        """
        children: dict[int, list[int]] = {}
        for call in calls:
            children.setdefault(self.parent[call], []).append(call)
        pending = children.pop(-1, [])[::-1]
        while pending:
            call = pending.pop()
            yield call
            pending += children.pop(call, [])[::-1]

    def returned(self, calls: Iterable[int]) -> Iterator[int]:
        """Yield the calls in the order in which they ended: children before their parents."""
        running: list[int] = []
        for call in self.nested(calls):
            while running and self.depth[running[-1]] >= self.depth[call]:
                yield running.pop()
            running.append(call)
        yield from reversed(running)

    def holds_nonfinite(self) -> bool:
        """Tell whether any tensor at all holds NaN or Inf."""
        width = len(NOTHING_KNOWN)
        return any(v > 0 for place in (5, 6) for v in self.numbers[place::width])

    def nonfinite(self, tensors: tuple[int, ...]) -> tuple[int, int]:
        """Return how many values of the tensors are NaN, and how many are infinite."""
        width = len(NOTHING_KNOWN)
        nan = inf = 0.0
        for tensor in tensors:
            numbers = self.numbers[tensor * width + 5 : tensor * width + 7]
            if not isnan(numbers[0]):
                nan, inf = nan + numbers[0], inf + numbers[1]
        return int(nan), int(inf)

    def spoiled(self, tensors: tuple[int, ...]) -> bool:
        """Tell whether an input is infinite where that means something is wrong.

        An attention mask is not: its infinite values are -Inf, its finite ones at most 0.
        """
        for tensor in tensors:
            numbers = self.statistics_of(tensor)
            mask = numbers.inf == numbers.negative_inf and numbers.max <= 0
            if numbers.inf > 0 and not mask:
                return True
        return False

    def makes_nonfinite(self, call: int) -> bool:
        """Tell whether a call returned NaN from inputs without NaN, or Inf from finite ones."""
        out_nan, out_inf = self.nonfinite(self.outputs[call])
        if not out_nan and not out_inf:
            return False
        in_nan, _ = self.nonfinite(self.inputs[call])
        if in_nan:
            return False
        return bool(out_nan) or not self.spoiled(self.inputs[call])

    def first_nonfinite(self) -> int | None:
        """Return the call that was the first to return NaN or Inf that it did not get."""
        if not self.holds_nonfinite():
            return None
        calls = self.returned(range(len(self)))
        return next((call for call in calls if self.makes_nonfinite(call)), None)
