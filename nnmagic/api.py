"""The Python interface beside the magics: run and record, or describe without a run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import Any, overload

from torch import nn

from nnmagic.comparing.against import Against, How
from nnmagic.comparing.other_sides import WORDS
from nnmagic.comparing.watched_run import NetworkCall
from nnmagic.contexts import block
from nnmagic.inputs.search import InputSearch, takes_no_input, work_out_input
from nnmagic.inputs.specs import Input
from nnmagic.inputs.summaries import ENGINES, Way, summary_alone, summary_of_call
from nnmagic.network.naming import Naming
from nnmagic.recording.reports import Reports
from nnmagic.recording.run import own_run, recording
from nnmagic.records.comparison.alignment import Renaming
from nnmagic.records.comparison.comparison import Comparison
from nnmagic.records.comparison.parameters import ParamsComparison
from nnmagic.records.loading.file import holds_trace, load_trace
from nnmagic.records.summary import Summary
from nnmagic.records.trace import Trace
from nnmagic.structure.optimizers import optimizer_names
from nnmagic.structure.parameter_comparison import Parameters, compare_parameters
from nnmagic.structure.plan_request import PlanRequest
from nnmagic.structure.shape_run import MetaRequest


def summary(module: nn.Module, /, *args: Any, **kwargs: Any) -> Summary:
    """Return the structure of a call of a module: from shapes alone, without running it.

    All arguments go to the module; tensors may be on the meta device. Without any, the input is
    worked out, and the structure is that in eval mode. A call that cannot be made on shapes alone,
    such as one that reads values, is made for real, and everything is put back: a line says so.

    Raises:
        InputError: if no argument is given and no input can be worked out.
        ValuesNeededError: if shapes alone do not do, and the module or an argument is on meta or
            its parameters and buffers take more than 1 GiB.
        Exception: whatever the forward raises, with a note that names the layer.
    """
    __tracebackhide__ = True
    return summary_with()(module, *args, **kwargs)


def summary_with(
    *,
    real: bool = False,
    engine: str = "nnmagic",
    optimizer: str = "",
    plan: Mapping[str, Any] | None = None,
) -> Callable[..., Summary]:
    """Return a function like `summary` that goes by options: those of `%nnsummary`.

    `nnmagic.summary_with(optimizer="adam")(net, x)`: all arguments of the second call go to the
    module.

    Args:
        real: whether to run for real, whatever shapes alone would tell.
        engine: `"torchinfo"` gives the figures of `torchinfo.summary`, to cross-check.
        optimizer: a class of `torch.optim` in lower case, or `"momentum"`, whose state belongs to
            the memory of a training step; none is left out.
        plan: what each of many ranks holds in training: `{"fsdp": 8, "tp": 4}`, over how many ranks
            FSDP2 shards and tensor parallelism cuts, and `"dtype"`, that of the network there.

    Raises:
        ValueError: if there is no such engine, optimizer or part of a plan, or if real or torchinfo
            is asked for with an optimizer, a plan or each other: those need the meta device.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, it is {engine!r}")
    if optimizer and optimizer not in optimizer_names():
        raise ValueError(f"optimizer must be one of {', '.join(optimizer_names())}")
    asked = [real, engine == "torchinfo", bool(optimizer) or plan is not None]
    if sum(asked) > 1:
        raise ValueError("real, engine and optimizer or plan exclude each other")
    parts = None if plan is None else PlanRequest.of(plan)
    way = Way(real=real, engine=engine)

    def summarized(module: nn.Module, /, *args: Any, **kwargs: Any) -> Summary:
        __tracebackhide__ = True
        name = type(module).__name__
        request = MetaRequest(
            network=module,
            args=args,
            kwargs=kwargs,
            naming=Naming(lambda: [(name, module)]),
            title=name,
            optimizer=optimizer,
            plan=parts,
        )
        if args or kwargs or takes_no_input(module):
            return summary_of_call(request, way)

        def request_of(network_input: Input) -> MetaRequest:
            return replace(
                request,
                args=network_input.args,
                kwargs=network_input.kwargs,
                title=network_input.title(name),
                own_input=True,
                notes=network_input.notes,
            )

        return summary_alone(InputSearch(module), request_of, way)

    return summarized


KEEPS = ("none", "sample", "all")


def trace(module: nn.Module, /, *args: Any, **kwargs: Any) -> Trace:
    """Call a module and return what every layer inside got and returned.

    All arguments go to the module. Without any, it runs on an input that nnmagic works out, in
    eval mode and without a graph; otherwise in the caller's own modes.

    Raises:
        InputError: if no argument is given and no input can be worked out.
        Exception: whatever the forward raises, the same object, with a note that names the layer.
    """
    __tracebackhide__ = True
    name = type(module).__name__
    naming = Naming(lambda: [(name, module)])
    if args or kwargs or takes_no_input(module):
        with recording(name, naming) as recorder:
            output = module(*args, **kwargs)
    else:
        call = work_out_input(module)
        with own_run(module), recording(call.title(name), naming) as recorder:
            output = module(*call.args, **call.kwargs)
        recorder.log.notes.extend(call.notes)
        recorder.roots.remake = lambda network: work_out_input(network).call
    return Trace(log=recorder.log, output=output, root=recorder.roots)


