"""A traced call set beside the same call of another side, with every value compared."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from nnmagic.comparing.follower import Follower, Found
from nnmagic.comparing.leader import followed, lead
from nnmagic.comparing.lockstep import Beside, Isolated, Item, worst_of
from nnmagic.comparing.other_sides import (
    MOST_ITEMS,
    CannotCompareError,
    call_of_other,
    fresh,
    in_dtype,
    items_of,
    other_side,
    snapshot,
    without_dropout,
)
from nnmagic.comparing.watched_run import CallKey, NetworkCall
from nnmagic.comparing.whole_values import Differences
from nnmagic.contexts import block
from nnmagic.display.units import plural
from nnmagic.network.failures.mismatch import first_line
from nnmagic.network.naming import Naming
from nnmagic.network.nested_values import tensors_in
from nnmagic.network.preserve import preserved
from nnmagic.network.random_state import RandomState
from nnmagic.recording.recorder import Recorder
from nnmagic.recording.run import recording
from nnmagic.records.call_log import TraceLog
from nnmagic.records.comparison.alignment import MatchedCalls, Renaming, aligned
from nnmagic.records.comparison.comparison import (
    Comparison,
    kept_measured,
    shapes_measured,
)
from nnmagic.records.comparison.tolerance import EPSILONS
from nnmagic.records.comparison.verdicts import Measured
from nnmagic.records.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How two sides are compared.

    Attributes:
        isolate: whether each layer of the other side also runs on this side's input.
        float64: whether both sides run in float64 too; they do also where a call seems to err.
        rename: what the other side calls this side's layers.
        recorded: what both sides record, as `recording` takes it.
    """

    isolate: bool = False
    float64: bool = False
    rename: Renaming | None = None
    recorded: Mapping[str, Any] = field(default_factory=dict)


