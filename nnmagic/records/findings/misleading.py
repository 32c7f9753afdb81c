"""What raises nothing but misleads: unscaled pictures, lost precision, a constant output."""

import re
from collections.abc import Mapping
from math import floor, isfinite, isnan, log2
from typing import Any

from nnmagic.display import units
from nnmagic.records.call_log import FINISHED, TraceLog
from nnmagic.records.finding import Finding
from nnmagic.records.findings.bad_gradients import LEFT_OUT, BadGradients
from nnmagic.records.findings.of_calls import finding_of
from nnmagic.records.tensor import Statistics

SCALED = re.compile(r"(Lazy)?(Linear|Conv[123]d)|RNN|LSTM|GRU")
"""Layers whose inputs should be of the order of 1."""

OTHER_WEIGHTED = re.compile(
    r"Embedding(Bag)?|BatchNorm[123]d|(Layer|RMS|Group)Norm|MultiheadAttention"
)
"""The other layers with weights."""

BRIGHT, BRIGHTEST = 128, 255
"""The greatest value of a picture that nobody scaled lies between these."""

DIMMEST = 1 / BRIGHTEST
CLOSE = 1e-8
"""That of one that was scaled to 0..1 twice is at most this, but for the rounding of float32."""

CHANNELS, SMALLEST = (1, 3, 4), 8
"""How many channels a picture has, and how many pixels on a side at least."""

MOST_TEXTS = 5
"""How many findings of one rule a display tells one by one."""

LARGEST_HALF = 65_504
SIGNIFICANT_BITS = {"float16": 10, "bfloat16": 7}
"""How many bits of the significand are stored."""