Run = Trace | str | PathLike[str]
"""A run: a trace, or the path of the file that it was saved to."""


@overload
def compare(a: Trace, b: Run, rename: Renaming | None = None) -> Comparison: ...


@overload
def compare(a: Run, b: Trace, rename: Renaming | None = None) -> Comparison: ...


@overload
def compare(
    a: Parameters, b: Parameters, rename: Renaming | None = None
) -> Comparison | ParamsComparison: ...


def compare(
    a: Trace | Parameters, b: Trace | Parameters, rename: Renaming | None = None
) -> Comparison | ParamsComparison:
    """Return two runs side by side, or the parameters of two networks.

    Of two traces: how far they differ call by call, and where they part. Of anything else that has
    parameters: which are missing, changed or equal, and by how much, over all of their values and
    one at a time.

    Args:
        a: this side: a trace or the path of a saved one; or a network, a state dict, a `Params`, or
            the path of a file with tensors.
        b: the other side, likewise.
        rename: what the other side calls this side's layers or parameters, as for `Trace.compare`.

    Raises:
        OSError: if a file cannot be read.
        TypeError: if one side is a trace and the other a network, or one has no parameters.
        ValueError: if a file holds neither, or if a pattern on the right has more `*` than the one
            on the left.
    """
    if _is_run(a) or _is_run(b):
        return _run(a).compare(_run(b), rename)
    return compare_parameters(a, b, rename)  # type: ignore[arg-type]


def _is_run(side: Any) -> bool:
    return isinstance(side, Trace) or (isinstance(side, str | PathLike) and holds_trace(side))


def _run(side: Any) -> Trace:
    if isinstance(side, str | PathLike):
        return load_trace(side)
    if not isinstance(side, Trace):
        raise TypeError(f"one side is a trace, the other a {type(side).__name__}; give two traces")
    return side


def against(
    what: str | nn.Module,
    /,
    *,
    isolate: bool = False,
    float64: bool = False,
    rename: Renaming | None = None,
) -> Callable[..., Comparison]:
    """Return a function that calls a module and sets the run beside that of another side.

    `nnmagic.against("bfloat16")(net, x)`: all arguments of the second call go to the module. The
    other side is a copy of it, or a network that gets the same arguments; it sees the same random
    numbers, and nothing of the user's changes. All values are compared, and none of them kept.
    Without an argument the run is in eval mode and without a graph, on an input that is worked out.

    Args:
        what: `"eval"`, `"train"`, `"float64"`, `"bfloat16"`, `"float16"`, `"compiled"`, `"items"`
            (each item of the batch alone), or another network.
        isolate: whether each layer of the other side also runs on this side's input, which tells
            its own error.
        float64: whether both sides run in float64 too: what vanishes there is rounding. Where a
            call seems to err they do in any case.
        rename: what the other side calls this side's layers, as for `Trace.compare`.

    Raises:
        ValueError: if there is no such word, or no other side of the network.
    """
    if isinstance(what, str) and what not in WORDS:
        raise ValueError(f"against takes a network or one of {', '.join(WORDS)}, not {what!r}")
    how = How(isolate=isolate, float64=float64, rename=rename)

    def compared(module: nn.Module, /, *args: Any, **kwargs: Any) -> Comparison:
        __tracebackhide__ = True
        if not (args or kwargs or takes_no_input(module)):
            found = work_out_input(module)
            with own_run(module):
                return compared(module, *found.args, **found.kwargs)
        call = NetworkCall(network=module, layer="", method="", args=args, kwargs=kwargs)
        title = what if isinstance(what, str) else f"another {type(what).__name__}"
        other = Against(call, what, title, how)
        with other.beside():
            traced = trace(module, *args, **kwargs)
        return other.compared(traced)

    return compared


@block
def tracing(
    *modules: nn.Module,
    every: int = 1,
    keep: str = "sample",
    grad: bool = False,
    ops: bool = False,
    probe: Any = None,
    log: Callable[..., object] | None = None,
) -> Iterator[Trace]:
    """Record every module call in the block, or those of the given networks only.

    Args:
        *modules: the networks to record; none records all that run.
        every: record the iterations 0, every, 2 * every, ... of each place in the code only: of
            each call expression, apart for training and evaluation.
        keep: what to keep of each tensor's values: `"none"`, a bounded `"sample"`, or `"all"`.
        grad: whether to note the gradients of a backward in the block, of what the layers return
            and of their parameters.
        ops: whether to record the tensor functions that a forward, or the block, calls itself.
        probe: an input on which the network that learns is run again at each recorded iteration, in
            eval mode and without gradients, as a network of its own, `NAME (probe)`; a tuple holds
            the arguments, a dict the keyword arguments.
        log: is called as `log(numbers, step=iteration)` for each recorded iteration, as `wandb.log`
            and `trackio.log` are: `{"loss": 2.3, "0/mean": 0.1, "0/weight.grad_norm": 0.02}`.

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
    options: dict[str, Any] = {"every": every, "keep": keep, "grad": grad, "ops": ops}
    options |= {"probe": probe}
    if log is not None:
        options["follow"] = partial(
            Reports, tell=lambda numbers, iteration: log(numbers(), step=iteration)
        )
    with recording("tracing", naming, watched=modules, **options) as recorder:
        yield Trace(log=recorder.log, root=recorder.roots)