class Against:
    """A call of a network that is about to be traced, and what it is to be compared with.

    It is made before the call, and keeps copies of the network's buffers and of the arguments as
    they are then; parameters are shared.

    Args:
        mine: the call.
        what: a word of `WORDS`, or another network.
        title: what the other side is called.
        how: how the two are compared.

    Raises:
        CannotCompareError: if there is no other side.
    """

    def __init__(self, mine: NetworkCall, what: str | nn.Module, title: str, how: How) -> None:
        self.what, self.title, self.how = what, title, how
        self.random = RandomState()
        self.called = mine.network
        self.mine = snapshot(mine)
        self.items = items_of(self.mine) if what == "items" else []
        if self.items:
            without_dropout(self.mine.network)
        if isinstance(what, nn.Module):
            self.other = call_of_other(self.mine, what)
        elif self.items:
            self.other = self.items[0]
        else:
            self.other = other_side(self.mine, what)
        self._runs: Runs | None = None

    @block
    def beside(self) -> Iterator[None]:
        """Let the other side run beside the traced call, which is made in the block.

        A copy can: its calls have the same names. Another network is recorded first, to tell which
        calls are the same, and items run beside a batch without dropout: later, and a copy of this
        side once more.
        """
        if not isinstance(self.what, str) or self.items or self.what == "compiled":
            yield
            return
        self.random.set()
        beside = Beside(fresh(self.other), None, self._recording(self.other))
        isolated = Isolated(snapshot(self.other)) if self.how.isolate else None
        self._runs = Runs([beside], isolated)
        with followed(self.called, self._runs.followers):
            yield

    def compared(self, trace: Trace) -> Comparison:
        """Return the comparison with the trace of the call that was made `beside` the other side.

        What did not run there runs now.
        """
        after = RandomState()
        try:
            return (
                self._with_compiled(trace) if self.what == "compiled" else self._with_layers(trace)
            )
        finally:
            after.set()

    def _with_layers(self, trace: Trace) -> Comparison:
        mine, runs, notes = trace.log, self._runs, list[str]()
        if runs is not None:
            other = runs.beside[0].entered.log
            other.networks[:] = mine.networks[: len(other.networks)]
        else:
            other = self._traced(self.other, notes)
        # a copy's layers have the names of this side's
        pairs = aligned(mine, other, None if runs is not None else self.how.rename)
        twins = Twins(mine, other, pairs)
        runs = runs or self._runs_later(twins.of_other, notes)
        notes += [] if notes else runs.failures
        if self.items:
            notes.append(self._items_note())
        comparison = twins.compared(*worst_of(runs.beside))
        if runs.isolated is not None:
            comparison = twins.with_own(comparison, runs.isolated)
        is_suspect = comparison.first_divergence is not None and _is_wide(mine, other)
        if self.how.float64 or (is_suspect and not self.items):
            comparison = self._in_float64(comparison, twins, notes)
        return replace(comparison, notes=tuple(dict.fromkeys(notes)))

    def _recording(self, call: NetworkCall) -> AbstractContextManager[Recorder]:
        naming = Naming(lambda: [(type(call.network).__name__, call.network)])
        return recording(self.title, naming, **self.how.recorded)

    def _traced(self, call: NetworkCall, notes: list[str]) -> TraceLog:
        """Return the record of the other side; where it fails, of what ran."""
        self.random.set()
        recorder = None
        try:
            with preserved(call.network), self._recording(call) as recorder:
                fresh(call)()
        except Exception as error:  # noqa: BLE001 - the comparison shows how far it came
            notes += [f"the other side failed: {_named(error)}"]
        assert recorder is not None
        return recorder.log

    def _runs_later(self, twins: dict[CallKey, CallKey], notes: list[str]) -> "Runs":
        """Run the other side, or the items, beside a copy of this side.

        The user's network can be in one run at a time.
        """
        self.random.set()
        if self.items:
            items = [Item(fresh(each), number, twins) for number, each in enumerate(self.items)]
            self._lead(self.mine, items, notes)
            return Runs(items)
        beside = Beside(fresh(self.other), twins)
        self._lead(self.mine, [beside], notes)
        if not self.how.isolate:
            return Runs([beside])
        self.random.set()
        isolated = Isolated(fresh(self.other), twins)
        self._lead(self.mine, [isolated], notes)
        return Runs([beside], isolated)

    def _lead(self, call: NetworkCall, followers: Sequence[Follower], notes: list[str]) -> None:
        error = lead(fresh(call), followers)
        if error is not None:
            notes.append(f"a copy of this side failed: {_named(error)}")

    def _items_note(self) -> str:
        first = "the first " if len(self.items) == MOST_ITEMS else ""
        return f"{first}{plural(len(self.items), 'item')} ran alone; dropout is off on both sides"

    def _in_float64(self, comparison: Comparison, twins: "Twins", notes: list[str]) -> Comparison:
        """Run both sides in float64, and tell which differences vanish there."""
        try:
            mine, other = (in_dtype(each, torch.float64) for each in (self.mine, self.other))
        except CannotCompareError as error:
            notes.append(f"not run in float64: {error}")
            return comparison
        self.random.set()
        run = Beside(fresh(other), twins.of_other)
        failures = list[str]()
        self._lead(mine, [run], failures)
        failures += Runs([run]).failures
        notes += [] if notes else [f"in float64 {each}" for each in failures]
        return twins.with_float64(comparison, run)

    def _with_compiled(self, trace: Trace) -> Comparison:
        """Compare what the network returns with what it does compiled; layers cannot be seen."""
        mine, call = trace.log, self.other
        self.random.set()
        options: dict[str, Any] = {"fallback_random": True}  # the random numbers of eager mode
        compiled = torch.compile(call.network.get_submodule(call.layer), options=options)
        function = getattr(compiled, call.method) if call.method else compiled
        made = fresh(call)
        try:
            with preserved(call.network):
                output = function(*made.args, **made.kwargs)
        except Exception as error:  # noqa: BLE001 - a compiler refuses in its own ways
            raise CannotCompareError(
                f"it cannot be compiled ({type(error).__name__}: {first_line(error)})"
            ) from None
        returned = _Returned(output)
        returned.__class__ = type(mine.layers[mine.layer[0]].type, (_Returned,), {})
        label = mine.networks[0]
        naming = Naming(lambda: [(label, returned)])
        with recording(self.title, naming, **self.how.recorded) as recorder:
            returned(*call.args, **call.kwargs)
        root = mine.roots[-1]
        pairs = tuple(
            pair
            for pair in aligned(mine, recorder.log, {mine.layer_of(root).name: ""})
            if pair.other is not None
        )
        measured = Measured(
            inputs=kept_measured(mine, recorder.log, pairs[0]).inputs,
            output=Differences().worst(tensors_in(trace.output)[1], tensors_in(output)[1]),
        )
        note = "of a compiled network only what it returns can be compared"
        return Comparison(
            mine=mine, other=recorder.log, pairs=pairs, measured=(measured,), notes=(note,)
        )


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of the other side beside one of this side.

    Attributes:
        beside: those on inputs of their own: one, or one of each item.
        isolated: the one each of whose layers gets this side's input.
    """

    beside: Sequence[Beside]
    isolated: Isolated | None = None

    @property
    def followers(self) -> list[Follower]:
        """All of them."""
        return [*self.beside, *filter(None, (self.isolated,))]

    @property
    def failures(self) -> list[str]:
        """What ended them, a line each."""
        names = ["the other side"] if len(self.beside) == 1 else []
        names = names or [f"item {number}" for number in range(len(self.beside))]
        names += ["the isolated side"]
        return [
            f"{name} failed: {_named(each.error)}"
            for name, each in zip(names, self.followers, strict=False)
            if each.error is not None
        ]


class _Returned(nn.Module):
    """Stands for a network whose layers cannot be seen: it returns what that has returned."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.output


