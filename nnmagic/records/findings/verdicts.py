"""The verdicts on the calls of an iteration: failed, produced NaN or Inf, inherited it, found."""

from collections.abc import Mapping

import numpy as np

from nnmagic.display import units
from nnmagic.display.table import with_ancestors
from nnmagic.records.call_log import FINISHED, STOPPED, TraceLog
from nnmagic.records.findings import nonfinite
from nnmagic.records.findings.origins import Origins


class Verdicts:
    """Judges the calls of one iteration.

    Args:
        log: the columns of the run.
        parent: the calls of the iteration in their order, each with the call that it was made in.
        findings: what else deserves a look, by call.

    Attributes:
        producers: the calls that returned NaN or Inf from inputs without.
        above_producer: the calls around the producers.
        last_child: the last call that was made in each.
        dead: the calls that made a tensor of zeros only, where no weights of theirs do that.
        flagged: the calls that deserve a look: the producers, the dead, what failed or was found.
        origins: the same of the whole run.
    """

    def __init__(
        self, log: TraceLog, parent: Mapping[int, int | None], findings: Mapping[int, list[str]]
    ) -> None:
        self.log = log
        self.findings = findings
        self.parent = parent
        self.last_child = {p: call for call, p in parent.items() if p is not None}
        self.origins = Origins(log)
        self.producers = {call for call in self.origins.producers if call in parent}
        self.failing = with_ancestors(parent, [] if log.raised is None else [log.raised])
        failed = [call for call in log.failures if call in parent and not self._only_holds(call)]
        self.dead = self._dead()
        self.flagged = {*self.producers, *findings, *failed, *self.dead}
        above = (parent[call] for call in self.producers)
        self.above_producer = with_ancestors(parent, (call for call in above if call is not None))

    def _only_holds(self, call: int) -> bool:
        """Tell whether a call failed by what failed inside it."""
        return call != self.log.raised and self.last_child.get(call) in self.log.failures

    def _dead(self) -> set[int]:
        """Return the calls that made a tensor of zeros only, where no weights of theirs do that."""
        log = self.log
        zeros = set(np.flatnonzero(np.array(log.tensors.column("zeros")) == 1).tolist())
        if not zeros:
            return set()
        outputs = {call: log.main_output(call) for call in self.parent}
        passing = {
            call for call in outputs if log.inputs[call] and zeros.issuperset(log.inputs[call])
        }
        explained = {
            output
            for call, output in outputs.items()
            if log.layer[call] in log.parameters
            or (call in passing and output not in log.inputs[call])
        }
        made = zeros - explained
        return {call for call in outputs.keys() - passing if outputs[call] in made}

    def unfinished(self, call: int) -> str:
        """Return what a row says in place of values: that the call failed, or runs."""
        if self.log.ended[call] == STOPPED:
            return "recomputed in the backward, as far as needed"
        failure = self.log.failures.get(call)
        if failure is None:
            return "running"
        if self.log.raised is None:
            return f"FAILED, caught: {failure.type}"
        if call == self.log.raised:
            return f"FAILED {failure.mismatch or failure.type}"
        return "FAILED inside" if call in self.failing else f"FAILED, caught: {failure.type}"

    def inherits(self, call: int) -> bool:
        """Tell whether what a call returned is NaN or Inf because what it got was."""
        return call in self.origins.heirs and call not in self.above_producer

    def flags(self, call: int, unknown: str) -> list[str]:
        """Return what deserves attention, in words.

        Args:
            call: the call.
            unknown: why its numbers are unknown, if they are.
        """
        nan, inf = 0, 0
        if self.origins.bad:
            nan, inf = nonfinite.nonfinite_in(self.log, self.log.outputs[call])
        words = [f"{number:,} {name}" for number, name in ((nan, "NaN"), (inf, "Inf")) if number]
        if words:
            if call in self.above_producer:
                words.append("made inside")
            elif call in self.producers:
                words.append(self._made_here(call))
            elif call in self.origins.heirs:
                words.append("inherited")
        words += self.findings.get(call, ())
        if call in self.dead:
            words.append("all zeros")
        if unknown:
            words.append(f"no values: {unknown}")
        return words

    def notes(self) -> list[str]:
        """Return the lines below the table."""
        notes = []
        first, received = self.origins.first, self.origins.received
        if first is not None:
            notes.append(f"first {nonfinite.origin(self.log, first)}{self._at_iteration(first)}")
        if received is not None:
            notes.append(f"{self._first_received(received)}{self._at_iteration(received)}")
        leaves = (call for call in self.parent if call not in self.last_child)
        if any(map(self._is_fused, leaves)):
            notes.append(
                "TransformerEncoderLayer ran as one fused operation (torch's fast path in eval "
                "mode), so that the layers inside were not called"
            )
        compiled = [c for c in self.parent if self.log.layer_of(c).type == "OptimizedModule"]
        if any(call in self.last_child for call in compiled):
            notes.append("compiled networks run eagerly while they are traced")
        elif compiled:
            notes.append("a compiled network that is watched runs as it is: one row")
        return notes + self._failure()

    def _failure(self) -> list[str]:
        """Return the lines that say by which exception the run ended."""
        raised, failure = self.log.raised, self.log.failure
        if failure is None:
            return []
        notes = []
        if raised is not None:
            got = units.shape(self.log.shapes[self.log.input_shape[raised]]) or "no tensor"
            text = f"{self.log.name_with_type(raised)} {failure.mismatch or f'got {got}'}"
            notes.append(f"{text}, called at {failure.place}" if failure.place else text)
        elif failure.mismatch or failure.place:
            notes.append(f"raised {failure.mismatch or f'at {failure.place}'}")
        after = f"; after {failure.cause}" if failure.cause else ""
        said = f": {failure.message}" if failure.message else ""
        return [*notes, f"{failure.type}{said}{after}"]

    def _is_fused(self, call: int) -> bool:
        is_encoder = self.log.layer_of(call).type == "TransformerEncoderLayer"
        return is_encoder and self.log.ended[call] == FINISHED

    def _at_iteration(self, call: int) -> str:
        return "" if call in self.parent else f", at iteration {self.log.iteration_of(call)}"

    def _made_here(self, call: int) -> str:
        names = self.log.nonfinite_parameters.get(call)
        why = f"its {names[0]}" if names else nonfinite.reason(self.log, call)
        if why:
            return f"made here: {why}"
        limits = nonfinite.inputs_range(self.log, call)
        return f"made here from {' … '.join(limits)}" if limits else "made here"

    def _first_received(self, call: int) -> str:
        """Return the line on a root call that received NaN or Inf."""
        nan, inf = nonfinite.nonfinite_in(self.log, self.log.inputs[call])
        held = " and ".join(f"{n:,} {name}" for n, name in ((nan, "NaN"), (inf, "Inf")) if n)
        return f"the input of {self.log.name_of(call)} held {held} already"
