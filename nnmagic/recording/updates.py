"""The parameters of a run as it learns: their gradients, and what the optimizers' steps change."""

import weakref
from collections.abc import Iterable
from contextlib import suppress
from math import nan
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from nnmagic.network.naming import Network
from nnmagic.network.optimizer_steps import OptimizerStep
from nnmagic.recording.backwards_and_steps import BackwardsAndSteps
from nnmagic.records.call_log import TraceLog
from nnmagic.records.measures import Quantity
from nnmagic.records.thinning import Renumbering
from nnmagic.tensors.marks import marks_of
from nnmagic.tensors.metadata import HiddenFromUserCode, is_lazy, metadata_of
from nnmagic.tensors.shards import part_here
from nnmagic.tensors.writer import TensorWriter
from nnmagic.torch_private import hook_first, parameters_of, remove_hook


class FollowedParameter:
    """A parameter of the run, and what is known of it in the iteration at hand.

    Attributes:
        parameter: a weak reference to it.
        names: its name in each layer that holds it, by the index of the network and the layer.
        hook: what notes its gradient when a backward makes it.
        number: the number of its gradient in the log, None as long as there is none.
        mark: what tells whether the gradient was written to since it was noted.
        root: the root call that the gradient belongs to, until its numbers are in the log.
        norm: its own norm when the backward, or the step, came to it: a tensor of one value.
        before: its values before the step at hand.
    """

    __slots__ = ("before", "hook", "mark", "names", "norm", "number", "parameter", "root")

    def __init__(self, parameter: torch.Tensor) -> None:
        self.parameter = weakref.ref(parameter)
        self.names: dict[tuple[int, str], str] = {}
        self.hook: RemovableHandle | None = None
        self.number: int | None = None
        self.mark: tuple[Any, ...] = ()
        self.root: int | None = None
        self.norm: torch.Tensor | None = None
        self.before: torch.Tensor | None = None

    def quantities(self, suffix: str) -> list[Quantity]:
        """Return what a number of it is of, once for each of its names."""
        return [Quantity(*where, f"{name}.{suffix}") for where, name in self.names.items()]

    @property
    def networks(self) -> list[int]:
        """The networks that hold it."""
        return [network for network, _ in self.names]


