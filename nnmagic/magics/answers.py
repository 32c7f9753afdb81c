"""What a typed line is answered with: from its words to the record that it asks for."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from IPython.core.error import UsageError
from IPython.display import display
from torch import nn

from nnmagic.contexts import block
from nnmagic.inputs.search import InputError
from nnmagic.inputs.specs import Input
from nnmagic.magics.against import compared_with
from nnmagic.magics.display import is_kernel
from nnmagic.magics.remedies import described, remedy, require_init
from nnmagic.magics.request import Request
from nnmagic.network.calls import CallCounter, observed
from nnmagic.network.naming import Naming
from nnmagic.recording.run import own_run, recording
from nnmagic.records.comparison.parameters import ParamsComparison
from nnmagic.records.params import Params
from nnmagic.records.record import VALUES_SHOWN, Record
from nnmagic.records.trace import Trace
from nnmagic.structure.describe import ValuesNeededError
from nnmagic.structure.parameters import params
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
        command: gives the record, one of `summary_of`, `params_of` and `trace_of`.
        magic: the magic's function, which knows its options.
        line: what was typed after the magic's name.
        shell: the IPython shell.
        local: the local names of the function that the magic is called in.
    """
    __tracebackhide__ = True
    with usage(f"%{magic.__name__}"):
        request = Request(magic, line, shell, local)
        return request.result(command(request))


UNUSED = "--input-size and --device are ignored: the expression has an input of its own"
"""What a line says of options that it has no use for."""


def no_layer_ran(request: Request, value: Any) -> str:
    """Return what to type in place of an expression in which no layer ran."""
    return (
        f"no layer ran in {request.expression!r} (it gave {described(value)}); "
        f"{remedy(request.expression, value)}"
    )


def params_of(request: Request) -> Params | ParamsComparison:
    """Return the parameters that a line asks for, beside others where it asks for that."""
    __tracebackhide__ = True
    if request.options.against is not None:
        return compared_with(request, _params_subject(request))
    values = VALUES_SHOWN if request.options.values is None else request.options.values
    grad = request.options.grad
    value = _params_subject(request)
    try:
        return params(value, values=values, grad=grad, title=request.expression or "NeuralNetwork")
    except TypeError as error:
        raise UsageError(
            f"{request.expression!r}: {error}; type a network or a state dict"
        ) from None


def _params_subject(request: Request) -> nn.Module | Mapping[str, Any]:
    """Return the network or the state dict of a line, the default network where it names none."""
    __tracebackhide__ = True
    if not request.expression:
        return request.default_network()
    expression = request.python()
    call = expression.parts()
    if call is not None and isinstance(call.function, nn.Module):
        function = request.expression.partition("(")[0]
        raise UsageError(f"{request.expression!r} is a call; type the network alone: {function}")
    counter = CallCounter()
    with observed(counter):
        value = expression.value() if call is None else call()
    if counter.calls or not isinstance(value, nn.Module | Mapping):
        wanted = remedy(request.expression, value, "a network or a state dict")
        raise UsageError(f"{request.expression!r} gives {described(value)}; {wanted}")
    require_init(value)
    return value


def trace_of(request: Request) -> Trace:
    """Return the trace that a line asks for."""
    __tracebackhide__ = True
    if not request.expression:
        _needs_no_grad(request)
        network = request.default_network()
        make = request.default_input
        trace = _trace_alone(request, network, "NeuralNetwork", make, request.naming(()))
        return trace.of_default_network()
    expression = request.python()
    naming = request.naming(expression.names)
    check_trace_options(request)
    trace = recorded(request, request.expression, naming, expression.value, naming.named)
    if len(trace):
        if request.options.input_size or request.options.device:
            trace.log.notes.append(UNUSED)
        return trace
    if isinstance(trace.output, nn.Module):
        require_init(trace.output)
        _needs_no_grad(request)
        return _trace_alone(request, trace.output, request.expression, request.input_for, naming)
    raise UsageError(no_layer_ran(request, trace.output))


def check_trace_options(request: Request) -> None:
    """Look whether the options of a line fit each other.

    Raises:
        UsageError: if they do not.
    """
    options = request.options
    if options.every > 1:
        raise UsageError("--every works in the cell form only: %%nntrace")
    if options.probe:
        raise UsageError("--probe works in the cell form only: %%nntrace")
    if options.live and (options.ops or options.grad):
        raise UsageError("--live shows layers only; leave out --ops and --grad")
    if options.live and options.static:
        raise UsageError("--live is a widget; leave out --static")
    if options.live and not is_kernel(request.shell):
        raise UsageError("--live shows a widget, which needs a notebook; leave it out here")


def _needs_no_grad(request: Request) -> None:
    if request.options.grad:
        raise UsageError(
            "--grad needs a backward pass; "
            "type one, such as %nntrace --grad loss_fn(net(x), y).backward()"
        )


def _trace_alone(
    request: Request,
    network: nn.Module,
    name: str,
    make: Callable[[nn.Module], Input],
    naming: Naming,
) -> Trace:
    __tracebackhide__ = True
    network_input = make(network)

    def run() -> Any:
        __tracebackhide__ = True
        return network(*network_input.args, **network_input.kwargs)

    with own_run(network):
        trace = recorded(request, network_input.title(name), naming, run)
    trace.log.notes.extend(network_input.notes)
    if trace.root is not None:
        trace.root.remake = lambda network: make(network).call
    return trace


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
