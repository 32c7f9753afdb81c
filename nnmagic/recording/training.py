"""What a run that trains does, and what each parameter gets of it; rules are asked meanwhile."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from nnmagic.contexts import block
from nnmagic.network.calls import RunningCall
from nnmagic.network.layers import named_parameters
from nnmagic.network.naming import Network
from nnmagic.network.optimizer_steps import OptimizerStep, optimizer_steps
from nnmagic.network.watched_functions import backwards, watch
from nnmagic.recording.missing_gradients import MissingGradients
from nnmagic.recording.stepped_optimizers import SteppedOptimizer
from nnmagic.records.call_log import TraceLog
from nnmagic.records.finding import Finding
from nnmagic.tensors.metadata import version_of
from nnmagic.torch_private import begins_before_optimizer, raw_version


class TrainedParameter:
    """One parameter of a network that a backward may reach.

    Attributes:
        alive: a weak reference to it.
        network: the name of its network.
        name: its name there, e.g. `"head.weight"`.
        requires_grad: whether it required a gradient at the last backward.
        gradients: how many backwards gave it a gradient.
        steps: how many steps of an optimizer wrote to it.
        is_left: whether its gradient is the one that the last step has used, written to by none.
        is_added_to: whether a backward has added to such a gradient.
        below_eps: how often in a row its gradient was too small for Adam's eps.
    """

    __slots__ = (
        *("alive", "network", "name", "requires_grad", "gradients", "steps"),
        *("is_left", "is_added_to", "below_eps", "_gradient", "_version"),
    )

    def __init__(self, network: str, name: str, parameter: torch.Tensor) -> None:
        self.alive = weakref.ref(parameter)
        self.network = network
        self.name = name
        self.requires_grad = parameter.requires_grad
        self.gradients = 0
        self.steps = 0
        self.is_left = False
        self.is_added_to = False
        self.below_eps = 0
        self._version = version_of(parameter)
        self._gradient: tuple[int, int] | None = None

    @property
    def layer(self) -> str:
        """The dotted name of the layer that holds it."""
        return self.name.rpartition(".")[0]

    @property
    def is_written(self) -> bool:
        """Whether anything but a step of an optimizer wrote to it, as a moving average does."""
        parameter = self.alive()
        has_changed = parameter is not None and version_of(parameter) != self._version
        return has_changed and not self.steps

    def backward_began(self, parameter: torch.Tensor) -> None:
        """Note whether its gradient was cleared, or written to, since it was looked at last."""
        self.requires_grad = parameter.requires_grad
        now = _mark(parameter)
        self.is_left = self.is_left and now == self._gradient
        self._gradient = now

    def backward_ended(self, parameter: torch.Tensor) -> None:
        """Note whether a backward has given it a gradient."""
        now = _mark(parameter)
        if now != self._gradient and now is not None:
            self.gradients += 1
            self.is_added_to = self.is_left
        self._gradient = now

    def stepped(self, parameter: torch.Tensor) -> bool:
        """Note a step; return whether it has used the gradient of an earlier step once more."""
        was_added_to, self.is_added_to = self.is_added_to, False
        self.steps += 1
        self.is_left, self._gradient = True, _mark(parameter)
        return was_added_to


def _mark(parameter: torch.Tensor) -> tuple[int, int] | None:
    """Return what tells whether a parameter's gradient was written to; None if there is none."""
    gradient = parameter.grad
    if gradient is None:
        return None
    if type(gradient) is torch.Tensor and not gradient.is_inference():
        return id(gradient), raw_version(gradient)  # asked for at every step of every parameter
    return id(gradient), version_of(gradient)


class LastCall:
    """The last root call of a network in one grad mode.

    Attributes:
        iteration: its iteration.
        series: what that is counted of.
        at: which root call of the run it was.
        in_a_row: how many of the series there were since the last backward or step.
    """

    __slots__ = ("at", "in_a_row", "iteration", "series")

    def __init__(self) -> None:
        self.iteration, self.series, self.at, self.in_a_row = 0, -1, 0, 0


class Step(NamedTuple):
    """A step that an optimizer has just made.

    Attributes:
        optimizer: the optimizer.
        parameters: the parameters that it wrote to, of the networks of the run.
        used_again: those whose gradient an earlier step had used already, and nothing cleared.
    """

    optimizer: SteppedOptimizer
    parameters: list[TrainedParameter]
    used_again: list[TrainedParameter]


