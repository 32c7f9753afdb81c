"""The recorder: writes the calls of a run into the columns of its log."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nnmagic.display.units import Shape
from nnmagic.display.units import shape as shape_text
from nnmagic.network.calls import RunningCall
from nnmagic.network.failures.earlier_calls import LOOKED_AT, EarlierCall
from nnmagic.network.failures.mismatch import annotate, first_line, mismatch, mismatch_outside
from nnmagic.network.fingerprint import NetworkChanges
from nnmagic.network.layers import has_hooks, is_initialised, opaque_kind, opaque_note
from nnmagic.network.naming import Network
from nnmagic.network.nested_values import (
    names_in,
    names_of_arguments,
    tensors_in,
    tensors_of_call,
    tensors_side_by_side,
)
from nnmagic.network.optimizer_steps import OptimizerStep
from nnmagic.network.places import CallingPlaces, raising_line
from nnmagic.recording.backwards_and_steps import BackwardsAndSteps
from nnmagic.recording.first_items import ATTENDING, FirstItems
from nnmagic.recording.gradients import Gradients
from nnmagic.recording.rank_state import RankState
from nnmagic.recording.root_calls import RootCall, RootCalls
from nnmagic.recording.rules.loss_rules import LossRules
from nnmagic.recording.rules.registration_rules import RegistrationRules
from nnmagic.recording.rules.root_call_rules import RootCallRules
from nnmagic.records.call_log import FINISHED, STOPPED, TraceLog
from nnmagic.records.failure import Failure
from nnmagic.records.thinning import Renumbering
from nnmagic.tensors.metadata import is_lazy
from nnmagic.tensors.writer import TensorWriter
from nnmagic.torch_private import is_compiled, parameters_of


@dataclass(slots=True)
class WrittenCall:
    """Where a running call stands in the log.

    Attributes:
        number: its number.
        place: the number of the place in the code that made it.
        tensors: the tensors that it got.
    """

    number: int
    place: int
    tensors: Sequence[torch.Tensor]


class Recorder:
    """Writes every call, what it got and what it returned, into one log.

    Values are measured at the moment at which a layer gets or returns them, so that a later change
    in place cannot rewrite them.

    Args:
        log: the columns to fill.
        tensors: writes the tensors into the same log.
        grad: whether to note the gradients of a backward.
        changes: compares the networks before and after, where the log is to say what changed.
        eager: whether compiled networks run eagerly meanwhile, which the log says then.

    Attributes:
        networks: the networks that were called, in the order of the log.
        places: finds the places in the code that make the calls.
        roots: the last outermost calls.
        steps: tells which iteration a backward, or a step, belongs to.
        gradients: follows a backward; None notes no gradients.
        first_items: keeps what attention maps are worked out from.
        holders: those who hold numbers of calls and tensors, and are told new ones.
    """

    def __init__(
        self,
        log: TraceLog,
        tensors: TensorWriter,
        *,
        grad: bool = False,
        changes: NetworkChanges | None = None,
        eager: bool = True,
    ) -> None:
        self.log = log
        self.tensors = tensors
        self.changes = changes
        self.eager = eager
        self.networks: list[Network] = []
        self.places = CallingPlaces(log.places)
        self.roots = RootCalls(log)
        self.steps = BackwardsAndSteps(log, tensors)
        self.gradients = Gradients(log, tensors, self.steps) if grad else None
        self._rank = RankState(log, tensors, self.steps)
        self._judging = RootCallRules(log, tensors)
        self._loss_rules = LossRules(log, tensors)
        self._registration = RegistrationRules(log)
        self.first_items = FirstItems(log, tensors)
        self.holders: list[Any] = [tensors, self.roots, self.steps, self.first_items]
        self.holders += [self.gradients] if self.gradients is not None else []
        self._torchs_own: dict[type[nn.Module], bool] = {}
        self._error: BaseException | None = None
        self._origin = 0
        self._reached = 0

    def meet(self, network: Network) -> None:
        """Note a network before its first call."""
        if not network.is_probe:
            self._rank.meet(network)
        self.networks.append(network)
        self.log.networks.append(network.label)
        if network.is_probe:
            return
        if self.gradients is not None:
            self.gradients.parameters.follow_network(network)
        if self.changes is not None:
            self.changes.note(network)
            if torch.is_grad_enabled():
                self._loss_rules.begin()

    def began(self, call: RunningCall[WrittenCall]) -> WrittenCall:
        """Write the call and what it got."""
        network, args, kwargs = call.network, call.args, call.kwargs
        series = call.iteration.series
        if call.depth == 0:
            self._error = None
            self.tensors.forget_all()
            if network.index == len(self.networks):
                self.meet(network)
            if call.iteration.is_new:
                self.tensors.pictures.room.drop(series)
        log, parent, module = self.log, call.parent, call.module
        if len(args) == 1 and not kwargs and type(args[0]) is torch.Tensor:
            tensors: Sequence[torch.Tensor] = args
            tensor = self.tensors.write(args[0], series, screen=call.depth == 0)
            inputs: tuple[int, ...] = (tensor,)
            shape = log.shape_index_of(tensor)
        else:
            nested = None
            tensors = tensors_side_by_side(args, kwargs) or ()
            if not tensors:
                nested, tensors = tensors_of_call(args, kwargs)
            shape, inputs = self._write(tensors, nested, series, screen=call.depth == 0)
        if parent is None:
            self.tensors.note_received(tensors, inputs)
            above, place = -1, self.places(None)
        else:
            above, place = parent.record.number, self.places(parent.record.place)
        running = call.observer.running
        if call.stack is not running and running and not log.places[place]:
            starter = running[-1]  # a thread that is made by code without a place
            place = place if starter.is_skipped else starter.record.place
        layer_count = len(log.layers)
        layer = log.layer_index(network.index, call.layer, type(module).__name__)
        if layer == layer_count:
            self._remark(module, layer)
            is_users = not self._torchs_own[type(module)]
            if is_users:
                log.custom.add(layer)
            is_odd = is_users or call.layer in network.unregistered
            if is_odd and not network.is_probe:
                self._registration.look_at(call, is_users=is_users)
        if len(inputs) > 1 and (layer, shape) not in log.input_names:
            log.input_names[layer, shape] = names_of_arguments(module, args, kwargs)
        if parent is None:
            log.add_root(series, call.iteration.number)
        index = log.add_call(layer, call.step, call.depth, above, place, shape, inputs)
        if call.recomputed:
            log.recomputed.add(index)
        elif call.depth == 0 and not network.is_probe:
            self.roots.note(call, RootCall(call, index, tensors))
            self.steps.began(network, index)
            if self.gradients is not None:
                self.gradients.parameters.root_began()
        return WrittenCall(index, place, tensors)

    def _remark(self, module: nn.Module, layer: int) -> None:
        """Say what is special about a layer, given its number, that is met for the first time."""
        own = parameters_of(module) if is_initialised(module) else {}
        if own:
            self.log.parameters[layer] = {
                name: () if is_lazy(each) else tuple(each.shape)
                for name, each in own.items()
                if each is not None
            }
        if type(module) in self._torchs_own and not is_compiled(module):
            return
        self._torchs_own[type(module)] = type(module).__module__.startswith("torch.nn.modules.")
        kind = opaque_kind(module)
        if kind:
            self.log.say(opaque_note(kind))
        if self.eager and is_compiled(module):
            self.log.say("compiled networks run eagerly while they are traced")

    def ended(self, call: RunningCall[WrittenCall], output: Any) -> None:
        """Write what the call returned."""
        number, module = call.record.number, call.module
        # a layer that calls no other may have written to what it got; torch's own count that
        new = number + 1 == len(self.log.ended)
        if new and self._torchs_own.get(type(module)):
            new = has_hooks(module)
        series, outermost = call.iteration.series, call.depth == 0
        tensors, indices = self.finish(number, series, output, new=new, outermost=outermost)
        if self.gradients is not None and not call.network.is_probe:
            self.gradients.parameters.follow(call.network, call.layer, module)
        if isinstance(module, nn.MultiheadAttention):
            self._judging.judge_attention(call, number, indices)
        if isinstance(module, ATTENDING):
            self.first_items.note(call, output)
        if outermost:
            self.tensors.note_returned(tensors)
        if outermost and not call.recomputed:
            self._judging.judge(call.network, number, call.record.tensors, tensors, indices)

    def finish(
        self, index: int, series: int, output: Any, *, new: bool = False, outermost: bool = False
    ) -> tuple[Sequence[torch.Tensor], tuple[int, ...]]:
        """Write what a call, or a function, returned; return the tensors in it and their numbers.

        Args:
            index: the number of the call.
            series: what the iteration that it is of is counted of.
            output: what it returned.
            new: whether tensors in it are to be measured also where they were seen before.
            outermost: whether that is what the network returned: whole rows of a large matrix are
                kept, and a picture as large as a screen can use.
        """
        if type(output) is torch.Tensor:
            tensors: Sequence[torch.Tensor] = (output,)
            written = self.tensors.write(
                output, series, new=new, screen=outermost, scores=outermost
            )
            indices: tuple[int, ...] = (written,)
            shape = self.log.shape_index_of(written)
        else:
            nested = None
            tensors = (tensors_side_by_side(output) if type(output) is tuple else None) or ()
            if not tensors:
                nested, tensors = tensors_in(output)
            shape, indices = self._write(
                tensors, nested, series, new=new, screen=outermost, scores=outermost
            )
            structure = self.log.layer[index], shape
            if structure not in self.log.output_names:
                self.log.output_names[structure] = names_in(output)
        self.log.finish(index, shape, indices)
        if self.gradients is not None:
            for tensor, number in zip(tensors, indices, strict=True):
                self.gradients.follow(tensor, number, series)
        return tensors, indices

    def _write(
        self, tensors: Sequence[torch.Tensor], nested: Shape, series: int, **how: bool
    ) -> tuple[int, tuple[int, ...]]:
        """Write tensors; return the number of their nested shape, and their own.

        Args:
            tensors: the tensors.
            nested: their nested shape; None where they stand side by side in a tuple.
            series: what the iteration that they are of is counted of.
            **how: what else `TensorWriter.write` takes.
        """
        indices = tuple([self.tensors.write(each, series, **how) for each in tensors])
        if nested is None and indices:
            return self.log.shapes_index_of(indices), indices
        return self.log.shape_index(nested), indices

    def stopped(self, call: RunningCall[WrittenCall]) -> None:
        """Write that the backward has what it needed of a recomputation."""
        self.log.ended[call.record.number] = STOPPED

    def raised(self, call: RunningCall[WrittenCall], error: BaseException) -> None:
        """Write that an exception passes through the call, innermost first."""
        index, place = call.record.number, call.record.place
        # the same exception may be raised again elsewhere, by a network that keeps and reuses it
        innermost = error is not self._error or self.log.parent[self._reached] != index
        cause = error.__cause__ or error.__context__
        came_from = self._origin if cause is self._error and cause is not None else None
        why = mismatch(call, error, self._calls_so_far) if innermost else ""
        failure = Failure(
            type=type(error).__name__,
            message=first_line(error),
            mismatch=why,
            place=self.log.places[place] if innermost else "",
            cause=self._described(came_from) if innermost and came_from is not None else "",
        )
        self.log.fail(index, failure)
        self._reached = index  # at last: where there are no frames left all this may raise itself
        if innermost:
            self._error, self._origin = error, index

    def _calls_so_far(self) -> list[EarlierCall]:
        """Return the last calls that returned, the latest first."""
        log = self.log
        calls = range(len(log) - 1, max(-1, len(log) - 1 - LOOKED_AT), -1)
        layers = ((each, log.layer_of(each)) for each in calls if log.ended[each] == FINISHED)
        return [
            EarlierCall(
                network=log.networks[layer.network],
                layer=layer.name,
                type=layer.type,
                depth=log.depth[each],
                input_shape=log.shapes[log.input_shape[each]],
                output_shape=log.shapes[log.output_shape[each]],
            )
            for each, layer in layers
        ]

    def _described(self, call: int) -> str:
        """Return which exception of which layer another one came from."""
        failure = self.log.failures[call]
        why = failure.mismatch or failure.message
        text = f"{failure.type} in {self.log.name_with_type(call)}"
        return f"{text}: {why}" if why else text

    def stepping(self, step: OptimizerStep) -> None:
        """Note that an optimizer is about to write parameters."""
        if self.changes is not None:
            self.changes.note_written(step.parameters)
        self._registration.stepped(step.parameters)
        self._rank.stepping(step, self.networks)
        if self.gradients is not None:
            self.gradients.parameters.stepping(step)

    def stepped(self, step: OptimizerStep) -> None:
        """Note that an optimizer has written parameters."""
        self.steps.note_step(step.optimizer)
        if step.closure and self.changes is not None:
            self.changes.note_written(step.parameters)
        if self.gradients is not None:
            self.gradients.parameters.stepped(step)

    def thin(self, leave_out: Callable[[Iterable[int]], Renumbering | None]) -> None:
        """Let iterations be left out of the log, while no call is in progress.

        Args:
            leave_out: does it, and returns the new numbers; gets those of the tensors that stay.
        """
        self.tensors.pending.read()
        self._judging.conclude()
        if self.gradients is not None:
            self.gradients.parameters.flush()
        self.tensors.pending.read()
        numbers = leave_out(self.held)
        for each in self.holders if numbers is not None else ():
            each.renumber(numbers)

    @property
    def held(self) -> list[int]:
        """The numbers of the tensors that stay in the log whatever is left out."""
        return [] if self.gradients is None else self.gradients.parameters.held

    def blame(self, error: BaseException) -> None:
        """Name the layer that raised an exception on it, as a note."""
        if error is not self._error:
            why = mismatch_outside(error, self.networks, self._calls_so_far)
            if why:
                annotate(error, f"raised outside the layers, {why}")
            cause = error.__cause__ or error.__context__
            came_from_layer = cause is not None and cause is self._error
            self.log.ended_by = Failure(
                type=type(error).__name__,
                message=first_line(error),
                mismatch=why,
                place=raising_line(error),
                cause=self._described(self._origin) if came_from_layer else "",
            )
            return
        failure, where = self.log.failures[self._origin], self.log.name_with_type(self._origin)
        place = f", called at {failure.place}" if failure.place else ""
        got = shape_text(self.log.shapes[self.log.input_shape[self._origin]])
        why = failure.mismatch or (f"got {got}" if got else "")
        why = f": {why}" if why else ""
        why += f"; after {failure.cause}" if failure.cause else ""
        annotate(error, f"raised in {where}{place}{why}")

    def conclude(self, error: BaseException | None = None) -> None:
        """Leave the log complete, and let go of everything.

        Args:
            error: the exception by which the run ended.
        """
        if error is not None and error is self._error:
            self.log.raised = self._origin
        self._error = None
        self._loss_rules.let_go()
        self._registration.conclude()
        if self.gradients is not None:
            self.gradients.conclude([each.module() for each in self.networks], error)
        self._rank.conclude(self.networks)
        self.tensors.finish()
        self._judging.conclude()
        self._loss_rules.conclude()
        if self.changes is not None:
            self.log.notes += self.changes.lines()
