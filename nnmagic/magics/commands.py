"""The makers behind the magics: from the words of a line to the record that they ask for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from IPython.core.error import UsageError
from IPython.display import display
from torch import nn

from nnmagic.contexts import block
from nnmagic.inputs.search import InputError
from nnmagic.inputs.specs import Input
from nnmagic.magics.display import is_kernel
from nnmagic.magics.expression import CellBody, Expression, described
from nnmagic.magics.request import Words
from nnmagic.network.calls import CallCounter, observed
from nnmagic.network.naming import Naming
from nnmagic.network.preserve import preserved, random_state_kept
from nnmagic.recording.run import own_run, recording
from nnmagic.records.params import Params
from nnmagic.records.record import VALUES_SHOWN
from nnmagic.records.summary import Summary
from nnmagic.records.trace import Trace
from nnmagic.structure.meta import ValuesNeededError
from nnmagic.structure.parameters import params
from nnmagic.structure.real_run import describe_run
from nnmagic.structure.shape_run import MetaRequest, describe
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


_UNUSED = "--input-size and --device are not used: the expression has an input of its own"


def _no_layer_ran(words: Words, value: Any) -> str:
    return (
        f"no layer ran in {words.expression!r} (it gave {described(value)}); "
        f"type a network or a call of one, such as net(x)"
    )


def _note(given: Input) -> tuple[str, ...]:
    return (f"input: {given.text}, since {given.reason}",) if given.reason else ()


def _really(
    request: MetaRequest, failed: Callable[[Summary], None] = lambda partial: None
) -> Summary:
    """Make a call for real and return the structure of what ran."""
    __tracebackhide__ = True

    def run() -> Any:
        __tracebackhide__ = True
        return request.function(*request.args, **request.kwargs)

    summary, _ = describe_run(
        run,
        naming=request.naming,
        title=request.title,
        within=own_run(request.network) if request.own_input else None,
        notes=request.notes,
        failed=failed,
    )
    return summary


def summary_of(words: Words) -> Summary:
    """Return the summary that a line asks for."""
    __tracebackhide__ = True
    if words.given.real and words.given.engine == "torchinfo":
        raise UsageError("torchinfo always runs the network; leave out --real")
    if words.given.optimizer and (words.given.real or words.given.engine == "torchinfo"):
        raise UsageError("--optimizer goes with the run for shapes; leave out --real and --engine")
    failed = _shows(words)
    if words.given.real and words.expression:
        return _summary_of_run(words, failed)
    request = _request_of(words)
    if words.given.engine == "torchinfo":
        return _cross_checked(request)
    if words.given.real:
        return _really(request, failed)
    return describe(request, failed=failed)


def _shows(words: Words) -> Callable[[Summary], None]:
    return lambda partial: display(words.shown(partial))


def _request_of(words: Words) -> MetaRequest:
    __tracebackhide__ = True
    if not words.expression:
        default = words.default_network()
        return _alone(words, default, "NeuralNetwork", words.default_input(default))
    expression = words.python()
    counter = CallCounter()
    with observed(counter):
        call = expression.parts()
    network = None if call is None else call.network
    if call is not None and network is not None:
        is_method = call.function is not network  # which may have any attribute, or none
        is_forward = is_method and getattr(call.function, "__name__", "") == "forward"
        if words.given.input_size:
            raise UsageError(f"{words.expression!r} has its input already; leave out --input-size")
        return MetaRequest(
            network=network,
            args=call.args,
            kwargs=call.kwargs,
            method=None if is_forward or call.function is network else call.function,
            naming=words.naming(expression.names),
            title=words.expression,
            optimizer=words.given.optimizer,
        )
    value, ran = _evaluated(expression, call)
    if ran or counter.calls:
        raise UsageError(
            f"{words.expression!r} gives {described(value)}; type a network or a call of one, "
            f"such as net(x), or --real to run any expression for real"
        )
    if not isinstance(value, nn.Module):
        raise UsageError(
            f"{words.expression!r} gives {described(value)}; "
            f"type a network or a call of one, such as net(x)"
        )
    given = words.input_for(value, for_shapes=words.given.engine != "torchinfo")
    return _alone(words, value, words.expression, given, expression.names)


def _alone(
    words: Words, network: nn.Module, title: str, given: Input, names: tuple[str, ...] = ()
) -> MetaRequest:
    return MetaRequest(
        network=network,
        args=given.args,
        kwargs=given.kwargs,
        naming=words.naming(names),
        title=f"{title} on {given.text}" if given.text else title,
        own_input=True,
        optimizer=words.given.optimizer,
        notes=_note(given),
    )


def _summary_of_run(words: Words, failed: Callable[[Summary], None]) -> Summary:
    """Run an expression for real, or the network that it gives on an input of nnmagic's own."""
    __tracebackhide__ = True
    expression = words.python()
    summary, value = describe_run(
        expression.value,
        naming=words.naming(expression.names),
        title=words.expression,
        failed=failed,
    )
    if summary.rows:
        unused = (_UNUSED,) if words.given.input_size or words.given.device else ()
        return replace(summary, notes=(*summary.notes, *unused))
    if isinstance(value, nn.Module):
        given = words.input_for(value)
        request = _alone(words, value, words.expression, given, expression.names)
        return _really(request, failed)
    raise UsageError(_no_layer_ran(words, value))


