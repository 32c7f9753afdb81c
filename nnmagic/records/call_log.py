"""The calls of a run: one entry each."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from nnmagic.display import units
from nnmagic.display.units import Shape
from nnmagic.records.attention import AttentionMap, FirstItem
from nnmagic.records.failure import Failure
from nnmagic.records.finding import Finding
from nnmagic.records.held_tensor import HeldTensor
from nnmagic.records.live_fields import LIVE
from nnmagic.records.measures import Measures
from nnmagic.records.tensor_log import TensorLog

RUNNING, FINISHED, FAILED, STOPPED = range(4)
"""How a call ended; a recomputation is stopped once the backward has what it needs of it."""

INDICES = partial(array, "l")
"""Makes an empty column of indices."""

NO_SHAPE = 0
"""The number of the shape of no tensor at all, None."""

LIVE_DICTS = ("first_items", "layers_seen", "shapes_seen", "_shapes_by_metadata")
"""What is of no use without the recorder, or without the networks."""


class Layer(NamedTuple):
    """What a call says of its layer: its network's index, its dotted name, its class name."""

    network: int
    name: str
    type: str


class Series(NamedTuple):
    """What the iterations are counted of: root calls from one place in the code, in one mode.

    Attributes:
        network: the index of the network.
        place: the file and line, or the source line, of the user's code; empty where none is known.
        source: the call expression there, as it was typed; empty likewise.
        training: whether the network was in training mode; None of a function.
        grad: whether gradients were enabled.
        line: the number of the line, in its file or its cell; 0 where none is known.
    """

    network: int
    place: str
    source: str
    training: bool | None
    grad: bool
    line: int = 0


