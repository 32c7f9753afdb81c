"""The calls of a run: one entry each."""

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice, starmap
from typing import Any, Generic, NamedTuple, TypeVar

from nnmagic.display import units
from nnmagic.display.units import Shape
from nnmagic.records.record import joint_norm
from nnmagic.records.tensor_log import TensorLog

RUNNING, FINISHED, FAILED, STOPPED = range(4)
"""How a call ended; a recomputation is stopped once the backward has what it needs of it."""

ITS_OWN: Any = object()
"""In place of a shape: that of the one tensor that was given, or returned."""

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
        tensors: what they got and returned.
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
        "functions",
        "graded",
        "gradients",
        "layers_seen",
        "networks",
        "notes",
        "parameter_gradients",
        "places_seen",
        "raised",
        "recomputed",
        "shapes_seen",
        "tainted",
        "tensors",
        "title",
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
        self.tensors = TensorLog(lock)
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
        self.shape_index(None)

    def __len__(self) -> int:
        return self.count

    def __getstate__(self) -> dict[str, Any]:
        self.layer, self.layers, self.places  # noqa: B018 - what is still to be written
        return {name: getattr(self, name) for name in self.__slots__} | {"places_seen": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TraceLog):
            return NotImplemented
        return self.__getstate__() == other.__getstate__()

    def __hash__(self) -> int:
        return hash(self.title)

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """What the recorder holds while it writes; others may read from another thread."""
        return self.tensors.lock

    @lock.setter
    def lock(self, lock: AbstractContextManager[Any]) -> None:
        self.tensors.lock = lock

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
        form, forms = self.tensors.form, self.tensors.forms
        for shape, own in zip(shapes, tensors, strict=True):
            key: Any
            if shape is ITS_OWN:
                key = form[own[0]]
                if key not in known:
                    known[key] = self.shape_index(forms[key].shape)
            elif shape is THEIR_OWN:
                key = tuple(form[each] for each in own)
                if key not in known:
                    known[key] = self.shape_index(tuple(forms[each].shape for each in key))
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

    # Reading.

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

    def is_function(self, call: int) -> bool:
        """Tell whether a call is one of a tensor function, not of a module."""
        return self.layer[call] in self.functions

    def gradient_of(self, call: int) -> int | None:
        """Return the gradient of the output tensor that a row is about, if there is one."""
        output = self.main_output(call)
        return None if output is None else self.gradients.get(output)

    def own_gradient(self, call: int) -> float | None:
        """Return the norm of the gradients of a layer's own parameters, None if unknown."""
        own = self.parameter_gradients.get(self.layer[call], {})
        return joint_norm(
            self.tensors.record(each).norm for each in own.values() if each is not None
        )

    def layer_of(self, call: int) -> Layer:
        """Return the layer of a call."""
        return self.layers[self.layer[call]]

    def place_of(self, call: int) -> str:
        """Return what a sentence calls the layer of a call."""
        layer = self.layer_of(call)
        return units.layer_name(self.networks[layer.network], layer.name)

    def main_output(self, call: int) -> int | None:
        """Return the output tensor that a row is about: the first numeric one, else the first."""
        outputs = self.outputs[call]
        for tensor in outputs:
            if self.tensors.form_of(tensor).dtype.startswith(("float", "bfloat", "complex")):
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