class Findings:
    """Looks for what misleads in the calls of one iteration.

    Args:
        log: the columns of the run.
        parent: the calls of the iteration in their order, each with the call that it was made in.

    Attributes:
        flags: the words for each call that deserves a look.
        notes: the lines for the foot of the table.
        found: the findings themselves.
        bad_gradients: in words that gradients hold NaN or Inf, and where, `""` where none does.
    """

    def __init__(self, log: TraceLog, parent: Mapping[int, int | None]) -> None:
        self.log = log
        self.parent = parent
        self.flags: dict[int, list[str]] = {}
        self.notes: list[str] = []
        self.found: list[Finding] = []
        self._look_for_pictures()
        if any(each.dtype in SIGNIFICANT_BITS for each in log.tensors.metadata):
            self._look_for_precision()
        for call in sorted(log.constant & set(parent)):
            self._tell_of_constant(call)
        self.bad_gradients = self._tell_of_gradients()
        self._tell_what_the_run_found()

    def _flag(self, call: int, text: str) -> None:
        self.flags.setdefault(call, []).append(text)

    def _find(self, rule: str, call: int, text: str, **more: Any) -> None:
        self.found.append(finding_of(self.log, call, rule, text, **more))

    def _tell_what_the_run_found(self) -> None:
        """Add the findings that only the run could make."""
        log, rows = self.log, dict[tuple[str, str], int]()
        for call in self.parent:
            layer = log.layer_of(call)
            rows.setdefault((log.networks[layer.network], layer.name), call)
        by_rule: dict[str, list[str]] = {}
        for finding in log.findings:
            by_rule.setdefault(finding.rule, []).append(finding.text)
            row = rows.get((finding.network, finding.layer)) if finding.level != "note" else None
            if row is not None and finding.rule not in self.flags.get(row, ()):
                self._flag(row, finding.rule)
        for rule, texts in by_rule.items():
            self.notes += texts[:MOST_TEXTS]
            more = len(texts) - MOST_TEXTS
            if more > 0:
                self.notes.append(f"{rule}: {more:,} more in trace.findings")
        self.found += log.findings

    def _look_for_pictures(self) -> None:
        """Flag the first layer with weights of each network where it gets values up to 255.

        Or where it gets values up to 1 / 255, from pictures that were scaled twice.
        """
        log, seen = self.log, set[int]()
        for call in self.parent:
            layer = log.layer_of(call)
            is_scaled = SCALED.fullmatch(layer.type)
            if layer.network in seen or not (is_scaled or OTHER_WEIGHTED.fullmatch(layer.type)):
                continue
            seen.add(layer.network)
            inputs = log.inputs[call]
            if not is_scaled or not inputs:
                continue
            numbers = log.tensors.statistics_of(inputs[0])
            if self._is_unscaled(call, numbers):
                rule, bound = "pictures that were not scaled", float(BRIGHT)
                text = f"got values up to {numbers.max:.0f}: scale pictures to 0 … 1"
                mend = "type x / 255"
            elif self._is_scaled_twice(call, numbers):
                rule, bound = "pictures that were scaled twice", DIMMEST
                text = f"got values up to {numbers.max:.2g}: scale pictures to 0 … 1 once"
                mend = "leave out one x / 255"
            else:
                continue
            self._flag(call, text)
            note = f"the first layer with weights, {log.name_with_type(call)}, {text}, {mend}"
            self.notes.append(note)
            self._find(rule, call, note, number=numbers.max, bound=bound)

    def _is_unscaled(self, call: int, numbers: Statistics) -> bool:
        """Tell whether a call got pictures in 0..255: whole numbers, or such that were resized."""
        is_byte = numbers.min >= 0 and BRIGHT <= numbers.max <= BRIGHTEST
        if is_byte and self._is_whole(self.log.inputs[call][0]):
            return True
        overshoot = (BRIGHTEST - BRIGHT) / 4  # of a bicubic resize, on both sides
        in_range = numbers.min >= -overshoot and BRIGHT <= numbers.max <= BRIGHTEST + overshoot
        return in_range and self._gets_pictures(call)

    def _is_scaled_twice(self, call: int, numbers: Statistics) -> bool:
        """Tell whether a call got pictures of whole numbers that were divided by 255 twice."""
        in_range = 0 <= numbers.min < numbers.max < DIMMEST + CLOSE
        tensor = self.log.inputs[call][0]
        return in_range and self._is_whole(tensor, BRIGHTEST**2) and self._gets_pictures(call)

    def _gets_pictures(self, call: int) -> bool:
        """Tell whether what a call got, or its network, has the shape of a picture's channels."""
        log = self.log
        tensors = [each for at in (call, log.root_of(call)) for each in log.inputs[at][:1]]
        return any(_is_picture(log.tensors.metadata_of(each).shape) for each in tensors)

    def _tell_of_gradients(self) -> str:
        """Flag the calls with a bad gradient, and say where one is that no row is of."""
        gradients, shown = BadGradients(self.log), set[str]()
        for call in self.parent if gradients.found else ():
            for what, text in gradients.texts(call).items():
                self._flag(call, text)
                shown.add(what)
        self.found += gradients.findings()
        elsewhere = gradients.elsewhere(self.parent)
        for each in elsewhere:
            left_out = "" if each.is_used else LEFT_OUT
            self.notes.append(f"{each.text}, at iteration {each.where.iteration:,}{left_out}")
        if shown:
            return f"{max(shown)} in the gradients"
        used = [each for each in elsewhere if each.is_used]
        if not used:
            return ""
        return f"{used[0].what} in the gradients at iteration {used[0].where.iteration:,}"

    def _is_whole(self, tensor: int, times: int = 1) -> bool:
        """Tell whether all kept values, times that, are whole numbers, as of a picture's file."""
        spread = self.log.tensors.samples_of(tensor).spread
        if spread is None or self.log.tensors.metadata_of(tensor).dtype.startswith("complex"):
            return False
        near = CLOSE * times if times > 1 else 0.0
        values = (times * value for value in spread.flat())
        return all(isfinite(each) and abs(each - round(each)) <= near for each in values)

    def _look_for_precision(self) -> None:
        """Flag the calls that made values too large, or too close together, for their dtype."""
        log, seen = self.log, set[int]()
        for call in log.returned(self.parent):
            tensor = log.main_output(call)
            if tensor is None or tensor in seen or log.ended[call] != FINISHED:
                continue
            seen.add(tensor)
            dtype = log.tensors.metadata_of(tensor).dtype
            if dtype in SIGNIFICANT_BITS:
                text = _precision(dtype, log.tensors.statistics_of(tensor))
                if text:
                    self._flag(call, text)
                    self._find("values beyond the precision of their dtype", call, text)

    def _tell_of_constant(self, root: int) -> None:
        log = self.log
        tensor = log.main_output(root)
        if tensor is None or log.tensors.statistics_of(tensor).zeros == 1:
            return
        batch = log.tensors.metadata_of(tensor).shape[0]
        if batch is None:
            return
        items = units.plural(batch, "item")
        text = f"identical for all {items} of the batch"
        self._flag(root, text)
        note = f"the output of {log.name_of(root)} is {text}, though the inputs differ"
        first = self._first_constant(root, batch)
        if first is not None and first != root:
            self._flag(first, text)
            note += f": from {log.name_of(first)} ({log.layer_of(first).type}) on"
        self.notes.append(note)
        self._find("an output that ignores its input", root, note)

    def _first_constant(self, root: int, batch: int) -> int | None:
        """Return the first call whose kept output is constant while its kept input is not."""
        log = self.log
        inside = {root}
        for call, parent in self.parent.items():
            if parent in inside:
                inside.add(call)
        for call in log.returned(self.parent):
            output = log.main_output(call)
            if call not in inside or output is None or not self._rows_alike(output, batch):
                continue
            metadata_of = log.tensors.metadata_of
            inputs = [each for each in log.inputs[call] if metadata_of(each).shape[:1] == (batch,)]
            if inputs and self._rows_alike(inputs[0], batch) is False:
                return call
        return None

    def _rows_alike(self, tensor: int, batch: int) -> bool | None:
        """Tell whether the kept rows of a batch are alike; None where they cannot tell."""
        tensors = self.log.tensors
        leading, metadata = tensors.samples_of(tensor).leading, tensors.metadata_of(tensor)
        if leading is None or metadata.shape[:1] != (batch,) or leading.numel < 2:
            return None
        first, *others = leading.tolist()
        if any(row != first for row in others):
            return False
        is_whole = leading.numel == metadata.numel or len(metadata.shape) == 2
        return True if others and is_whole else None


def _is_picture(shape: tuple[int | None, ...]) -> bool:
    """Tell whether a shape is (…, channels, height, width) of grey or coloured pictures."""
    sizes = [size or 0 for size in shape]
    match sizes:
        case [_, channels, height, width] | [channels, height, width]:
            return channels in CHANNELS and min(height, width) >= SMALLEST
    return False


def _precision(dtype: str, numbers: Statistics) -> str:
    """Say that values are too large, or too close together, for their dtype."""
    largest = max(-numbers.min, numbers.max)
    if dtype == "float16" and largest > LARGEST_HALF / 2:
        return f"up to {largest:,.0f}, float16 overflows at {LARGEST_HALF:,}"
    if isnan(numbers.std) or numbers.std == 0 or numbers.mean == 0:
        return ""
    step = 2.0 ** (floor(log2(abs(numbers.mean))) - SIGNIFICANT_BITS[dtype])
    if numbers.std >= step:
        return ""
    return f"spread of {numbers.std:.2g}, but {dtype} has steps of {step:.2g} there"
