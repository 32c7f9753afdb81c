"""The recorder: turns a run into the columns of a trace."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from math import prod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn.modules import module as torchs_modules

from nnmagic.display.units import Shape
from nnmagic.network.calls import CallObserver, RunningCall, observed
from nnmagic.network.failures import annotate, first_line, mismatch
from nnmagic.network.fingerprint import Fingerprint, change_text
from nnmagic.network.layers import opaque_kind, opaque_note
from nnmagic.network.naming import Naming, Network
from nnmagic.network.nested_values import tensors_in, tensors_of_call, tensors_side_by_side
from nnmagic.network.places import CallingPlaces
from nnmagic.recording.gradients import Gradients
from nnmagic.recording.judging import Unjudged, ignores_its_input
from nnmagic.recording.root_calls import RootCall, RootCalls
from nnmagic.records.call_log import Failure, TraceLog
from nnmagic.records.trace_nonfinite import makes_nonfinite, nonfinite_in
from nnmagic.tensors.measure import measure
from nnmagic.tensors.writer import TensorWriter


class WrittenCall(NamedTuple):
    """Where a running call stands in the log.

    Attributes:
        number: its number.
        place: the number of the place in the code that made it.
        tensors: the tensors that it got.
    """

    number: int
    place: int
    tensors: Sequence[torch.Tensor]


class Recorder(CallObserver[WrittenCall]):
    """Writes every call, what it got and what it returned, into a log.

    Values are measured at the moment at which a layer gets or returns them, so that a later change
    in place cannot rewrite them. A tensor that comes by again unchanged, by identity and version
    counter, is not measured again.

    Args:
        log: the columns to fill.
        naming: names networks and layers.
        every: record the steps 0, every, 2 * every, ... only.
        keep: what to keep of the values: `"none"`, `"sample"` or `"all"`.
        grad: whether to note the gradients of a backward.

    Attributes:
        roots: the last outermost calls.
        tensors: writes the tensors.
    """

    eager: ClassVar = True
    """Whether compiled networks run eagerly, so that their layers can be seen."""

    def __init__(
        self,
        log: TraceLog,
        naming: Naming,
        every: int = 1,
        keep: str = "sample",
        *,
        grad: bool = False,
    ) -> None:
        super().__init__(naming, every)
        self.log = log
        log.tensors.lock = self.lock
        log.graded = grad
        self.gradients = Gradients(log, self._gradient) if grad else None
        self.tensors = TensorWriter(log.tensors, keep)
        self._place = CallingPlaces(log.places)
        self.roots = RootCalls(log)
        self._torchs_own: dict[type[nn.Module], bool] = {}
        self._before: dict[int, Fingerprint] = {}
        self._unjudged: dict[int, Unjudged] = {}
        self._error: BaseException | None = None
        self._origin = 0
        self._reached = 0

    def observing(self) -> AbstractContextManager[None]:
        """See all calls for the length of the block."""
        return observed(self, eager=self.eager)

    def began(self, call: RunningCall[WrittenCall]) -> WrittenCall:
        """Write the call and what it got."""
        network, args, kwargs = call.network, call.args, call.kwargs
        if call.depth == 0:
            self._error = None
            self.tensors.forget_all()
            if not call.recomputed:
                self.tensors.drop_pictures(network.index)
            if network.index == len(self.log.networks):
                self._meet(network)
        log, parent, module = self.log, call.parent, call.module
        if len(args) == 1 and not kwargs and type(args[0]) is torch.Tensor:
            tensors: Sequence[torch.Tensor] = args
            tensor = self.tensors.write(args[0], network.index)
            inputs: tuple[int, ...] = (tensor,)
            shape = log.shape_index_of(tensor)
        else:
            nested = None
            tensors = tensors_side_by_side(args, kwargs) or ()
            if not tensors:
                nested, tensors = tensors_of_call(args, kwargs)
            shape, inputs = self._write(tensors, nested, network.index)
        if parent is None:
            above, place = -1, self._place(None)
        else:
            above, place, _ = parent.record
            place = self._place(place)
        if call.stack is not self.running:
            place = self._place_of_starter(place)
        known = len(log.layers)
        layer = log.layer_index(network.index, call.layer, type(module).__name__)
        if layer == known and (
            type(module) not in self._torchs_own or module._compiled_call_impl is not None
        ):
            self._remark(module)
        index = log.add_call(
            layer=layer,
            step=call.step,
            depth=call.depth,
            parent=above,
            place=place,
            input_shape=shape,
            inputs=inputs,
        )
        if call.recomputed:
            log.recomputed.add(index)
        elif call.depth == 0:
            self.roots.note(call, RootCall(call, index, tensors))
        return WrittenCall(index, place, tensors)

    def _remark(self, module: nn.Module) -> None:
        """Say what is special about a layer of a class that is met for the first time."""
        self._torchs_own[type(module)] = type(module).__module__.startswith("torch.nn.modules.")
        kind = opaque_kind(module)
        if kind:
            self.log.say(opaque_note(kind))
        if self.eager and module._compiled_call_impl is not None:
            self.log.say("compiled networks run eagerly while they are traced")

    def ended(self, call: RunningCall[WrittenCall], output: Any) -> None:
        """Write what the call returned."""
        index, module = call.record.number, call.module
        # a layer that calls no other may have written to what it got; torch's own count that
        new = index + 1 == len(self.log)
        if new and self._torchs_own.get(type(module)):
            new = bool(module._forward_hooks or module._forward_pre_hooks or hooks_of_all())
        network, outermost = call.network.index, call.depth == 0
        tensors, indices = self.finish(index, network, output, new=new, scores=outermost)
        if outermost and not call.recomputed:
            self._judge(call, tensors, indices)

    def finish(
        self, index: int, network: int, output: Any, *, new: bool = False, scores: bool = False
    ) -> tuple[Sequence[torch.Tensor], tuple[int, ...]]:
        """Write what a call, or a function, returned; return the tensors in it and their numbers.

        Args:
            index: the number of the call.
            network: the index of its network.
            output: what it returned.
            new: whether tensors in it are to be measured also where they were seen before.
            scores: whether whole rows of a large matrix are to be kept.
        """
        if type(output) is torch.Tensor:
            tensors: Sequence[torch.Tensor] = (output,)
            written = self.tensors.write(output, network, new=new, scores=scores)
            indices: tuple[int, ...] = (written,)
            shape = self.log.shape_index_of(written)
        else:
            nested = None
            tensors = (tensors_side_by_side(output) if type(output) is tuple else None) or ()
            if not tensors:
                nested, tensors = tensors_in(output)
            shape, indices = self._write(tensors, nested, network, new=new, scores=scores)
        self.log.finish(index, shape, indices)
        if self.gradients is not None:
            for tensor, number in zip(tensors, indices, strict=True):
                self.gradients.follow(tensor, number)
        return tensors, indices

    def _write(
        self, tensors: Sequence[torch.Tensor], nested: Shape, network: int, **how: bool
    ) -> tuple[int, tuple[int, ...]]:
        """Write tensors; return the number of their nested shape, and their own.

        Args:
            tensors: the tensors.
            nested: their nested shape; None where they stand side by side in a tuple.
            network: the index of their network.
            **how: what else `TensorWriter.write` takes.
        """
        indices = tuple([self.tensors.write(each, network, **how) for each in tensors])
        if nested is None and indices:
            return self.log.shape_index_of(indices), indices
        return self.log.shape_index(nested), indices

    def stopped(self, call: RunningCall[WrittenCall]) -> None:
        """Write that the backward has what it needed of a recomputation."""
        self.log.stop(call.record.number)

    def raised(self, call: RunningCall[WrittenCall], error: BaseException) -> None:
        """Write that an exception passes through the call, innermost first."""
        index, place, _ = call.record
        # the same exception may be raised again elsewhere, by a network that keeps and reuses it
        innermost = error is not self._error or self.log.parent[self._reached] != index
        self._reached = index
        if innermost:
            cause = error.__cause__ or error.__context__
            came_from = self._origin if cause is self._error and cause is not None else None
            self._error, self._origin = error, index
        why = mismatch(call.module, call.args, call.kwargs, error) if innermost else ""
        if "last axis must be" in why:
            why += self._flattened_from(index)
        failure = Failure(
            type=type(error).__name__,
            message=first_line(error),
            mismatch=why,
            place=self.log.places[place] if innermost else "",
            cause=self._described(came_from) if innermost and came_from is not None else "",
        )
        self.log.fail(index, failure)

    def _place_of_starter(self, place: int) -> int:
        """Return the place of a call that a thread made; where it has none, that of the run's."""
        if self.log.places[place] or not self.running:
            return place
        starter = self.running[-1]
        return place if starter.is_skipped else starter.record.place

    def _judge(
        self,
        call: RunningCall[WrittenCall],
        outputs: Sequence[torch.Tensor],
        indices: tuple[int, ...],
    ) -> None:
        """Note what is known of an outermost call only now: what it ignored, what spoiled it."""
        index = call.record.number
        ignores = ignores_its_input(call.record.tensors, outputs)
        if isinstance(ignores, list):
            self.tensors.read_later(ignores, partial(_note_constant, self.log, index))
        elif ignores:
            self.log.constant.add(index)
        network = call.network.module()
        thinned = self.tensors.at_most is not None  # a look at every value would slow it down
        if network is None or thinned:
            return
        finite = {self.tensors.is_finite(each) for each in indices}
        calls = range(index, len(self.log))
        if False in finite:
            self._find_what_spoiled(calls, network)
        elif None in finite:
            number = call.network.index
            if number not in self._unjudged:
                self._unjudged[number] = Unjudged(network)
            self._unjudged[number].note(calls)

    def judge_late(self) -> None:
        """Note what spoiled the outputs whose numbers had to be read first."""
        log = self.log
        for number, unjudged in self._unjudged.items():
            network = self.naming.networks[number].module()
            if network is None:
                continue
            for calls in unjudged.calls():
                if any(nonfinite_in(log, log.outputs[calls.start])):
                    self._find_what_spoiled(calls, network)
        self._unjudged.clear()

    def _find_what_spoiled(self, calls: range, network: nn.Module) -> None:
        log = self.log
        for each in calls:
            if log.is_function(each) or not makes_nonfinite(log, each):
                continue
            calls_no_other = each + 1 == len(log) or log.parent[each + 1] != each
            with suppress(AttributeError):  # a layer that the forward makes has no such name
                layer = network.get_submodule(log.layer_of(each).name)
                tainted = tuple(_nonfinite_state(layer, below=calls_no_other))
                if tainted:
                    log.tainted[each] = tainted

    def _flattened_from(self, index: int) -> str:
        """Say which maps the features that a layer refused were flattened from, if they were."""
        log = self.log
        (refused, *_) = [*log.inputs[index], None]
        wanted = None if refused is None else log.tensors.form_of(refused).shape
        for call in range(index - 1, max(-1, index - 4), -1):
            for tensor in (*log.outputs[call], *log.inputs[call]):
                shape = log.tensors.form_of(tensor).shape
                sizes = [size for size in shape if size is not None]
                if len(sizes) == len(shape) > 2 and wanted == (sizes[0], prod(sizes[1:])):
                    return f"; flattened from {shape}: pictures of another size?"
        return ""

    def _described(self, call: int) -> str:
        """Return which exception of which layer another one came from."""
        failure, layer = self.log.failures[call], self.log.layer_of(call)
        why = failure.mismatch or failure.message
        text = f"{failure.type} in {self.log.place_of(call)} ({layer.type})"
        return f"{text}: {why}" if why else text

    def blame(self, error: BaseException) -> None:
        """Note that the run ended by an exception, and name its layer on the exception."""
        if error is not self._error:
            return
        self.log.raised = self._origin
        layer = self.log.layer_of(self._origin)
        failure = self.log.failures[self._origin]
        where = self.log.place_of(self._origin)
        place = f", called at {failure.place}" if failure.place else ""
        why = f": {failure.mismatch}" if failure.mismatch else ""
        why += f"; after {failure.cause}" if failure.cause else ""
        annotate(error, f"raised in {where} ({layer.type}){place}{why}")

    def conclude(self) -> None:
        """Say what the run changed on its networks, and let go of everything."""
        self._error = None
        networks = self.naming.networks
        if self.gradients is not None:
            self.gradients.conclude([network.module() for network in networks])
        self.tensors.conclude()
        self.judge_late()
        for number, before in self._before.items():
            network = networks[number]
            changes = None if network.module() is None else before.changes()
            if changes is None:
                continue
            text = change_text(changes)
            if len(self._before) > 1:
                if text == "network unchanged":
                    continue
                text = f"{network.label}: {text}"
            self.log.notes.append(text)
        if len(self._before) > 1 and not self.log.notes:
            self.log.notes.append("networks unchanged")

    def _meet(self, network: Network) -> None:
        self.log.networks.append(network.label)
        self._before[network.index] = Fingerprint(network.layers())

    def _gradient(self, gradient: torch.Tensor) -> int:
        with self.lock:
            return self.tensors.write_alone(gradient)


def _note_constant(log: TraceLog, call: int, flags: list[torch.Tensor], reason: str) -> None:
    """Note that a call ignored its input, from flags that were read."""
    if not reason and flags[0] and not flags[1]:
        log.constant.add(call)


def hooks_of_all() -> bool:
    """Tell whether code of the user's runs in the call of every module."""
    return bool(torchs_modules._global_forward_hooks or torchs_modules._global_forward_pre_hooks)


def _nonfinite_state(module: nn.Module, *, below: bool) -> Iterator[str]:
    """Say which parameters and buffers hold NaN or Inf.

    Args:
        module: the layer.
        below: whether to look at those of the layers inside too, which were not called.
    """
    for kind, named in (
        ("parameter", module.named_parameters(recurse=below)),
        ("buffer", module.named_buffers(recurse=below)),
    ):
        for name, tensor in named:
            statistics, _, _ = measure(tensor, "none")
            counts = ((statistics.nan, "NaN"), (statistics.inf, "Inf"))
            words = [f"{number:,.0f} {what}" for number, what in counts if number > 0]
            if words:
                yield f"{kind} {name} holds {' and '.join(words)}"
