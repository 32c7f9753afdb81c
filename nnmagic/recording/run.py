"""Recording a run: for the length of a block, or of one call of a module."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from nnmagic.contexts import block
from nnmagic.network.fingerprint import NetworkChanges
from nnmagic.network.layers import set_training
from nnmagic.network.naming import Naming
from nnmagic.network.optimizer_steps import optimizer_steps
from nnmagic.network.preserve import preserved
from nnmagic.network.random_state import random_state_kept
from nnmagic.recording.functions import FunctionObserver
from nnmagic.recording.missing_gradients import MissingGradients
from nnmagic.recording.probing import Probe
from nnmagic.recording.recorder import Recorder
from nnmagic.recording.reports import Follower
from nnmagic.recording.rules.training_rules import RULES
from nnmagic.recording.run_observer import RunObserver
from nnmagic.recording.training import Training
from nnmagic.records.call_log import TraceLog
from nnmagic.records.findings.threshold_rules import exceeded
from nnmagic.tensors.writer import TensorWriter


@block
def recording(
    title: str,
    naming: Naming,
    *,
    every: int = 1,
    keep: str = "sample",
    grad: bool = False,
    ops: bool = False,
    watched: Iterable[nn.Module] | None = None,
    probe: Any = None,
    follow: Callable[[Recorder], Follower] | None = None,
) -> Iterator[Recorder]:
    """Record the module calls of the block; an exception goes on with a note that names its layer.

    Args:
        title: what the record says it is of.
        naming: names networks and layers.
        every: record the iterations 0, every, 2 * every, ... of each place in the code only.
        keep: what to keep of each tensor's values: `"none"`, `"sample"` or `"all"`.
        grad: whether to note the gradients of a backward in the block.
        ops: whether to record the tensor functions between the modules too.
        watched: the networks that the block may change before it calls them; None where it is one
            call, after which nothing is learned.
        probe: an input on which the network that learns is run at each recorded iteration.
        follow: makes what follows the iterations, such as `Reports`; None follows none.
    """
    log = TraceLog(title)
    tensors = TensorWriter(log.tensors, keep)
    recorder = Recorder(log, tensors, grad=grad, changes=NetworkChanges(watched))
    steps = recorder.steps
    observer = (FunctionObserver if ops else RunObserver)(recorder, naming, every)
    if watched is not None:  # a call of one module is no loop that trains
        observer.training = Training(log, recorder.networks, RULES, MissingGradients(observer))
    training = observer.training
    observer.probe = None if probe is None else Probe(probe, log)
    observer.follower = None if follow is None else follow(recorder)
    ended_by = None
    try:
        with (
            optimizer_steps(before=recorder.stepping, after=recorder.stepped),
            nullcontext() if watched is None else steps.following(),
            nullcontext() if training is None else training.followed(),
            observer.observing(),
        ):
            yield recorder
    except BaseException as error:
        recorder.blame(error)
        ended_by = error
        raise
    finally:
        observer.iterations.finish()
        if training is not None:
            training.conclude()
        recorder.conclude(ended_by)
        if observer.follower is not None:
            observer.follower.conclude()
        if observer.probe is not None and observer.probe.network is None:
            log.say("the probe was not run: no network was called to learn")
        if training is not None and training.backwards:
            log.findings += exceeded(log)
        observer.limits.conclude()
        ended_by = None  # this frame is in its traceback


@block
def own_run(module: nn.Module) -> Iterator[None]:
    """The mode of a run that nnmagic starts itself: eval, no graph, a random state of its own.

    Modes, buffers and all that the forward stores on its modules are put back.
    """
    with preserved(module), random_state_kept(seed=0), torch.no_grad():
        set_training(module, training=False)
        yield


@block
def same_run(module: nn.Module, *, grad: bool) -> Iterator[None]:
    """The mode of a run that is to give what a recorded one gave: the network's modes as they are.

    What it changes of the network is put back; the random numbers are not those of the recorded
    run.

    Args:
        module: the network.
        grad: whether gradients were enabled.
    """
    with preserved(module), random_state_kept(seed=0), torch.set_grad_enabled(grad):
        yield
