"""The makers behind the magics: from the words of a line to the record that they ask for."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from IPython.core.error import UsageError
from IPython.display import display
from torch import nn

from nnmagic.cells import CellBody
from nnmagic.displays import is_kernel
from nnmagic.expression import Expression, described
from nnmagic.inputs import Input, InputError
from nnmagic.meta import ValuesNeededError
from nnmagic.naming import Naming
from nnmagic.parameters import params
from nnmagic.params_records import Params
from nnmagic.recording import own_run, recording
from nnmagic.records import VALUES_SHOWN
from nnmagic.structure import describe
from nnmagic.summary_records import Summary
from nnmagic.trace_records import Trace
from nnmagic.words import Words


@contextmanager
def usage(magic: str) -> Iterator[None]:
    """Turn what is wrong with the line into one line that begins with the magic's name."""
    __tracebackhide__ = True
    try:
        yield
    except (UsageError, InputError, ValuesNeededError) as error:
        more = "; type %nntrace for a real run" if isinstance(error, ValuesNeededError) else ""
        raise UsageError(f"{magic}: {error}{more}") from None


def _note(given: Input) -> tuple[str, ...]:
    return (f"input: {given.text}, since {given.reason}",) if given.reason else ()


def summary_of(words: Words) -> Summary:
    """Return the summary that a line asks for."""
    __tracebackhide__ = True
    if not words.expression:
        default = words.default_network()
        return _summary_alone(words, default, "NeuralNetwork", words.default_input(default))
    expression = words.python()
    call = expression.parts()
    network = None if call is None else call.network
    if call is not None and network is not None:
        is_forward = getattr(call.function, "__name__", "") == "forward"
        if words.given.input_size:
            raise UsageError(f"{words.expression!r} has its input already; leave out --input-size")
        return describe(
            network,
            call.args,
            call.kwargs,
            call=network if is_forward else call.function,
            naming=words.naming(expression.names),
            title=words.expression,
            optimizer=words.given.optimizer,
            failed=lambda partial: display(words.shown(partial)),
        )
    value, ran = _evaluated(words, expression, call)
    if not isinstance(value, nn.Module) or ran:
        raise UsageError(
            f"{words.expression!r} gives {described(value)}; "
            f"type a network or a call of one, such as net(x)"
        )
    return _summary_alone(words, value, words.expression, words.input_for(value), expression.names)


def _summary_alone(
    words: Words, network: nn.Module, title: str, given: Input, names: tuple[str, ...] = ()
) -> Summary:
    __tracebackhide__ = True
    return describe(
        network,
        given.args,
        dict(given.kwargs),
        naming=words.naming(names),
        title=f"{title} on {given.text}" if given.text else title,
        own_input=True,
        optimizer=words.given.optimizer,
        notes=_note(given),
        failed=lambda partial: display(words.shown(partial)),
    )


def _evaluated(
    words: Words, expression: Expression, call: Callable[[], Any] | None
) -> tuple[Any, bool]:
    """Return the value of an expression, and whether a module ran in it."""
    __tracebackhide__ = True
    with recording("", words.naming(expression.names), keep="none") as recorder:
        value = expression.value() if call is None else call()
    return value, len(recorder.log) > 0


def params_of(words: Words) -> Params:
    """Return the parameters that a line asks for."""
    __tracebackhide__ = True
    values = VALUES_SHOWN if words.given.values is None else words.given.values
    if not words.expression:
        return params(words.default_network(), values=values, title="NeuralNetwork")
    expression = words.python()
    call = expression.parts()
    if call is not None and isinstance(call.function, nn.Module):
        function = words.expression.partition("(")[0]
        raise UsageError(f"{words.expression!r} is a call; type the network alone: {function}")
    value, ran = _evaluated(words, expression, call)
    if ran or not isinstance(value, nn.Module | Mapping):
        raise UsageError(
            f"{words.expression!r} gives {described(value)}; type a network or a state dict"
        )
    try:
        return params(value, values=values, title=words.expression)
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
            trace.log.notes.append(
                "--input-size and --device are not used: the expression has an input of its own"
            )
        return trace
    if isinstance(trace.output, nn.Module):
        _needs_no_grad(words)
        return _trace_alone(words, trace.output, words.expression, words.input_for, naming)
    raise UsageError(
        f"no layer ran in {words.expression!r} (it gave {described(trace.output)}); "
        f"type a network or a call of one, such as net(x)"
    )


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
