"""The columns of a run: one entry a call, one entry a tensor that was seen."""

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice, starmap
from math import hypot, nan
from threading import RLock
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from nnmagic import units
from nnmagic.records import Sample, Samples, TensorRecord
from nnmagic.tensor_numbers import NOTHING_KNOWN, Form, Statistics, tensor_record
from nnmagic.units import Shape

RUNNING, FINISHED, FAILED, STOPPED = range(4)
"""How a call ended; a recomputation is stopped once the backward has what it needs of it."""


ITS_OWN: Any = object()
"""In place of a shape: that of the one tensor that was given, or returned."""

ROOM = array("d", [nan] * 64 * len(Statistics._fields))
"""Room for the numbers of tensors to come."""

THEIR_OWN: Any = object()
"""In place of a shape: those of several tensors, in a tuple."""

WIDTH = 10
"""How many columns of calls there are, besides that of the shapes."""

MOST_WAITING = 1024 * WIDTH
"""So many entries are written into the columns at once."""

T = TypeVar("T")


class Layer(NamedTuple):
    """What a call says of its layer: its network's index, its dotted name, its class name."""

    network: int
    name: str
    type: str


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


class Folded(Protocol):
    """What is kept of a tensor's values, in another form."""

    def samples(self) -> Samples:
        """Return the samples."""
        ...


