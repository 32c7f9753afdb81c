"""Recording a run: for the length of a block, or of one call of a module."""

from collections.abc import Iterator

import torch
from torch import nn

from nnmagic.contexts import block
from nnmagic.network.naming import Naming
from nnmagic.network.preserve import preserved, random_state_kept
from nnmagic.recording.functions import FunctionRecorder
from nnmagic.recording.recorder import Recorder
from nnmagic.records.call_log import TraceLog


@block
def recording(
    title: str,
    naming: Naming,
    *,
    every: int = 1,
    keep: str = "sample",
    grad: bool = False,
    ops: bool = False,
) -> Iterator[Recorder]:
    """Record the module calls of the block; an exception goes on with a note that names its layer.

    Args:
        title: what the record says it is of.
        naming: names networks and layers.
        every: record the steps 0, every, 2 * every, ... of each network only.
        keep: what to keep of each tensor's values: `"none"`, `"sample"` or `"all"`.
        grad: whether to note the gradients of a backward in the block.
        ops: whether to record the tensor functions between the modules too.
    """
    kind = FunctionRecorder if ops else Recorder
    recorder = kind(TraceLog(title), naming, every, keep, grad=grad)
    try:
        with recorder.observing():
            yield recorder
    except BaseException as error:
        recorder.blame(error)
        raise
    finally:
        recorder.conclude()


@block
def own_run(module: nn.Module) -> Iterator[None]:
    """The mode of a run that nnmagic starts itself: eval, no graph, a random state of its own.

    Modes, buffers and all that the forward stores on its modules are put back.
    """
    with preserved(module), random_state_kept(seed=0), torch.no_grad():
        module.eval()
        yield
