"""Recording a run: for the length of a block, or of one call of a module."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from nnmagic.blocks import block
from nnmagic.function_recorder import FunctionRecorder
from nnmagic.inputs import takes_no_input, work_out_input
from nnmagic.naming import Naming
from nnmagic.recorder import Recorder
from nnmagic.state import preserved, random_state_kept
from nnmagic.trace_log import TraceLog
from nnmagic.trace_records import Trace

KEEPS = ("none", "sample", "all")


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


def trace(module: nn.Module, /, *args: Any, **kwargs: Any) -> Trace:
    """Call a module and return what every layer inside got and returned.

    All arguments go to the module. Without any, it runs on an input that nnmagic works out, in
    eval mode and without a graph; otherwise in the caller's own modes.

    Raises:
        InputError: if no argument is given and no input can be worked out.
        Exception: whatever the forward raises, the same object, with a note that names the layer.
    """
    __tracebackhide__ = True
    naming = Naming(lambda: [(type(module).__name__, module)])
    name = type(module).__name__
    if args or kwargs or takes_no_input(module):
        with recording(name, naming) as recorder:
            output = module(*args, **kwargs)
    else:
        given = work_out_input(module)
        with own_run(module), recording(f"{name} on {given.text}", naming) as recorder:
            output = module(*given.args, **given.kwargs)
        recorder.log.notes.append(f"input: {given.text}, since {given.reason}")
        recorder.roots.remake = lambda network: work_out_input(network).call
    return Trace(log=recorder.log, output=output, root=recorder.roots)


@block
def tracing(
    *modules: nn.Module,
    every: int = 1,
    keep: str = "sample",
    grad: bool = False,
    ops: bool = False,
) -> Iterator[Trace]:
    """Record every module call in the block, or those of the given networks only.

    Args:
        *modules: the networks to record; none records all that run.
        every: record the steps 0, every, 2 * every, ... of each network only.
        keep: what to keep of each tensor's values: `"none"`, a bounded `"sample"`, or `"all"`.
        grad: whether to note the gradients of a backward in the block, of what the layers return
            and of their parameters.
        ops: whether to record the tensor functions that a forward, or the block, calls itself.

    Yields:
        The trace, which fills as the block runs; it keeps what ran before an exception.

    Raises:
        ValueError: if `every` is not positive, or `keep` is none of the three.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, it is {every}")
    if keep not in KEEPS:
        raise ValueError(f"keep must be one of {', '.join(KEEPS)}, it is {keep!r}")
    naming = Naming(
        lambda: [(type(module).__name__, module) for module in modules], only=bool(modules)
    )
    with recording("tracing", naming, every=every, keep=keep, grad=grad, ops=ops) as recorder:
        yield Trace(log=recorder.log, root=recorder.roots)