class ParameterUpdates:
    """Notes the gradients of parameters, their norms, and how far each step moves them.

    A gradient is noted as a backward leaves it, before anything can clear it, and once more where
    it was changed before an optimizer's step, as by clipping. In an iteration that is not recorded
    nothing is measured. A step that runs the network within it (a closure, as for LBFGS and in
    Lightning) is followed from the first recorded call in it.

    Args:
        log: the columns of the run.
        tensors: writes the gradients into it.
        steps: tells which root call a backward, or a step, belongs to.
    """

    def __init__(self, log: TraceLog, tensors: TensorWriter, steps: BackwardsAndSteps) -> None:
        self.log = log
        self.tensors = tensors
        self.steps = steps
        self._followed: dict[int, FollowedParameter] = {}
        self._closures: list[OptimizerStep] = []
        self._changed = False

    def follow_network(self, network: Network) -> None:
        """Note the gradients of all parameters that a network has now."""
        for name, module in network.layers():
            layer = module()
            if layer is not None:
                self.follow(network, name, layer)

    def follow(self, network: Network, name: str, layer: nn.Module) -> None:
        """Note the gradients of a layer's own parameters when a backward makes them."""
        for key, parameter in parameters_of(layer).items():
            if parameter is None or not parameter.requires_grad or not parameter.is_leaf:
                continue
            followed = self._followed.get(id(parameter))
            if followed is None or followed.parameter() is not parameter:
                if is_lazy(parameter):
                    continue  # it is followed once its layer was called
                followed = self._followed[id(parameter)] = FollowedParameter(parameter)
                with suppress(RuntimeError):  # of a subclass that takes no hooks `.grad` is read
                    followed.hook = hook_first(parameter, self._made)
            followed.names.setdefault((network.index, name), key)

    def _made(self, parameter: torch.Tensor) -> None:
        """Note the gradient that a backward has made."""
        followed = self._followed.get(id(parameter))
        root = None if followed is None else self.steps.root_of(followed.networks)
        if followed is not None and root is not None:
            with self.log.lock:
                self._begin(followed, parameter, root)
                self._note(followed, parameter)

    def _begin(self, followed: FollowedParameter, parameter: torch.Tensor, root: int) -> None:
        """Let what comes belong to a root call, which ends what belongs to an earlier one."""
        if followed.root != root:
            self._flush(followed)
            followed.root, followed.norm = root, _norm(parameter)

    # Steps.

    def root_began(self) -> None:
        """Take what a step with a closure may change, now that a recorded call begins in it."""
        for step in self._closures:
            for followed, parameter in self._of(step.optimizer):
                if followed.before is None:
                    followed.before = _copy(parameter)

    def stepping(self, step: OptimizerStep) -> None:
        """Note the gradients that an optimizer gets otherwise than the backward left them."""
        if step.closure:
            self._closures.append(step)
            return
        with self.log.lock:
            for followed, parameter in self._held(step.parameters):
                root = self.steps.root_of(followed.networks)
                if root is not None:
                    self._begin(followed, parameter, root)
                    self._note_changed(followed, parameter, step)
                    followed.before = _copy(parameter)

    def stepped(self, step: OptimizerStep) -> None:
        """Note how far a step moved the parameters."""
        self._closures = [each for each in self._closures if each.optimizer is not step.optimizer]
        with self.log.lock:
            for followed, parameter in self._of(step.optimizer):
                before, followed.before = followed.before, None
                root = followed.root
                if before is None or root is None:
                    continue
                if root == self.steps.root_of(followed.networks):
                    if step.closure:
                        self._note_changed(followed, parameter, step)
                    self._note_update(followed, parameter, before, root)
                self._flush(followed)

    def _held(
        self, parameters: Iterable[torch.Tensor]
    ) -> list[tuple[FollowedParameter, torch.Tensor]]:
        held = ((self._followed.get(id(each)), each) for each in parameters)
        return [(f, each) for f, each in held if f is not None and f.parameter() is each]

    def _of(self, optimizer: Any) -> list[tuple[FollowedParameter, torch.Tensor]]:
        return self._held(each for group in optimizer.param_groups for each in group["params"])

    def _note_changed(
        self, followed: FollowedParameter, parameter: torch.Tensor, step: OptimizerStep
    ) -> None:
        """Note the gradient that a parameter has, if it is not the one that was noted."""
        if parameter.grad is None:
            return
        mark = _mark_of(parameter)
        if mark == followed.mark:
            return
        if mark[:2] != followed.mark[:2] and self.steps.loss_scale.largest is None:
            self._changed = self._changed or bool(followed.mark)
        # a fused optimizer is handed the scale, and unscales in the step
        self._note(followed, parameter, getattr(step.optimizer, "grad_scale", None))

    def _note(
        self, followed: FollowedParameter, parameter: torch.Tensor, scale: Any = None
    ) -> None:
        """Write the gradient that a parameter has now into the log, in place of the one before."""
        gradient = parameter.grad
        if gradient is None:
            return
        with self.log.lock:
            tensors, number = self.log.tensors, followed.number
            if number is not None and tensors.metadata_of(number) != metadata_of(gradient):
                number = None
            unscaled = self.steps.loss_scale.unscaled(gradient)
            if scale is not None:
                with torch.no_grad(), HiddenFromUserCode():
                    unscaled = part_here(gradient) / scale
            followed.number = self.tensors.write_alone(unscaled, written=number)
            followed.mark = _mark_of(parameter)

    def _note_update(
        self, followed: FollowedParameter, now: torch.Tensor, before: torch.Tensor, root: int
    ) -> None:
        try:
            with torch.no_grad(), HiddenFromUserCode():
                norms = [_norm(before), _norm(part_here(now).detach() - before)]
        except Exception:  # noqa: BLE001 - an observer observes: a subclass may refuse
            return
        if None not in norms:
            self.steps.measure(
                root,
                followed.quantities("update_ratio"),
                [each for each in norms if each is not None],
                lambda norm, change: change / norm if norm else nan,
            )

    def _flush(self, followed: FollowedParameter) -> None:
        """Write the numbers of a parameter's last iteration into the log."""
        root, number, norm = followed.root, followed.number, followed.norm
        followed.root = followed.norm = None
        if root is None or number is None:
            return
        known = self.log.tensors.known_norm_of
        self.steps.measure(root, followed.quantities("grad_norm"), [], lambda: known(number))
        if norm is not None:
            self.steps.measure(root, followed.quantities("norm"), [norm], lambda norm: norm)

    # Numbers.

    def flush(self) -> None:
        """Write what is known of the iteration at hand into the log."""
        for followed in self._followed.values():
            self._flush(followed)

    @property
    def held(self) -> list[int]:
        """The numbers of the gradients in the log."""
        return [each.number for each in self._followed.values() if each.number is not None]

    def renumber(self, numbers: Renumbering) -> None:
        """Go on with the new numbers of the gradients."""
        for each in self._followed.values():
            each.number = None if each.number is None else numbers.tensors[each.number]

    # The end.

    def let_go(self) -> None:
        """Take all hooks away."""
        for followed in self._followed.values():
            parameter = followed.parameter()
            if followed.hook is not None and parameter is not None:
                remove_hook(parameter, followed.hook)
            followed.before = None
            self._flush(followed)
        self._closures.clear()

    @property
    def has_new(self) -> bool:
        """Whether a backward of the run made a gradient."""
        return any(each.mark for each in self._followed.values())

    @property
    def has_any(self) -> bool:
        """Whether a parameter has a gradient at all."""
        return any(each.number is not None for each in self._followed.values())

    def number_of(self, parameter: torch.Tensor) -> int | None:
        """Return the number of a parameter's gradient in the log, which is written once."""
        followed = self._followed.get(id(parameter))
        if followed is None or followed.parameter() is not parameter:
            followed = self._followed[id(parameter)] = FollowedParameter(parameter)
        if followed.number is None:
            self._note(followed, parameter)
        return followed.number

    def notes(self) -> list[str]:
        """Return lines on what came between the backwards and the steps."""
        how = "as by clipping" if self.log.rank is None else "as by the reduction over the ranks"
        clipped = f"gradients were changed before the step, {how}: shown as the step got them"
        return [*self.steps.notes(), *([clipped] if self._changed else [])]


def _mark_of(parameter: torch.Tensor) -> tuple[Any, ...]:
    """Return what tells whether a parameter's gradient was written to."""
    assert parameter.grad is not None
    versions, addresses, values, _ = marks_of([parameter.grad])
    # a new object is unlike any other, so that nobody waits for values of an accelerator
    value = object() if isinstance(values[0], torch.Tensor) else values[0]
    return versions[0], addresses[0], value


def _copy(parameter: torch.Tensor) -> torch.Tensor | None:
    """Return a copy of a parameter's values, None of one that refuses."""
    try:
        with torch.no_grad(), HiddenFromUserCode():
            return part_here(parameter).detach().clone()
    except Exception:  # noqa: BLE001 - an observer observes: a subclass may refuse
        return None


def _norm(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the Euclidean norm of a tensor, a tensor of one value; None of one that refuses."""
    try:
        with torch.no_grad(), HiddenFromUserCode():
            held = part_here(tensor).detach()
            is_short = held.dtype in (torch.float16, torch.bfloat16)
            return torch.linalg.vector_norm(held, dtype=torch.float32 if is_short else None)
    except Exception:  # noqa: BLE001 - an observer observes: a subclass may refuse
        return None
