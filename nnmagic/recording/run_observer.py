"""The observer of a run: which of its calls are recorded, and which are passed over."""

from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from nnmagic.network.calls import CallObserver, RunningCall, observed
from nnmagic.network.naming import Naming, Network
from nnmagic.recording.iterations import Iterations
from nnmagic.recording.log_limits import LogLimits
from nnmagic.recording.probing import Probe
from nnmagic.recording.recorder import Recorder, WrittenCall
from nnmagic.recording.reports import Follower
from nnmagic.recording.training import Training


class RunObserver(CallObserver[WrittenCall]):
    """Hands the calls of a run to its recorder.

    Args:
        recorder: writes the calls.
        naming: names networks and layers.
        every: record the iterations 0, every, 2 * every, ... of each place in the code only.

    Attributes:
        iterations: counts the root calls.
        limits: keep the log small.
        training: asks the rules on a run that trains; None asks none.
        probe: runs the network on an input at each recorded iteration; None runs none.
        follower: follows the iterations; None follows none.
    """

    def __init__(self, recorder: Recorder, naming: Naming, every: int = 1) -> None:
        super().__init__(naming, recorder.log.lock)
        self.recorder = recorder
        self.iterations = Iterations(recorder.log, every)
        self.training: Training | None = None
        self.limits = LogLimits(recorder, every)
        self.probe: Probe | None = None
        self.follower: Follower | None = None
        # straight to the recorder, which spares a frame at both ends of each call
        self.began = recorder.began  # type: ignore[method-assign]
        self.ended = recorder.ended  # type: ignore[method-assign]

    def observing(self) -> AbstractContextManager[None]:
        """See all calls for the length of the block."""
        return observed(self)

    def _outermost(
        self, stack: list[RunningCall[WrittenCall]], module: nn.Module
    ) -> tuple[Network, str, int] | None:
        """Return the network, the layer's name and the step of a root call, also of a probe's."""
        probe = self.probe
        if probe is None or probe.iteration is None or probe.network is None:
            return super()._outermost(stack, module)
        network = probe.network
        network.steps += 1
        return network, network.name_of(module, None, ""), network.steps - 1

    def skips(self, call: RunningCall[WrittenCall]) -> bool:
        """Tell whether a root call is of an iteration that is not recorded."""
        if self.probe is not None and self.probe.iteration is not None:
            call.iteration = self.probe.iteration
            return False
        call.iteration = iteration = self.iterations.of_call(call)
        if self.training is not None:
            self.training.root_called(call)
        is_skipped = iteration.is_skipped
        if is_skipped and call.network.index == len(self.recorder.networks):
            self.recorder.meet(call.network)  # first called by a thread; later ones are numbered on
        if self.follower is not None or self.probe is not None:
            self._begin_followed(call)
        if not is_skipped:
            if iteration.is_new:
                self.limits.make_room(iteration.series, is_busy=self.is_busy)
        else:
            self.recorder.steps.began(call.network, None)
        return is_skipped

    def _begin_followed(self, call: RunningCall[WrittenCall]) -> None:
        """Tell of the iteration that is over, and run the probe for the one that begins."""
        iteration, recorder, network = call.iteration, self.recorder, call.network
        series = recorder.log.series[iteration.series]
        learns = series.grad and recorder.steps.learns(network)
        if self.follower is not None:
            self.follower.begins(iteration, learns=learns)
        is_due = learns and iteration.is_new and not iteration.is_skipped and not self.is_busy
        if self.probe is not None and is_due and self.probe.is_due(iteration):
            if network.index == len(recorder.networks):
                recorder.meet(network)
            self.probe.run(network, self.naming, self.limits, iteration.number)

    def began(self, call: RunningCall[WrittenCall]) -> WrittenCall:
        """Write the call and what it got."""
        return self.recorder.began(call)

    def ended(self, call: RunningCall[WrittenCall], output: Any) -> None:
        """Write what the call returned."""
        self.recorder.ended(call, output)

    def raised(self, call: RunningCall[WrittenCall], error: BaseException) -> None:
        """Write that an exception passes through the call."""
        self.recorder.raised(call, error)

    def stopped(self, call: RunningCall[WrittenCall]) -> None:
        """Write that the backward has what it needed of a recomputation."""
        self.recorder.stopped(call)
