"""What a typed line is answered with: from its words to the record that it asks for."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from IPython.core.error import UsageError
from IPython.display import display
from torch import nn

from nnmagic.contexts import block
from nnmagic.inputs.alone import describe_alone
from nnmagic.inputs.search import InputError
from nnmagic.inputs.specs import Input
from nnmagic.magics.against import compared_with
from nnmagic.magics.display import is_kernel
from nnmagic.magics.expression import CellBody, Expression
from nnmagic.magics.progress import ProgressLine, is_terminal
from nnmagic.magics.remedies import described, remedy, require_init
from nnmagic.magics.request import Request
from nnmagic.network.calls import CallCounter, observed
from nnmagic.network.naming import Naming
from nnmagic.network.random_state import random_state_kept
from nnmagic.recording.run import own_run, recording
from nnmagic.records.comparison.parameters import ParamsComparison
from nnmagic.records.params import Params
from nnmagic.records.record import VALUES_SHOWN, Record
from nnmagic.records.summary import Summary
from nnmagic.records.trace import Trace
from nnmagic.structure.describe import ValuesNeededError, describe, from_run, show_nothing
from nnmagic.structure.parameters import params
from nnmagic.structure.real_run import describe_run
from nnmagic.structure.shape_run import MetaRequest
from nnmagic.structure.torchinfo import PeerError, compared, torchinfo_summary


@block
def usage(magic: str) -> Iterator[None]:
    """Turn what is wrong with the line into one line that begins with the magic's name."""
    __tracebackhide__ = True
    try:
        yield
    except (UsageError, InputError, ValuesNeededError) as error:
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


_UNUSED = "--input-size and --device are ignored: the expression has an input of its own"


def _no_layer_ran(request: Request, value: Any) -> str:
    return (
        f"no layer ran in {request.expression!r} (it gave {described(value)}); "
        f"{remedy(request.expression, value)}"
    )


def summary_of(request: Request) -> Summary:
    """Return the summary that a line asks for."""
    __tracebackhide__ = True
    options = request.options
    by_torchinfo = options.engine == "torchinfo"
    if options.real and by_torchinfo:
        raise UsageError("torchinfo always runs the network; leave out --real")
    if options.optimizer and (options.real or by_torchinfo):
        raise UsageError("--optimizer needs the meta device; leave out --real and --engine")

    def show(partial: Summary) -> None:
        display(request.shown(partial))

    if not request.expression:
        network = request.default_network()
        if not options.input_size:
            default = request.default_input(network)
            return _summary_of_call(request, _alone(request, network, "NeuralNetwork")(default))
        return _summary_alone(request, network, "NeuralNetwork", show)
    summary, value = _evaluated(request, show)
    if isinstance(value, MetaRequest):
        return _summary_of_call(request, value, show)
    if summary.rows:
        if by_torchinfo or options.optimizer:
            raise UsageError(
                f"{request.expression!r} is more than one call of a network, which --optimizer and "
                f"--engine need; type one, such as net(x)"
            )
        notes = () if options.real else (f"{request.expression} was evaluated for real",)
        unused = (_UNUSED,) if options.input_size or options.device else ()
        return replace(summary, notes=(*summary.notes, *notes, *unused))
    if isinstance(value, nn.Module):
        require_init(value)
        return _summary_alone(request, value, request.expression, show)
    raise UsageError(_no_layer_ran(request, value))


def _evaluated(request: Request, failed: Callable[[Summary], None]) -> tuple[Summary, Any]:
    """Evaluate an expression, once, and return the structure of what ran, and its value.

    A call of a network whose arguments run no layer is not made: it is returned as a request.
    """
    __tracebackhide__ = True
    expression = request.python()

    def run() -> Any:
        __tracebackhide__ = True
        if request.options.real:
            return expression.value()
        counter = CallCounter()
        with observed(counter):
            call = expression.parts()
        if call is None:
            return expression.value()
        if call.network is None or counter.calls:
            return call()
        if request.options.input_size:
            raise UsageError(f"{request.expression!r} already has an input; leave out --input-size")
        is_method = call.function is not call.network  # which may have any attribute, or none
        is_forward = is_method and getattr(call.function, "__name__", "") == "forward"
        return MetaRequest(
            network=call.network,
            args=call.args,
            kwargs=call.kwargs,
            method=call.function if is_method and not is_forward else None,
            naming=naming,
            title=request.expression,
            optimizer=request.options.optimizer,
        )

    naming = request.naming(expression.names)
    return describe_run(run, naming=naming, title=request.expression, failed=failed)


