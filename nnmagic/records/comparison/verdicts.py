"""What is said of each pair of calls: where two runs part, and what only inherits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from nnmagic.records.call_log import TraceLog
from nnmagic.records.comparison.alignment import MatchedCalls
from nnmagic.records.comparison.differences import Difference
from nnmagic.records.comparison.tolerance import Tolerance

AMPLIFIED = 4
"""A call that turns an error of its inputs into one so many times larger errs itself."""

ROUNDING = 1e-4
"""A difference that float64 shrinks to less than this part of it is one of rounding."""

EQUAL = "equal"
WITHIN_ROUNDING = "within rounding"
PARTS = "parts here"
INHERITED = "inherited"
OTHER_SHAPE = "other shape"
FAILED_THERE = "failed in the other"
ONLY_HERE = "only here"
ONLY_THERE = "only in the other"
UNKNOWN = "not compared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of a pair of calls.

    Attributes:
        inputs: how far what they got lies apart; None where that cannot be compared.
        output: how far what they returned lies apart; None likewise.
        own: how far, where the other layer got this side's input; None where that was not tried.
        float64: the error of the output where both sides ran in float64; None likewise.
        gradient: how far the gradients of their outputs lie apart; None where there are none.
        other_shape: whether the shapes differ by more than the number of items.
        failed: whether the other side's call ended by an exception.
    """

    inputs: Difference | None = None
    output: Difference | None = None
    own: Difference | None = None
    float64: float | None = None
    gradient: Difference | None = None
    other_shape: bool = False
    failed: bool = False


class Judge:
    """Finds the first call that errs, and what each pair is to be called.

    A call errs if what it makes differs by more than its tolerance and by more than four times what
    it got. A container's own code gets the container's input and the outputs of the layers that it
    calls, and makes their inputs and its own output: an addition that lacks in a forward is seen
    there, not in the layer that comes after it.

    Args:
        mine: this run.
        pairs: the pairs, in this run's order.
        measured: what was measured of each.
        tolerances: the tolerance of each, None where no output is a float.
        input_tolerance: returns that of what two calls got.
        isolated: whether the other side's layers ran on this side's inputs.

    Attributes:
        first: the place in `pairs` of the first call that errs; None where none does.
        other_inputs: the place of the first call that no other pair makes and that got inputs
            further apart than a cast and what was returned before explain; None where there is
            none, or a call erred before.
        verdicts: for each pair what it is called.
    """

    def __init__(
        self,
        mine: TraceLog,
        pairs: Sequence[MatchedCalls],
        measured: Sequence[Measured],
        tolerances: Sequence[Tolerance | None],
        input_tolerance: Callable[[int, int], Tolerance | None],
        *,
        isolated: bool,
    ) -> None:
        self.mine, self.pairs, self.measured, self.tolerances = mine, pairs, measured, tolerances
        self.input_tolerance, self.isolated = input_tolerance, isolated
        self.places = {pair.mine: i for i, pair in enumerate(pairs) if pair.mine is not None}
        self._ended_before = set[int]()
        self.other_inputs: int | None = None
        self.errs = self._found()
        self.first = next(iter(self.errs), None)
        self.verdicts = [self._verdict(place) for place in range(len(pairs))]

    def _found(self) -> list[int]:
        """Return the places of the calls that err, in the order in which they are seen to."""
        found = dict[int, None]()
        got = dict[int, float]()  # by call: the largest error of what its own code has so far
        drift = 0.0  # the largest error of what was returned so far
        for call, is_end in self._events():
            place = self.places[call]
            measured, parent = self.measured[place], self.mine.parent[call]
            if not is_end:
                before = got.get(parent, 0.0)
                if parent in got and self._exceeds(self.places[parent], measured.inputs, before):
                    found.setdefault(self.places[parent])
                if parent not in got and not found and self._got_other_inputs(place, drift):
                    self.other_inputs = place
                got[call] = before if measured.inputs is None else measured.inputs.error
                continue
            has, made = got.pop(call), measured.output
            if measured.other_shape or self._errs(place, has):
                found.setdefault(place)
            error = inf if measured.other_shape else has if made is None else made.error
            if not found and self.other_inputs is None:
                self._ended_before.add(place)
            drift = max(drift, error)
            if parent in got:
                got[parent] = max(got[parent], error)
        return list(found)

    def _events(self) -> list[tuple[int, bool]]:
        """Return the begin and the end of each matched call, in the order in which they came."""
        events: list[tuple[int, bool]] = []
        running: list[int] = []
        for call in self.mine.nested(range(len(self.mine))):
            while running and self.mine.depth[running[-1]] >= self.mine.depth[call]:
                events.append((running.pop(), True))
            running.append(call)
            events.append((call, False))
        events += [(call, True) for call in reversed(running)]
        return [
            event
            for event in events
            if event[0] in self.places and self.pairs[self.places[event[0]]].other is not None
        ]

    def _got_other_inputs(self, place: int, drift: float) -> bool:
        """Tell whether the user's code gave the two calls other inputs, first of all calls."""
        (a, b, _), inputs = self.pairs[place], self.measured[place].inputs
        if self.other_inputs is not None or inputs is None or a is None or b is None:
            return False
        is_above = _is_above(inputs, self.input_tolerance(a, b))
        return is_above and (inputs.error == inf or inputs.error > AMPLIFIED * drift)

    def _errs(self, place: int, got: float) -> bool:
        """Tell whether a call errs by what it returned, or by its own error where that is known."""
        measured = self.measured[place]
        if measured.own is None:
            return self._exceeds(place, measured.output, got)
        return _is_above(measured.own, self.tolerances[place]) and not self._is_rounding(place)

    def _exceeds(self, place: int, made: Difference | None, got: float) -> bool:
        if made is None or self.measured[place].own is not None or self._is_rounding(place):
            return False
        return made.error > AMPLIFIED * got and _is_above(made, self.tolerances[place])

    def _is_rounding(self, place: int) -> bool:
        """Tell whether float64 makes the difference vanish."""
        measured = self.measured[place]
        if measured.float64 is None or measured.output is None:
            return False
        return measured.float64 <= ROUNDING * measured.output.error

    def _verdict(self, place: int) -> str:
        pair, measured = self.pairs[place], self.measured[place]
        if pair.other is None:
            return ONLY_HERE
        if pair.mine is None:
            return ONLY_THERE
        if place in self.errs[:1] or (self.isolated and place in self.errs):
            return OTHER_SHAPE if measured.other_shape else PARTS
        if measured.failed or measured.other_shape:
            return FAILED_THERE if measured.failed else OTHER_SHAPE
        if measured.output is None:
            return UNKNOWN
        if measured.output.error == 0:
            return EQUAL
        if not _is_above(measured.output, self.tolerances[place]) or self._is_rounding(place):
            return WITHIN_ROUNDING
        return WITHIN_ROUNDING if place in self._ended_before else INHERITED


def _is_above(made: Difference, tolerance: Tolerance | None) -> bool:
    if tolerance is None:
        return made.error > 0
    return made.error > tolerance.error and made.max_abs > tolerance.tiny