def _cross_checked(request: MetaRequest) -> Summary:
    """Return torchinfo's figures, with the lines in which nnmagic's differ."""
    if request.method is not None:
        raise UsageError("torchinfo calls a network, no method of it; type a call such as net(x)")
    root = request.naming.network_of(request.network)
    try:
        theirs = torchinfo_summary(
            request.network,
            request.args,
            request.kwargs,
            title=request.title,
            label="" if root is None else root.label,
            own_input=request.own_input,
            notes=request.notes,
        )
    except PeerError as error:
        raise UsageError(str(error)) from None
    try:
        ours = describe(request)
    except ValuesNeededError:
        with preserved(request.network), random_state_kept():
            ours = _really(request)
    return compared(theirs, ours)


def _evaluated(expression: Expression, call: Callable[[], Any] | None) -> tuple[Any, bool]:
    """Return the value of an expression, and whether a module ran in it."""
    __tracebackhide__ = True
    counter = CallCounter()
    with observed(counter):
        value = expression.value() if call is None else call()
    return value, counter.calls > 0


def params_of(words: Words) -> Params:
    """Return the parameters that a line asks for."""
    __tracebackhide__ = True
    values = VALUES_SHOWN if words.given.values is None else words.given.values
    grad = words.given.grad
    if not words.expression:
        return params(words.default_network(), values=values, grad=grad, title="NeuralNetwork")
    expression = words.python()
    call = expression.parts()
    if call is not None and isinstance(call.function, nn.Module):
        function = words.expression.partition("(")[0]
        raise UsageError(f"{words.expression!r} is a call; type the network alone: {function}")
    value, ran = _evaluated(expression, call)
    if ran or not isinstance(value, nn.Module | Mapping):
        raise UsageError(
            f"{words.expression!r} gives {described(value)}; type a network or a state dict"
        )
    try:
        return params(value, values=values, grad=grad, title=words.expression)
    except TypeError as error:
        raise UsageError(f"{words.expression!r}: {error}; type a network or a state dict") from None


def trace_of(words: Words) -> Trace:
    """Return the trace that a line asks for."""
    __tracebackhide__ = True
    if not words.expression:
        _needs_no_grad(words)
        network = words.default_network()
        make = words.default_input
        trace = _trace_alone(words, network, "NeuralNetwork", make, words.naming(()))
        return trace.of_default_network()
    expression = words.python()
    naming = words.naming(expression.names)
    if words.given.every > 1:
        raise UsageError("--every goes with the cell form, %%nntrace")
    if words.given.live and (words.given.ops or words.given.grad):
        raise UsageError("--live follows the layers only; leave out --ops and --grad")
    if words.given.live and words.given.static:
        raise UsageError("--live is a widget; leave out --static")
    if words.given.live and not is_kernel(words.shell):
        raise UsageError("--live shows a widget, which needs a notebook; leave it out here")
    trace = _recorded(words, words.expression, naming, expression.value)
    if len(trace):
        if words.given.input_size or words.given.device:
            trace.log.notes.append(_UNUSED)
        return trace
    if isinstance(trace.output, nn.Module):
        _needs_no_grad(words)
        return _trace_alone(words, trace.output, words.expression, words.input_for, naming)
    raise UsageError(_no_layer_ran(words, trace.output))


def _needs_no_grad(words: Words) -> None:
    if words.given.grad:
        raise UsageError(
            "--grad needs a backward of your own; "
            "type one, such as %nntrace --grad loss_fn(net(x), y).backward()"
        )


def _trace_alone(
    words: Words,
    network: nn.Module,
    name: str,
    make: Callable[[nn.Module], Input],
    naming: Naming,
) -> Trace:
    __tracebackhide__ = True
    given = make(network)
    title = f"{name} on {given.text}" if given.text else name

    def run() -> Any:
        __tracebackhide__ = True
        return network(*given.args, **given.kwargs)

    with own_run(network):
        trace = _recorded(words, title, naming, run)
    trace.log.notes.extend(_note(given))
    if trace.root is not None:
        trace.root.remake = lambda network: make(network).call
    return trace


def _recorded(words: Words, title: str, naming: Naming, run: Callable[[], Any]) -> Trace:
    """Run under the recorder; on an exception show what there is, and let it go on."""
    __tracebackhide__ = True
    recorder = None
    try:
        with recording(title, naming, **words.recorded()) as recorder:
            value = run()
    except BaseException:
        if recorder is not None and len(recorder.log):
            display(words.shown(Trace(log=recorder.log, root=recorder.roots)))
        raise
    return Trace(log=recorder.log, output=value, root=recorder.roots)


def trace_of_cell(words: Words, cell: str) -> Any:
    """Run a cell, show its trace and return its last value."""
    __tracebackhide__ = True
    with usage("%%nntrace"):
        names = tuple(words.expression.replace(",", " ").split())
        for name in names:
            if not isinstance(words.look_up(name), nn.Module):
                raise UsageError(
                    f"{name!r} is not the name of a network; type names such as net, "
                    f"or none to record all that runs"
                )
        if words.given.live:
            raise UsageError("--live goes with a line: %nntrace --live net")
        if words.given.input_size or words.given.device:
            raise UsageError("a cell has its own inputs; leave out --input-size and --device")
        body = CellBody(cell, words.shell)
    naming = words.naming(names or body.names, only=bool(names))
    trace = _recorded(words, "cell", naming, body.run)
    display(words.shown(trace))
    return None if body.silenced else trace.output