RulesByName = dict[str, Callable[..., Iterable[Finding]]]
"""Rules on one kind of event; each gets the run that trains, and the event."""


class Rules(NamedTuple):
    """The rules by their names, each under the event at which it is asked.

    A rule says nothing of its name and of the iteration: who asks it knows both.

    Attributes:
        at_call: when a network is called, of its number.
        at_backward: when a backward begins, of the tensors that it begins at; what is found is told
            at the step that follows, if that is on the same network.
        at_step: when an optimizer has made a step.
        at_end: when the run is over.
    """

    at_call: "dict[str, Callable[[Training, int], Iterable[Finding]]]"
    at_backward: "dict[str, Callable[[Training, Sequence[torch.Tensor]], Iterable[Finding]]]"
    at_step: "dict[str, Callable[[Training, Step], Iterable[Finding]]]"
    at_end: "dict[str, Callable[[Training], Iterable[Finding]]]"


class Training:
    """Follows a run that trains, and asks the rules at every event.

    It costs nothing where there is no backward and no step. What another thread trains meanwhile is
    none of it.

    Args:
        log: the columns of the run, which get the findings.
        networks: the networks of the run, in the order of the log.
        rules: the rules.
        missing_gradients: looks why parameters get no gradient.

    Attributes:
        parameters: the parameters of the networks, by their identities, from the first backward on.
        optimizers: the optimizers that have made a step, by their identities.
        with_gradients: the last root call of each network with gradients enabled, by its number.
        without: the same of those without.
        backwards: how many backwards there were.
        scheduled: by the identity of each optimizer whose schedule began before its first step, how
            many backwards there had been.
    """

    def __init__(
        self,
        log: TraceLog,
        networks: Sequence[Network],
        rules: Rules,
        missing_gradients: MissingGradients,
    ) -> None:
        self.log = log
        self.networks = networks
        self.rules = rules
        self.missing_gradients = missing_gradients
        self.parameters: dict[int, TrainedParameter] = {}
        self.optimizers: dict[int, SteppedOptimizer] = {}
        self.with_gradients: dict[int, LastCall] = {}
        self.without: dict[int, LastCall] = {}
        self.backwards = 0
        self.scheduled: dict[int, int] = {}
        self._thread = get_ident()
        self._looked_through = 0
        self._calls = 0
        self._of_backward: list[tuple[str, Finding]] = []
        self._found: set[tuple[str, str, str]] = set()

    @block
    def followed(self) -> Iterator[None]:
        """Follow the backwards, the steps and the schedules of the block."""

        def schedule(name: str, given: Mapping[str, Any]) -> None:
            self.schedule_began(given["self"])

        leave = watch((LRScheduler.step,), schedule)
        try:
            with (
                optimizer_steps(before=self.step_began, after=self.step_ended),
                backwards(self.backward_began, self.backward_ended),
            ):
                yield
        finally:
            leave()

    def root_called(self, call: RunningCall[Any]) -> None:
        """Note a root call, also one that is not recorded."""
        number, series = call.network.index, call.iteration.series
        with_gradients = self.log.series[series].grad
        calls = self.with_gradients if with_gradients else self.without
        last = calls.get(number)
        if last is None:
            last = calls[number] = LastCall()
        last.in_a_row = last.in_a_row + 1 if last.series == series else 1
        last.series, last.iteration = series, call.iteration.number
        self._calls += 1
        last.at = self._calls
        if self.optimizers and not with_gradients:
            self._ask(self.rules.at_call, number)

    def backward_began(self, tensors: Sequence[torch.Tensor]) -> None:
        """Note a backward before it runs."""
        if get_ident() != self._thread:
            return
        self._look_through()
        for fact, parameter in self._alive():
            fact.backward_began(parameter)
        self._of_backward = list(self._answers(self.rules.at_backward, tensors))

    def backward_ended(self) -> None:
        """Note the gradients that a backward has made."""
        if get_ident() != self._thread:
            return
        self.backwards += 1
        for fact, parameter in self._alive():
            fact.backward_ended(parameter)
        for optimizer in self.optimizers.values():
            optimizer.look_at_backward()
        self._end_rows()
        self.missing_gradients.backward_ended(is_missing=any(self.missing()))

    def missing(self) -> Iterator[TrainedParameter]:
        """Yield the parameters without a gradient so far, in networks where others have one."""
        trained = {each.network for each in self.parameters.values() if each.gradients}
        for fact in self.parameters.values():
            has_none = fact.requires_grad and not fact.gradients and not fact.steps
            if has_none and fact.network in trained and not fact.is_written:
                yield fact

    def step_began(self, step: OptimizerStep) -> None:
        """Note with what a step begins."""
        if get_ident() == self._thread and not step.closure:
            self._known(step.optimizer).look_for_gradients(step.parameters)

    def _known(self, optimizer: Optimizer) -> SteppedOptimizer:
        known = self.optimizers.get(id(optimizer))
        if known is None or known.alive() is not optimizer:
            known = self.optimizers[id(optimizer)] = SteppedOptimizer(optimizer)
        return known

    def step_ended(self, step: OptimizerStep) -> None:
        """Note a step."""
        if get_ident() != self._thread:
            return
        optimizer, parameters, closure = step
        known = self._known(optimizer)
        known.steps += 1
        known.look_at_rates(optimizer)
        if closure:
            known.look_for_gradients(parameters)
        facts, again = [], []
        for parameter in parameters:
            fact = self.parameters.get(id(parameter))
            if fact is not None:
                facts.append(fact)
                if fact.stepped(parameter) and known.has_gradients:
                    again.append(fact)
        self._end_rows()
        self._ask(self.rules.at_step, Step(known, facts, again))
        stepped = {fact.network for fact in facts}
        self._add(each for each in self._of_backward if each[1].network in stepped)
        self.scheduled.pop(id(optimizer), None)

    def schedule_began(self, scheduler: LRScheduler) -> None:
        """Note that a schedule makes a step."""
        optimizer = scheduler.optimizer
        if id(optimizer) not in self.optimizers and begins_before_optimizer(scheduler):
            self.scheduled.setdefault(id(optimizer), self.backwards)

    def conclude(self) -> None:
        """Ask the rules that want to know the whole run."""
        self.missing_gradients.conclude()
        if self.backwards:
            self._ask(self.rules.at_end, at_end=True)

    def latest(self) -> str | None:
        """Return the network with parameters that was called last with gradients enabled."""
        labels = self.log.networks
        trained = {each.network for each in self.parameters.values()}
        calls = [(last.at, labels[of]) for of, last in self.with_gradients.items()]
        return max((each for each in calls if each[1] in trained), default=(0, None))[1]

    def iteration_of(self, network: str) -> int:
        """Return the iteration of a network that trains."""
        calls = self.with_gradients.get(self.log.networks.index(network))
        return 0 if calls is None else calls.iteration

    def network_of(self, label: str) -> Network:
        """Return the network of this name."""
        return self.networks[self.log.networks.index(label)]

    def _ask(self, rules: RulesByName, *event: Any, at_end: bool = False) -> None:
        """Ask rules, and add what they find."""
        self._add(self._answers(rules, *event), at_end=at_end)

    def _answers(self, rules: RulesByName, *event: Any) -> Iterator[tuple[str, Finding]]:
        return ((rule, each) for rule, find in rules.items() for each in find(self, *event))

    def _add(self, found: Iterable[tuple[str, Finding]], *, at_end: bool = False) -> None:
        """Add what was not found before."""
        for rule, each in found:
            key = rule, each.network, each.layer
            if key not in self._found:
                self._found.add(key)
                iteration = 0 if at_end else self.iteration_of(each.network)
                self.log.findings.append(replace(each, rule=rule, iteration=iteration))

    def _end_rows(self) -> None:
        for last in self.without.values():
            last.in_a_row = 0

    def _look_through(self) -> None:
        """Find the parameters of the networks that were met since."""
        while self._looked_through < len(self.networks):
            network = self.networks[self._looked_through]
            self._looked_through += 1
            module = network.module()
            for name, parameter in {} if module is None else named_parameters(module).items():
                known = self.parameters.get(id(parameter))
                if known is None or known.alive() is not parameter:
                    fact = TrainedParameter(network.label, name, parameter)
                    self.parameters[id(parameter)] = fact

    def _alive(self) -> Iterator[tuple[TrainedParameter, torch.Tensor]]:
        for fact in self.parameters.values():
            parameter = fact.alive()
            if parameter is not None:
                yield fact, parameter