class Column(Generic[T]):
    """A column of calls, complete whenever it is read."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.stored = f"_{name}"

    def __get__(self, log: "TraceLog", owner: type | None = None) -> T:
        if log.waiting:
            log.flush()
        return getattr(log, self.stored)


class TraceLog:
    """Append-only columns that a recorder fills and a `Trace` reads.

    Calls are numbered in the order in which they began, a parent before its children; tensors in
    the order in which they were first seen. A tensor that passes from one layer to the next
    unchanged is one entry. While a network runs, as little as can be is done: calls wait in a list
    until there are many, or until somebody reads a column.

    Args:
        title: what it is of.
        lock: what the recorder holds while it writes; others may read from another thread.

    Attributes:
        count: how many calls there are.
        waiting: what is not in the columns yet, the entries of a call after those of the other.
        constant: the outermost calls that returned the same for all items of a batch that differ.
        tainted: for a call that made NaN or Inf, which of its parameters and buffers held some.
    """

    __slots__ = (
        "_depth",
        "_ended",
        "_input_shape",
        "_inputs",
        "_layer",
        "_layers",
        "_numbers",
        "_output_shape",
        "_outputs",
        "_parent",
        "_place",
        "_places",
        "_shapes",
        "_step",
        "constant",
        "count",
        "failures",
        "forms",
        "forms_seen",
        "functions",
        "graded",
        "gradients",
        "layers_seen",
        "lock",
        "measured",
        "networks",
        "notes",
        "parameter_gradients",
        "places_seen",
        "raised",
        "recomputed",
        "samples",
        "settle",
        "shapes_seen",
        "tainted",
        "tensor_form",
        "title",
        "unknown",
        "waiting",
    )

    layer = Column[array]()
    step = Column[array]()
    depth = Column[array]()
    parent = Column[array]()
    place = Column[array]()
    input_shape = Column[array]()
    inputs = Column[list[tuple[int, ...]]]()
    output_shape = Column[array]()
    outputs = Column[list[tuple[int, ...]]]()
    ended = Column[bytearray]()
    shapes = Column[list[Shape]]()

    def __init__(self, title: str, lock: AbstractContextManager[Any] | None = None) -> None:
        self.title = title
        self.lock = lock or RLock()
        self.notes: list[str] = []
        self.networks: list[str] = []
        self.layers_seen: dict[tuple[int, str, str], int] = {}
        self.shapes_seen: dict[Any, int] = {}
        self.places_seen: dict[tuple[str, int], tuple[int, Callable[[str, int], str]]] = {}
        self.waiting: list[Any] = []
        self.count = 0
        self._layers: list[Layer] = []
        self._shapes: list[Shape] = []
        self._places: list[str] = []
        self._layer = array("l")
        self._step = array("q")
        self._depth = array("l")
        self._parent = array("l")
        self._place = array("l")
        self._input_shape = array("l")
        self._inputs: list[tuple[int, ...]] = []
        self._output_shape = array("l")
        self._outputs: list[tuple[int, ...]] = []
        self._ended = bytearray()
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
        self.samples: list[Samples | Folded | bytes | None] = []
        self.settle: Callable[[], None] | None = None
        self.measured: dict[int, int] = {}
        self.unknown: dict[int, str] = {}
        self.shape_index(None)

    def __len__(self) -> int:
        return self.count

    def __getstate__(self) -> dict[str, Any]:
        # what is still to be written
        self.numbers, self.layer, self.layers, self.places  # noqa: B018
        return {name: getattr(self, name) for name in self.__slots__} | {
            "lock": None,
            "settle": None,
            "places_seen": {},
            "samples": [
                each if isinstance(each, bytes) else self.samples_of(index)
                for index, each in enumerate(self.samples)
            ],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.lock = RLock()

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
        return self.layers_seen.setdefault((network, name, type_name), len(self.layers_seen))

    def shape_index(self, shape: Shape) -> int:
        """Return the number of a shape, a new one at the first sight."""
        try:
            index = self.shapes_seen.setdefault(shape, len(self._shapes))
        except TypeError:  # a dict inside
            index = self.shapes_seen.setdefault(repr(shape), len(self._shapes))
        if index == len(self._shapes):
            self._shapes.append(shape)
        return index

    def place_index(self, path: str, line: int, text: Callable[[str, int], str]) -> int:
        """Return the number of a place in the code, `text` says how it is shown."""
        return self.places_seen.setdefault((path, line), (len(self.places_seen), text))[0]

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
        if len(self.waiting) == MOST_WAITING:
            self.flush()
        self.waiting += layer, step, depth, parent, place, input_shape, inputs, None, (), RUNNING
        self.count += 1
        return self.count - 1

    def flush(self) -> None:
        """Write what waits into the columns."""
        with self.lock:
            rows, self.waiting = self.waiting, []
            if not rows:  # another thread was here before
                return
            layers, steps, depths, parents, places, *others = (rows[i::WIDTH] for i in range(WIDTH))
            self._layer.extend(layers)
            self._step.extend(steps)
            self._depth.extend(depths)
            self._parent.extend(parents)
            self._place.extend(places)
            given, inputs, returned, outputs, ended = others
            self._input_shape.extend(self._shape_numbers(given, inputs))
            self._inputs.extend(inputs)
            self._output_shape.extend(self._shape_numbers(returned, outputs))
            self._outputs.extend(outputs)
            self._ended.extend(ended)

    def _shape_numbers(
        self, shapes: Iterable[Shape], tensors: Iterable[tuple[int, ...]]
    ) -> Iterator[int]:
        known: dict[Any, int] = {}
        form = self.tensor_form
        for shape, own in zip(shapes, tensors, strict=True):
            key: Any
            if shape is ITS_OWN:
                key = form[own[0]]
                if key not in known:
                    known[key] = self.shape_index(self.forms[key].shape)
            elif shape is THEIR_OWN:
                key = tuple(form[each] for each in own)
                if key not in known:
                    known[key] = self.shape_index(tuple(self.forms[each].shape for each in key))
            else:
                yield self.shape_index(shape)
                continue
            yield known[key]

    def say(self, note: str) -> None:
        """Add a line below the table, unless it is there."""
        if note not in self.notes:
            self.notes.append(note)

    def drop_last(self) -> None:
        """Take back the call that was added last."""
        self.count -= 1
        if self.waiting:
            del self.waiting[-WIDTH:]
            return
        for column in (self._layer, self._step, self._depth, self._parent, self._place):
            column.pop()
        self._input_shape.pop()
        self._inputs.pop()
        self._output_shape.pop()
        self._outputs.pop()
        self._ended.pop()

    def finish(self, call: int, output_shape: Shape, outputs: tuple[int, ...]) -> None:
        """Note what a call returned."""
        end = (call - len(self._layer) + 1) * WIDTH
        if end > 0:
            waiting = self.waiting
            waiting[end - 3], waiting[end - 2], waiting[end - 1] = output_shape, outputs, FINISHED
            return
        (self._output_shape[call],) = self._shape_numbers((output_shape,), (outputs,))
        self._outputs[call] = outputs
        self._ended[call] = FINISHED

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
        self.samples.append(values)
        return len(self.samples) - 1

    def add_unmeasured(self, form: int, samples: Folded | None = None) -> int:
        """Append a tensor of the form of that number, its numbers later; return its own."""
        self.tensor_form.append(form)
        self.samples.append(samples)
        return len(self.samples) - 1

    def unsettled(self) -> array:
        """Return the numbers of all tensors as they are, NaN where they are to be computed.

        Behind them is room for more: also NaN.
        """
        numbers, needed = self._numbers, len(self.samples) * len(NOTHING_KNOWN)
        while len(numbers) < needed:
            numbers.extend(ROOM)
        return numbers

    def address_of(self, tensor: int) -> int:
        """Return where the numbers of a tensor go: good until the lock is let go."""
        width = len(NOTHING_KNOWN)
        numbers = self._numbers
        if len(numbers) < (tensor + 1) * width:
            self.unsettled()
        return numbers.buffer_info()[0] + tensor * width * numbers.itemsize

    def set_numbers(self, tensor: int, numbers: Iterable[float]) -> None:
        """Set the numbers of a tensor that was added without."""
        width = len(NOTHING_KNOWN)
        self.unsettled()[tensor * width : (tensor + 1) * width] = array("d", numbers)

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
        self.samples.append(samples)
        index = len(self.samples) - 1
        self.set_numbers(index, numbers)
        if unknown:
            self.unknown[index] = unknown
        if measured is not None:
            self.measured[index] = measured
        return index

    # Reading.

    @property
    def numbers(self) -> array:
        """The numbers of all tensors, one after the other; what is still missing is computed."""
        with self.lock:
            if self.settle is not None:
                self.settle()
            numbers, known = self.unsettled(), len(self.samples) * len(NOTHING_KNOWN)
            if len(numbers) > known:
                del numbers[known:]
            return numbers

    @property
    def layers(self) -> list[Layer]:
        """The layers that were called, in the order of their numbers."""
        if len(self._layers) < len(self.layers_seen):
            with self.lock:
                known = len(self._layers)
                self._layers.extend(starmap(Layer, islice(self.layers_seen, known, None)))
        return self._layers

    @property
    def places(self) -> list[str]:
        """The places in the code that made calls, as texts."""
        if len(self._places) < len(self.places_seen):
            with self.lock:
                new = islice(self.places_seen.items(), len(self._places), None)
                self._places.extend(text(*place) for place, (_, text) in new)
        return self._places

    def samples_of(self, tensor: int) -> Samples:
        """Return what is kept of a tensor's values."""
        samples = self.samples[tensor]
        if samples is None and self.settle is not None:
            with self.lock:
                self.settle()
            samples = self.samples[tensor]
        if samples is None:  # an interrupt came before anything was computed
            return Samples(None, None)
        if not isinstance(samples, bytes):
            return samples if isinstance(samples, Samples) else samples.samples()
        whole = self.whole(tensor)
        return Samples(whole, whole)

    def whole(self, tensor: int) -> Sample:
        """Return all values of a tensor that was added whole."""
        form, values = self.form_of(tensor), self.samples[tensor]
        assert isinstance(values, bytes)
        shape = tuple(size for size in form.shape if size is not None)  # none of them is nested
        return Sample(self.letter(tensor), shape, values)

    def letter(self, tensor: int) -> str:
        """Return the format of the values of a tensor that was added whole."""
        return "f" if self.form_of(tensor).dtype == "float32" else "d"

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
