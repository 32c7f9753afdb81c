"""What `%nntrace` is answered with: a trace, or with `--against` two runs side by side."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError
from torch import nn

from nnmagic.comparing.against import Against, How
from nnmagic.comparing.other_sides import WORDS, CannotCompareError
from nnmagic.comparing.watched_run import NetworkCall
from nnmagic.inputs.specs import Input
from nnmagic.magics.against import other_side
from nnmagic.magics.answers import UNUSED, check_live, no_layer_ran, recorded
from nnmagic.magics.expression import Call
from nnmagic.magics.remedies import described, require_init
from nnmagic.magics.request import Request
from nnmagic.network.naming import Naming
from nnmagic.recording.run import own_run
from nnmagic.records.comparison.comparison import Comparison
from nnmagic.records.loading.file import load
from nnmagic.records.trace import Trace

WANTED = f"a network, a trace, the file of one, or one of {', '.join(WORDS)}"


def trace_or_comparison(request: Request) -> Trace | Comparison:
    """Return the trace that a line asks for, or the comparison with another side."""
    __tracebackhide__ = True
    options = request.options
    if not options.against:
        if options.isolate or options.float64:
            raise UsageError("--isolate and --float64 need --against, such as --against bfloat16")
        return _trace_of(request)
    _check_options(request)
    if options.isolate and options.against in ("items", "compiled"):
        raise UsageError(f"--isolate cannot be had against {options.against}; leave it out")
    if options.live:
        raise UsageError("--live follows one network; leave out --against")
    what = options.against
    if what not in WORDS:
        what = other_side(request, (nn.Module, Trace), WANTED)
        what = _loaded(Path(what)) if isinstance(what, str | os.PathLike) else what
    if isinstance(what, Trace):
        if options.isolate or options.float64:
            raise UsageError(
                "--isolate and --float64 run both sides; type a network or a word after --against, "
                "not a trace"
            )
        return _trace_of(request).compare(what)
    if options.grad:
        raise UsageError("--grad can be compared with a trace only; leave it out here")
    try:
        return _compared(request, what)
    except CannotCompareError as error:
        raise UsageError(f"--against {options.against}: {error}") from None


def _trace_of(request: Request) -> Trace:
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
    _check_options(request)
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


def _check_options(request: Request) -> None:
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
    check_live(request)


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


def _loaded(path: Path) -> Trace:
    try:
        record = load(path)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None
    if not isinstance(record, Trace):
        raise UsageError(f"{str(path)!r} holds a {type(record).__name__}; type {WANTED}")
    return record


def _compared(request: Request, what: str | nn.Module) -> Comparison:
    __tracebackhide__ = True
    if not request.expression:
        return _compared_alone(
            request, request.default_network(), "NeuralNetwork", request.naming(()), what
        )
    expression = request.python()
    naming = request.naming(expression.names)
    call = expression.parts()
    if call is None:
        value = expression.value()
        if not isinstance(value, nn.Module):
            raise UsageError(_no_call(request, described(value)))
        require_init(value)
        return _compared_alone(request, value, request.expression, naming, what)
    if call.network is None:
        raise UsageError(_no_call(request, "no call of a network"))
    if request.options.input_size or request.options.device:
        raise UsageError("the call has its own input; leave out --input-size and --device")
    return _compared_call(request, call, request.expression, naming, what)


def _no_call(request: Request, instead: str) -> str:
    return (
        f"{request.expression!r} is {instead}; --against {request.options.against} makes a call "
        f"again: type one, such as net(x)"
    )


def _compared_alone(
    request: Request, network: nn.Module, name: str, naming: Naming, what: str | nn.Module
) -> Comparison:
    """Compare a network on an input of nnmagic's own."""
    __tracebackhide__ = True
    is_default = not request.expression
    make = request.default_input if is_default else request.input_for
    network_input: Input = make(network)
    with own_run(network):
        call = Call(network, network_input.args, dict(network_input.kwargs))
        comparison = _compared_call(request, call, network_input.title(name), naming, what)
    comparison.mine.notes.extend(network_input.notes)
    return comparison


def _compared_call(
    request: Request, call: Call, title: str, naming: Naming, what: str | nn.Module
) -> Comparison:
    __tracebackhide__ = True
    called = call.network
    assert called is not None
    home = naming.network_of(called)
    root = None if home is None else home.module()
    root = called if root is None else root
    layer = next((name for name, each in root.named_modules() if each is called), "")
    is_method = call.function is not called
    method: Any = getattr(call.function, "__name__", "") if is_method else ""
    mine = NetworkCall(network=root, layer=layer, method=method, args=call.args, kwargs=call.kwargs)
    options = request.options
    how = How(
        isolate=options.isolate,
        float64=options.float64,
        recorded={"keep": options.keep, "ops": options.ops},
    )
    other = Against(mine, what, options.against, how)
    with other.beside():
        trace = recorded(request, title, naming, call, naming.named)
    return other.compared(trace)
