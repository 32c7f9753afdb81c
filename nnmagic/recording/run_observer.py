"""The observer of a run: which of its calls are recorded, and which are passed over."""

from contextlib import AbstractContextManager
from typing import Any

from nnmagic.network.calls import CallObserver, RunningCall, observed
from nnmagic.network.naming import Naming
from nnmagic.recording.bounds import Bounds
from nnmagic.recording.iterations import Iterations
from nnmagic.recording.recorder import Recorder, WrittenCall
from nnmagic.recording.training import Training


class RunObserver(CallObserver[WrittenCall]):
    """Hands the calls of a run to its recorder.

    Args:
        recorder: writes the calls.
        naming: names networks and layers.
        every: record the iterations 0, every, 2 * every, ... of each place in the code only.
    """

    def __init__(self, recorder: Recorder, naming: Naming, every: int = 1) -> None:
        super().__init__(naming, recorder.log.lock)
        self.recorder = recorder
        self.iterations = Iterations(recorder.log, every)
        self.training: Training | None = None
        self.bounds = Bounds(recorder, every)
        # straight to the recorder, which spares a frame at both ends of each call
        self.began = recorder.began  # type: ignore[method-assign]
        self.ended = recorder.ended  # type: ignore[method-assign]

    def observing(self) -> AbstractContextManager[None]:
        """See all calls for the length of the block."""
        return observed(self)

    def skips(self, call: RunningCall[WrittenCall]) -> bool:
        """Tell whether a root call is of an iteration that is not recorded."""
        call.iteration = iteration = self.iterations.of_call(call)
        if self.training is not None:
            self.training.root_called(call)
        is_skipped = iteration.is_skipped
        if is_skipped and call.network.index == len(self.recorder.networks):
            self.recorder.meet(call.network)  # first called by a thread; later ones are numbered on
        if not is_skipped:
            if iteration.is_new:
                self.bounds.make_room(iteration.series, is_busy=self.is_busy)
        else:
            self.recorder.learning.began(call.network, None)
        return is_skipped

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
