"""What a rank of a distributed run holds: the state of its networks, and the reduced gradients."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from torch import Tensor, distributed, nn

from nnmagic.network.layers import named_buffers, named_parameters
from nnmagic.network.naming import Network
from nnmagic.network.optimizer_steps import OptimizerStep
from nnmagic.recording.backwards_and_steps import BackwardsAndSteps
from nnmagic.records.call_log import TraceLog
from nnmagic.records.held_tensor import BUFFER, GRADIENT, PARAMETER, HeldTensor
from nnmagic.records.tensor import TensorRecord
from nnmagic.records.tensor_log import TensorLog
from nnmagic.tensors.metadata import is_lazy, metadata_of
from nnmagic.tensors.writer import TensorWriter
from nnmagic.torch_private import pipeline_stages

FRAMES = 16
"""So many callers are looked at for the stage of a pipeline that calls its network."""


class RankState:
    """Notes which rank this is, and what it holds before a run and after it; no other is asked.

    Without a process group nothing is done. With one the state is measured twice a run, and the
    gradients at each recorded step: about 25 ms for 10 million values.

    Args:
        log: the columns of the run.
        tensors: writes the tensors of the calls, with their digests where there are other ranks.
        steps: tells which iterations are recorded, and whether a step came after a backward.
    """

    def __init__(self, log: TraceLog, tensors: TensorWriter, steps: BackwardsAndSteps) -> None:
        self.log = log
        self._tensors = tensors
        self._steps = steps

    @cached_property
    def _gradients(self) -> "_Measured":
        return _Measured()

    def look(self) -> bool:
        """Tell whether there is a process group, and note this process's place in it."""
        if self.log.rank is None and distributed.is_available() and distributed.is_initialized():
            self.log.rank = distributed.get_rank()
            self.log.world_size = distributed.get_world_size()
            self._tensors.digests = True
        return self.log.rank is not None

    def meet(self, network: Network) -> None:
        """Note a network before its first call; one of a pipeline is named by its stage.

        Ranks hold stages of one class, and with layers of the same names, that differ.
        """
        if not self.look():
            return
        stage = _stage_that_calls()
        if stage is not None:
            network.label = f"{network.label} (stage {stage})"
        self.log.held_before += _state_of([network])

    def stepping(self, step: OptimizerStep, networks: Iterable[Network]) -> None:
        """Note the gradients that an optimizer gets, unless the iteration is not recorded."""
        if self.log.rank is None:
            return
        written = {*map(id, step.parameters)}
        for network, module in _alive(networks):
            if self._steps.root_of([network.index]) is not None:
                for name, each in named_parameters(module).items():
                    if id(each) in written and each.grad is not None:
                        self._gradients.add(network, name, GRADIENT, each.grad)

    def conclude(self, networks: Sequence[Network]) -> None:
        """Note what the networks hold now, and the gradients: the last that were reduced.

        What the last step got is told, unless a backward came after it and its gradients are there.
        """
        if not self.look():
            return
        own = [each for each in networks if not each.is_probe]
        self.log.held += _state_of(own)
        noted = self._gradients.held()
        left = _gradients_of(own) if self._steps.awaits_step or not noted else []
        self.log.held += left or noted


class _Measured:
    """Tensors of networks that are measured, and whose values are not kept."""

    def __init__(self) -> None:
        self._log = TensorLog()
        self._writer = TensorWriter(self._log, "none")
        self._writer.digests = True
        self._numbers: dict[tuple[Network, str, str], int] = {}

    def add(self, network: Network, name: str, kind: str, tensor: Tensor) -> None:
        """Measure a tensor, in place of an earlier one of this network, name and kind."""
        key = network, name, kind
        number = self._numbers.get(key)
        if number is not None and self._log.metadata_of(number) != metadata_of(tensor):
            number = None
        self._numbers[key] = self._writer.write_alone(tensor, written=number)

    def held(self) -> list[HeldTensor]:
        """Return what is known of them."""
        return [_held(*key, self._log.record(number)) for key, number in self._numbers.items()]


def _held(network: Network, name: str, kind: str, each: TensorRecord) -> HeldTensor:
    return HeldTensor(
        network=network.label,
        name=name,
        kind=kind,
        shape=each.shape,
        dtype=each.dtype,
        digest=each.digest,
        norm=each.norm,
        is_constant=each.min is not None and each.min == each.max and not each.nan,
        global_shape=each.global_shape,
        placements=each.placements,
        mesh=each.mesh,
    )


def _state_of(networks: Iterable[Network]) -> list[HeldTensor]:
    """Return the parameters and buffers of networks as they are now."""
    state = _Measured()
    for network, module in _alive(networks):
        for name, parameter in named_parameters(module).items():
            if not is_lazy(parameter):
                state.add(network, name, PARAMETER, parameter)
        for name, buffer in named_buffers(module).items():
            if not is_lazy(buffer):
                state.add(network, name, BUFFER, buffer)
    return state.held()


def _gradients_of(networks: Iterable[Network]) -> list[HeldTensor]:
    """Return the gradients that the parameters of networks have now."""
    state = _Measured()
    for network, module in _alive(networks):
        for name, each in named_parameters(module).items():
            if each.grad is not None:
                state.add(network, name, GRADIENT, each.grad)
    return state.held()


def _alive(networks: Iterable[Network]) -> Iterator[tuple[Network, nn.Module]]:
    """Yield the networks that are there, each with its module."""
    for network in networks:
        module = network.module()
        if module is not None:
            yield network, module


def _stage_that_calls() -> int | None:
    """Return the number of the stage of a pipeline that is calling its network."""
    kinds = pipeline_stages()
    frame = sys._getframe() if kinds else None
    for _ in range(FRAMES):
        if frame is None:
            return None
        caller = frame.f_locals.get("self")
        if isinstance(caller, kinds):
            return int(caller.stage_index)
        frame = frame.f_back
    return None