def _summary_of_call(
    request: Request, meta: MetaRequest, failed: Callable[[Summary], None] = show_nothing
) -> Summary:
    __tracebackhide__ = True
    if request.options.engine == "torchinfo":
        return _cross_checked(meta)
    return from_run(meta) if request.options.real else describe(meta, failed=failed)


def _summary_alone(
    request: Request, network: nn.Module, title: str, failed: Callable[[Summary], None]
) -> Summary:
    """Return the structure of a network on an input of nnmagic's own."""
    __tracebackhide__ = True
    options, request_of = request.options, _alone(request, network, title)
    if options.engine == "torchinfo":
        return _cross_checked(request_of(request.input_for(network)))
    return describe_alone(
        request.search(network),
        request_of,
        device=options.device,
        real=options.real,
        failed=failed,
    )


def _alone(request: Request, network: nn.Module, title: str) -> Callable[[Input], MetaRequest]:
    """Return what gives the request for a network's structure on an input of nnmagic's own."""
    names = request.python().names if request.expression else ()

    def request_of(network_input: Input) -> MetaRequest:
        return MetaRequest(
            network=network,
            args=network_input.args,
            kwargs=network_input.kwargs,
            naming=request.naming(names),
            title=network_input.title(title),
            own_input=True,
            optimizer=request.options.optimizer,
            notes=network_input.notes,
        )

    return request_of


def _cross_checked(meta: MetaRequest) -> Summary:
    """Return torchinfo's figures, with the lines in which nnmagic's differ."""
    if meta.method is not None:
        raise UsageError(
            "torchinfo can call a network, not one of its methods; type a call such as net(x)"
        )
    root = meta.naming.network_of(meta.network)
    try:
        theirs = torchinfo_summary(
            meta.network,
            meta.args,
            meta.kwargs,
            title=meta.title,
            label="" if root is None else root.label,
            own_input=meta.own_input,
            notes=meta.notes,
        )
    except PeerError as error:
        raise UsageError(str(error)) from None
    return compared(theirs, describe(meta, willing=True))


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
            trace.log.notes.append(_UNUSED)
        return trace
    if isinstance(trace.output, nn.Module):
        require_init(trace.output)
        _needs_no_grad(request)
        return _trace_alone(request, trace.output, request.expression, request.input_for, naming)
    raise UsageError(_no_layer_ran(request, trace.output))


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
    **more: Any,
) -> Trace:
    """Run under the recorder; on an exception show what there is, and let it go on."""
    __tracebackhide__ = True
    recorder = None
    try:
        with recording(title, naming, watched=watched, **request.recorded(), **more) as recorder:
            value = run()
    except BaseException:
        if recorder is not None and len(recorder.log):
            display(request.shown(Trace(log=recorder.log, root=recorder.roots)))
        raise
    return Trace(log=recorder.log, output=value, root=recorder.roots)


def _probe_of(request: Request) -> Any:
    """Return the input of `--probe`, drawn without a change of the session's random state."""
    if not request.options.probe:
        return None
    with random_state_kept(seed=0):
        return Expression(request.options.probe, request.shell, request.local).value()


def run_cell(magic: Any, line: str, cell: str, shell: Any, local: dict[str, Any] | None) -> Any:
    """Run a cell under %%nntrace, show its trace and return its last value."""
    __tracebackhide__ = True
    with usage("%%nntrace"):
        request = Request(magic, line, shell, local)
        names = tuple(request.expression.replace(",", " ").split())
        for name in names:
            if not isinstance(request.look_up(name), nn.Module):
                raise UsageError(
                    f"{name!r} is not the name of a network; type names such as net, "
                    f"or nothing to record everything that runs"
                )
        if request.options.live:
            raise UsageError("--live works on a line only: %nntrace --live net")
        if request.options.against:
            raise UsageError("--against works on a line only: %nntrace --against eval net(x)")
        if request.options.input_size or request.options.device:
            raise UsageError("a cell has its own inputs; leave out --input-size and --device")
        body = CellBody(cell, request.shell)
        probe = _probe_of(request)
    naming = request.naming(names or body.names, only=bool(names))
    line_shown = ProgressLine(sys.stdout) if is_terminal() and not is_kernel(shell) else None

    def run() -> Any:
        __tracebackhide__ = True
        try:
            return body.run()
        finally:
            if line_shown is not None:
                line_shown.close()

    trace = recorded(request, "cell", naming, run, naming.named, probe=probe, tell=line_shown)
    display(request.shown(trace))
    return None if body.silenced else trace.output
