"""What `%nnsummary` is answered with: the structure of a call, of a network alone, or of a run."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from IPython.core.error import UsageError
from IPython.display import display
from torch import nn

from nnmagic.inputs.specs import Input
from nnmagic.inputs.summaries import Way, summary_alone, summary_of_call
from nnmagic.magics.answers import UNUSED, no_layer_ran
from nnmagic.magics.remedies import require_init
from nnmagic.magics.request import Request
from nnmagic.network.calls import CallCounter, observed
from nnmagic.records.summary import Summary
from nnmagic.structure.describe import show_nothing
from nnmagic.structure.real_run import describe_run
from nnmagic.structure.shape_run import MetaRequest
from nnmagic.structure.torchinfo import PeerError

YOUR_BATCH = (
    "saved for backward is of this input on each rank; for your own batch type its call, such as "
    "net(x), or its size, such as --input-size 8,2048"
)
"""What a line says of a plan on an input that is worked out, which is as small as can be."""


def summary_of(request: Request) -> Summary:
    """Return the summary that a line asks for."""
    __tracebackhide__ = True
    options = request.options
    by_torchinfo = options.engine == "torchinfo"
    if options.real and by_torchinfo:
        raise UsageError("torchinfo always runs the network; leave out --real")
    if options.optimizer and (options.real or by_torchinfo):
        raise UsageError("--optimizer needs the meta device; leave out --real and --engine")
    if request.plan is not None and (options.real or by_torchinfo):
        raise UsageError("--plan needs the meta device; leave out --real and --engine")

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
        if by_torchinfo or options.optimizer or request.plan is not None:
            raise UsageError(
                f"{request.expression!r} is more than one call of a network; --optimizer, --plan "
                f"and --engine need one, such as net(x)"
            )
        notes = () if options.real else (f"{request.expression} was evaluated for real",)
        unused = (UNUSED,) if options.input_size or options.device else ()
        return replace(summary, notes=(*summary.notes, *notes, *unused))
    if isinstance(value, nn.Module):
        require_init(value)
        return _summary_alone(request, value, request.expression, show)
    raise UsageError(no_layer_ran(request, value))


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
            plan=request.plan,
            notes=(UNUSED,) if request.options.device else (),
        )

    naming = request.naming(expression.names)
    return describe_run(run, naming=naming, title=request.expression, failed=failed)


def _summary_of_call(
    request: Request, meta: MetaRequest, failed: Callable[[Summary], None] = show_nothing
) -> Summary:
    __tracebackhide__ = True
    try:
        return summary_of_call(meta, _way(request), failed)
    except PeerError as error:
        raise UsageError(str(error)) from None


def _summary_alone(
    request: Request, network: nn.Module, title: str, failed: Callable[[Summary], None]
) -> Summary:
    """Return the structure of a network on an input of nnmagic's own."""
    __tracebackhide__ = True
    request_of, device = _alone(request, network, title), request.options.device
    search = request.search(network)
    try:
        return summary_alone(search, request_of, _way(request), device=device, failed=failed)
    except PeerError as error:
        raise UsageError(str(error)) from None


def _way(request: Request) -> Way:
    return Way(real=request.options.real, engine=request.options.engine)


def _alone(request: Request, network: nn.Module, title: str) -> Callable[[Input], MetaRequest]:
    """Return what gives the request for a network's structure on an input of nnmagic's own."""
    names = request.python().names if request.expression else ()
    is_planned = request.plan is not None and not request.options.input_size

    def request_of(network_input: Input) -> MetaRequest:
        batch = (YOUR_BATCH,) if is_planned and network_input.text else ()
        return MetaRequest(
            network=network,
            args=network_input.args,
            kwargs=network_input.kwargs,
            naming=request.naming(names),
            title=network_input.title(title),
            own_input=True,
            optimizer=request.options.optimizer,
            plan=request.plan,
            notes=(*network_input.notes, *batch),
        )

    return request_of
