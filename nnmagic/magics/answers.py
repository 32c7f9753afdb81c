"""How a typed line is answered, whichever magic it is: run, recorded, shown or refused."""

from collections.abc import Callable, Iterator
from typing import Any

from IPython.core.error import UsageError
from IPython.display import display
from torch import nn

from nnmagic.contexts import block
from nnmagic.inputs.search import InputError
from nnmagic.magics.display import is_kernel
from nnmagic.magics.remedies import described, remedy
from nnmagic.magics.request import Request
from nnmagic.network.naming import Naming
from nnmagic.recording.run import recording
from nnmagic.records.record import Record
from nnmagic.records.trace import Trace
from nnmagic.structure.describe import ValuesNeededError
from nnmagic.structure.plan_request import PlanError


@block
def usage(magic: str) -> Iterator[None]:
    """Turn what is wrong with the line into one line that begins with the magic's name."""
    __tracebackhide__ = True
    try:
        yield
    except (UsageError, InputError, ValuesNeededError, PlanError) as error:
        more = "; type --real to run it for real" if isinstance(error, ValuesNeededError) else ""
        raise UsageError(f"{magic}: {error}{more}") from None


def run(
    command: Callable[[Request], Record],
    magic: Any,
    line: str,
    shell: Any,
    local: dict[str, Any] | None,
) -> Record | None:
    """Return what a line magic returns.

    Args:
        command: gives the record, one of `summary_of`, `params_of` and `trace_or_comparison`.
        magic: the magic's function, which knows its options.
        line: what was typed after the magic's name.
        shell: the IPython shell.
        local: the local names of the function that the magic is called in.
    """
    __tracebackhide__ = True
    with usage(f"%{magic.__name__}"):
        request = Request(magic, line, shell, local)
        return request.result(command(request))


def check_live(request: Request) -> None:
    """Look whether a line that asks for a live widget can have one.

    Raises:
        UsageError: if it cannot.
    """
    options = request.options
    if options.live and options.static:
        raise UsageError("--live is a widget; leave out --static")
    if options.live and not is_kernel(request.shell):
        raise UsageError("--live shows a widget, which needs a notebook; leave it out here")


UNUSED = "--input-size and --device are ignored: the expression has an input of its own"
"""What a line says of options that it has no use for."""


def no_layer_ran(request: Request, value: Any) -> str:
    """Return what to type in place of an expression in which no layer ran."""
    return (
        f"no layer ran in {request.expression!r} (it gave {described(value)}); "
        f"{remedy(request.expression, value)}"
    )


def recorded(
    request: Request,
    title: str,
    naming: Naming,
    run: Callable[[], Any],
    watched: list[nn.Module] | None = None,
    show: Callable[[Trace], None] | None = None,
    **more: Any,
) -> Trace:
    """Run under the recorder; on an exception show what there is, and let it go on.

    Args:
        request: the line.
        title: what the record says it is of.
        naming: names networks and layers.
        run: what is run.
        watched: the networks that may change before they are called; None where it is one call.
        show: shows a trace; None displays it.
        **more: what else `recording` takes.
    """
    __tracebackhide__ = True
    recorder = None
    try:
        with recording(title, naming, watched=watched, **request.recorded(), **more) as recorder:
            value = run()
    except BaseException:
        if recorder is not None and len(recorder.log):
            trace = Trace(log=recorder.log, root=recorder.roots)
            (show or (lambda trace: display(request.shown(trace))))(trace)
        raise
    return Trace(log=recorder.log, output=value, root=recorder.roots)