class Twins:
    """Which call of this side stands for which of the other, by their keys.

    Args:
        mine: this run.
        other: the other run.
        pairs: which calls are the same.

    Attributes:
        of_other: by the other side's call this side's.
    """

    def __init__(self, mine: TraceLog, other: TraceLog, pairs: tuple[MatchedCalls, ...]) -> None:
        left, right = _keys(mine), _keys(other)
        self._mine, self._other, self._pairs = mine, other, pairs
        self._keys: list[CallKey | None] = []
        self.of_other: dict[CallKey, CallKey] = {}
        for a, b, _ in pairs:
            key = left[a] if a in left and b in right else None
            self._keys.append(key)
            if key is not None and b is not None:
                self.of_other[right[b]] = key

    def compared(self, inputs: Found, outputs: Found) -> Comparison:
        """Return what runs in lockstep measured of each pair; else what the kept values tell."""
        mine, other, found = self._mine, self._other, list[Measured]()
        for key, pair in zip(self._keys, self._pairs, strict=True):
            if key is not None and outputs.get(key) is not None:
                shapes = shapes_measured(mine, other, pair)
                found.append(replace(shapes, inputs=inputs.get(key), output=outputs[key]))
            else:
                found.append(kept_measured(mine, other, pair))
        return Comparison(mine=mine, other=other, pairs=self._pairs, measured=tuple(found))

    def with_own(self, comparison: Comparison, run: Isolated) -> Comparison:
        """Return the comparison with the own errors of the layers."""
        changed = self._changed(comparison, lambda key: {"own": run.outputs.get(key)})
        return replace(changed, isolated=True)

    def with_float64(self, comparison: Comparison, run: Beside) -> Comparison:
        """Return the comparison with the errors in float64."""

        def error(key: CallKey) -> dict[str, Any]:
            output = run.outputs.get(key)
            return {"float64": None if output is None else output.error}

        return self._changed(comparison, error)

    def _changed(
        self, comparison: Comparison, change: Callable[[CallKey], dict[str, Any]]
    ) -> Comparison:
        measured = (
            before if key is None else replace(before, **change(key))
            for key, before in zip(self._keys, comparison.measured, strict=True)
        )
        return replace(comparison, measured=tuple(measured))


def _keys(log: TraceLog) -> dict[int, CallKey]:
    """Return the key of each call of a module."""
    seen, keys = Counter[str](), {}
    for call in range(len(log)):
        if not log.is_function(call) and call not in log.recomputed:
            name = log.layer_of(call).name
            keys[call] = CallKey(name, seen[name])
            seen[name] += 1
    return keys


def _is_wide(*logs: TraceLog) -> bool:
    """Tell whether all floats of these runs have at least the precision of float32."""
    dtypes = {each.dtype for log in logs for each in log.tensors.metadata}
    floats = {each for each in dtypes if "float" in each or "complex" in each}
    return all(EPSILONS.get(each, 1.0) <= EPSILONS["float32"] for each in floats)


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