@dataclass(slots=True)
class TraceLog:
    """Append-only columns that a recorder fills and a `Trace` reads.

    Calls are numbered in the order in which they began, a parent before its children; tensors in
    the order in which they were first seen, one that passes from layer to layer unchanged once.
    A recorder holds the lock while it writes. Another thread that reads takes it too: calls that
    are left out of a long run change the places of all others.

    Attributes:
        title: what it is of, e.g. `"NeuralNetwork on torch.rand(1, 28, 28)"`.
        tensors: the tensors that the calls got and returned.
        notes: the lines below the table.
        networks: the labels of the networks.
        layers, shapes, places: the layers that were called, the nested shapes, and the places in
            the code that made calls, each once; the columns hold their indices.
        layer, step, depth, parent, place, input_shape, output_shape, ended: one entry a call. The
            parent is -1 outside every other call; calls of several threads may alternate, so that
            the depths alone do not tell it.
        inputs, outputs: for each call the numbers of the tensors.
        input_names, output_names: by layer and shape, what the tensors are called there that it
            got, where there were several, or returned, where it was not a tensor alone.
        series, begun, recorded, stride: what iterations are counted of, how many of each began, how
            many of those were recorded, and of which only every so-many-th is kept in a long run.
        kept_numbers, left_out: of a log that calls were left out of, the numbers in the run of the
            first calls; those of all later ones are by `left_out` greater than their places.
        roots, root_series, root_iteration: the calls that have no parent, and which iteration of
            which series each is of.
        failures: for each call that ended by an exception, why.
        raised: the call whose exception ended the run.
        ended_by: why the run ended by an exception that no call raised.
        recomputed: the calls that a backward made to compute a checkpoint again.
        functions: the layers that are tensor functions.
        constant: the outermost calls that returned the same for all items of a batch that differ.
        nonfinite_parameters: the parameters and buffers with NaN or Inf of a call that made some.
        parameters: the shapes of the parameters of the layers that hold some of their own.
        custom: the layers whose forward is not torch's own.
        findings: what is wrong with the run, or worth knowing, that only the run itself could tell.
        masked: for each call whose mask leaves a query no key, which one.
        attention: for each call whose attention was worked out, the map; of the last iteration.
        first_items: what the map of a layer's call can be worked out from later; likewise.
        graded: whether gradients are recorded.
        gradients: for each tensor that got a gradient, the number of that.
        parameter_gradients: for each layer the gradients of its own parameters, by their names.
        measures: the loss and, with gradients, what steps did to parameters, by root call.
        rank, world_size: which of how many processes it is of; None outside a process group.
        held_before, held: what it held at each network's first call, and at the end; or empty.
    """

    title: str
    tensors: TensorLog = field(default_factory=TensorLog)
    notes: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=lambda: [None])
    places: list[str] = field(default_factory=list)
    layer: "array[int]" = field(default_factory=INDICES)
    step: "array[int]" = field(default_factory=partial(array, "q"))
    depth: "array[int]" = field(default_factory=INDICES)
    parent: "array[int]" = field(default_factory=INDICES)
    place: "array[int]" = field(default_factory=INDICES)
    input_shape: "array[int]" = field(default_factory=INDICES)
    inputs: list[tuple[int, ...]] = field(default_factory=list)
    output_shape: "array[int]" = field(default_factory=INDICES)
    outputs: list[tuple[int, ...]] = field(default_factory=list)
    input_names: dict[tuple[int, int], tuple[str, ...]] = field(default_factory=dict)
    output_names: dict[tuple[int, int], tuple[str, ...]] = field(default_factory=dict)
    ended: bytearray = field(default_factory=bytearray)
    series: list[Series] = field(default_factory=list)
    begun: "array[int]" = field(default_factory=INDICES)
    recorded: "array[int]" = field(default_factory=INDICES)
    stride: "array[int]" = field(default_factory=INDICES)
    kept_numbers: "array[int]" = field(default_factory=partial(array, "q"))
    left_out: int = 0
    roots: "array[int]" = field(default_factory=INDICES)
    root_series: "array[int]" = field(default_factory=INDICES)
    root_iteration: "array[int]" = field(default_factory=INDICES)
    failures: dict[int, Failure] = field(default_factory=dict)
    raised: int | None = None
    ended_by: Failure | None = None
    recomputed: set[int] = field(default_factory=set)
    functions: set[int] = field(default_factory=set)
    constant: set[int] = field(default_factory=set)
    nonfinite_parameters: dict[int, tuple[str, ...]] = field(default_factory=dict)
    parameters: dict[int, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    custom: set[int] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    masked: dict[int, str] = field(default_factory=dict)
    attention: dict[int, AttentionMap] = field(default_factory=dict)
    graded: bool = False
    gradients: dict[int, int] = field(default_factory=dict)
    parameter_gradients: dict[int, dict[str, int | None]] = field(default_factory=dict)
    measures: Measures = field(default_factory=Measures)
    rank: int | None = None
    world_size: int | None = None
    held_before: list[HeldTensor] = field(default_factory=list)
    held: list[HeldTensor] = field(default_factory=list)
    first_items: dict[int, FirstItem] = field(default_factory=dict, compare=False, metadata=LIVE)
    layers_seen: dict[tuple[int, str, str], int] = field(
        default_factory=dict, compare=False, repr=False, metadata=LIVE
    )
    shapes_seen: dict[Any, int] = field(
        default_factory=lambda: {None: NO_SHAPE}, compare=False, repr=False, metadata=LIVE
    )
    _shapes_by_metadata: dict[Any, int] = field(
        default_factory=dict, compare=False, repr=False, metadata=LIVE
    )

    def __post_init__(self) -> None:
        for of in range(len(self.recorded), len(self.series)):  # a file of before there were counts
            roots = zip(self.root_series, self.root_iteration, strict=False)
            self.recorded.append(len({number for series, number in roots if series == of}))
            self.stride.append(1)

    def __len__(self) -> int:
        return len(self.ended)

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        with self.lock:
            state = {name: getattr(self, name) for name in self.__slots__}
            return None, state | {name: {} for name in LIVE_DICTS}

    def __hash__(self) -> int:
        return hash(self.title)

    @property
    def failure(self) -> Failure | None:
        """Why the run ended by an exception, in a layer or outside all of them; else None."""
        return self.ended_by if self.raised is None else self.failures[self.raised]

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """What a recorder holds while it writes."""
        return self.tensors.lock

    # Writing: for recorders only.

    def layer_index(self, network: int, name: str, type_name: str) -> int:
        """Return the number of a layer, a new one at the first sight."""
        index = self.layers_seen.setdefault((network, name, type_name), len(self.layers))
        if index == len(self.layers):
            self.layers.append(Layer(network, name, type_name))
        return index

    def shape_index(self, shape: Shape) -> int:
        """Return the number of a nested shape, a new one at the first sight."""
        try:
            index = self.shapes_seen.setdefault(shape, len(self.shapes))
        except TypeError:  # a dict inside
            index = self.shapes_seen.setdefault(repr(shape), len(self.shapes))
        if index == len(self.shapes):
            self.shapes.append(shape)
        return index

    def shape_index_of(self, tensor: int) -> int:
        """Return the number of the shape of a tensor."""
        metadata = self.tensors.metadata_index[tensor]
        index = self._shapes_by_metadata.get(metadata)
        if index is None:
            index = self.shape_index(self.tensors.metadata[metadata].shape)
            self._shapes_by_metadata[metadata] = index
        return index

    def shapes_index_of(self, tensors: tuple[int, ...]) -> int:
        """Return the number of the shapes of several tensors, in a tuple."""
        metadata = tuple([self.tensors.metadata_index[each] for each in tensors])
        index = self._shapes_by_metadata.get(metadata)
        if index is None:
            index = self.shape_index(tuple(self.tensors.metadata[each].shape for each in metadata))
            self._shapes_by_metadata[metadata] = index
        return index

    def add_series(self, series: Series) -> int:
        """Append what iterations are counted of; return its number."""
        self.series.append(series)
        self.recorded.append(0)
        self.stride.append(1)
        self.begun.append(0)
        return len(self.begun) - 1

    def add_root(self, series: int, iteration: int) -> None:
        """Note of which iteration the call is that is added next, which has no parent."""
        self.roots.append(len(self.ended))
        self.root_series.append(series)
        self.root_iteration.append(iteration)

    def add_call(
        self,
        layer: int,
        step: int,
        depth: int,
        parent: int,
        place: int,
        input_shape: int,
        inputs: tuple[int, ...],
    ) -> int:
        """Append a call that has begun; return its number."""
        index = len(self.ended)
        self.layer.append(layer)
        self.step.append(step)
        self.depth.append(depth)
        self.parent.append(parent)
        self.place.append(place)
        self.input_shape.append(input_shape)
        self.inputs.append(inputs)
        self.output_shape.append(NO_SHAPE)
        self.outputs.append(())
        self.ended.append(RUNNING)  # last: from now on readers see the call
        return index

    def say(self, note: str) -> None:
        """Add a line below the table, unless it is there."""
        if note not in self.notes:
            self.notes.append(note)

    def drop_last(self) -> None:
        """Take back the call that was added last."""
        for column in (self.ended, self.outputs, self.output_shape, self.inputs, self.input_shape):
            column.pop()
        for column in (self.place, self.parent, self.depth, self.step, self.layer):
            column.pop()

    def finish(self, call: int, output_shape: int, outputs: tuple[int, ...]) -> None:
        """Note what a call returned."""
        self.output_shape[call] = output_shape
        self.outputs[call] = outputs
        self.ended[call] = FINISHED

    def fail(self, call: int, failure: Failure) -> None:
        """Note that a call ended by an exception."""
        self.failures[call] = failure
        self.ended[call] = FAILED

    # Reading.

    def number_of(self, call: int) -> int:
        """Return the number of a call in the run: more than its place where calls were left out."""
        return self.kept_numbers[call] if call < len(self.kept_numbers) else call + self.left_out

    def place_of_number(self, number: int) -> int | None:
        """Return where the call of this number in the run stands; None where it was left out."""
        kept = self.kept_numbers
        place = bisect_left(kept, number)
        place = place if place < len(kept) else number - self.left_out
        return place if 0 <= place < len(self) and self.number_of(place) == number else None

    def is_function(self, call: int) -> bool:
        """Tell whether a call is one of a tensor function, not of a module."""
        return self.layer[call] in self.functions

    def is_leaf(self, call: int) -> bool:
        """Tell whether a call calls no other."""
        return call + 1 == len(self) or self.parent[call + 1] != call

    def parents_of(self, calls: Iterable[int]) -> dict[int, int | None]:
        """Return the call that each of some calls was made in, None for a root call."""
        return {call: None if self.parent[call] < 0 else self.parent[call] for call in calls}

    def root_of(self, call: int) -> int:
        """Return the outermost call that a call is part of."""
        while self.parent[call] >= 0:
            call = self.parent[call]
        return call

    def root_of_each(self) -> list[int]:
        """Return that of every call, in the order of the calls."""
        roots: list[int] = []
        for call in range(len(self)):
            parent = self.parent[call]
            roots.append(call if parent < 0 else roots[parent])
        return roots

    def calls_beside(self, call: int) -> range:
        """Return the calls of the root call that a call is part of."""
        root = self.root_of(call)
        place = bisect_right(self.roots, root)
        return range(root, self.roots[place] if place < len(self.roots) else len(self))

    def series_of(self, call: int) -> int:
        """Return what the iteration is counted of that a call is of."""
        return self.series_and_iteration_of(call)[0]

    def iteration_of(self, call: int) -> int:
        """Return the iteration that a call is of."""
        return self.series_and_iteration_of(call)[1]

    def series_and_iteration_of(self, call: int) -> tuple[int, int]:
        """Return what the iteration of a call is counted of, and which one it is."""
        place = bisect_left(self.roots, self.root_of(call))
        return self.root_series[place], self.root_iteration[place]

    def gradient_of(self, call: int) -> int | None:
        """Return the gradient of the output tensor that a row is about, if there is one."""
        output = self.main_output(call)
        return None if output is None else self.gradients.get(output)

    def layer_of(self, call: int) -> Layer:
        """Return the layer of a call."""
        return self.layers[self.layer[call]]

    def name_of(self, call: int) -> str:
        """Return what a sentence calls the layer of a call."""
        layer = self.layer_of(call)
        return units.layer_name(self.networks[layer.network], layer.name)

    def name_with_type(self, call: int) -> str:
        """Return the same with the type of the layer."""
        return units.layer_with_type(self.name_of(call), self.layer_of(call).type)

    def main_output(self, call: int) -> int | None:
        """Return the output tensor that a row is about: the first numeric one, else the first."""
        outputs = self.outputs[call]
        for tensor in outputs:
            if self.tensors.metadata_of(tensor).dtype.startswith(("float", "bfloat", "complex")):
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
