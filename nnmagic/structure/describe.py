"""The structure of a call: from shapes alone, and from a real run where those do not do."""

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from io import StringIO
from typing import Any, NamedTuple

import torch

from nnmagic.contexts import block, without_garbage_collection
from nnmagic.display import units
from nnmagic.network.failures.mismatch import annotate, first_line
from nnmagic.network.layers import (
    Layers,
    device_of,
    named_buffers,
    named_parameters,
    set_training,
)
from nnmagic.network.nested_values import tensors_of_call
from nnmagic.network.places import raising_line
from nnmagic.network.preserve import preserved, values_kept
from nnmagic.network.random_state import random_state_kept
from nnmagic.records.summary import Summary
from nnmagic.structure.meta import FakeTensors, is_for_want_of_values, takes_fake_tensors
from nnmagic.structure.parameter_counts import Counts
from nnmagic.structure.planning.plan import plan_of
from nnmagic.structure.real_run import describe_run
from nnmagic.structure.shape_run import FASTPATH_OFF, MetaRequest, ShapeRun, casts
from nnmagic.structure.training_memory import training_step
from nnmagic.tensors.metadata import storage_bytes
from nnmagic.tensors.shards import PLAIN

MOST_BYTES = 1 << 30
"""A network of more parameters and buffers is run for real only where that is asked for."""

NO_GRAPH = "does not require grad and does not have a grad_fn"
"""What torch says where a forward takes gradients itself, and nothing has made a graph."""


class WhyReal(NamedTuple):
    """Why shapes alone do not do for a call.

    Attributes:
        code: the code that fails on shapes alone, e.g. `"“if x.sum() > 0:” (model.py:12)"`.
        wants_values: whether it fails for want of values; else it may be wrong in itself.
    """

    code: str
    wants_values: bool

    def __str__(self) -> str:
        what = "needs real tensors" if self.wants_values else "fails on shapes alone"
        return f"{self.code} {what}"


class ValuesNeededError(RuntimeError):
    """A call cannot be made on shapes alone, and is not made for real without being asked for."""


def show_nothing(partial: Summary) -> None:
    """Show nothing of a run that failed."""


def describe(
    request: MetaRequest,
    *,
    failed: Callable[[Summary], None] = show_nothing,
    by_rule: bool = True,
    willing: bool = False,
) -> Summary:
    """Return the structure of a call, made on shapes alone or, where that raises, for real.

    A real run is made with the same arguments, in the user's and the network's own modes, and
    everything is put back. Its outcome is the answer: if it raises, the network itself is wrong.

    Args:
        request: the call.
        failed: gets the summary of what ran before an exception goes on.
        by_rule: whether results on meta are given by rule and from memory where they can be;
            torch's kernels give the same, slower.
        willing: whether a heavy network is run for real too.

    Raises:
        ValuesNeededError: if shapes alone do not do, and a real run is heavy or has no values.
        Exception: whatever the forward raises, with a note that names the layer.
    """
    __tracebackhide__ = True
    found = from_shapes(request, failed=failed, by_rule=by_rule, willing=willing)
    return found if isinstance(found, Summary) else from_run(request, found, failed=failed)


@without_garbage_collection
def from_shapes(
    request: MetaRequest,
    *,
    failed: Callable[[Summary], None] = show_nothing,
    by_rule: bool = True,
    willing: bool = False,
) -> Summary | WhyReal:
    """Return the structure of a call from shapes alone, or why a real run is needed.

    Where meta lacks values the call is tried again on fake tensors, which are slower.

    Args:
        request: the call.
        failed: gets the summary of what ran before an exception goes on.
        by_rule: as in `describe`.
        willing: as in `describe`.

    Raises:
        ValuesNeededError: as in `describe`.
        Exception: whatever the forward raises, where it is not to be run for real.
    """
    __tracebackhide__ = True
    counts = Counts(layers := Layers(request.network))
    first: tuple[ShapeRun, Exception] | None = None
    obstacle = ""
    try:
        for fakes in _strategies(request, scripted=counts.scripted):
            run = ShapeRun(request, layers, counts, fakes, by_rule=by_rule)
            printed = HeldOutput()
            try:
                with redirect_stdout(printed):
                    run.make()
            except Exception as error:  # noqa: BLE001 - whatever a forward raises on meta
                first = first or (run, error)
                obstacle = "" if willing else obstacle_to_run(request)
                if obstacle:
                    printed.flush()
                elif not is_for_want_of_values(error):  # a real run tells what is wrong
                    break
            except BaseException:  # an interrupt
                failed(run.summary(run.observer.failure))
                raise
            else:
                printed.flush()
                return with_training_step(run.summary(), request)
        assert first is not None
        run, failure = first[0], first[0].observer.failure
        code = raising_line(first[1])
        why = WhyReal(code or first_line(first[1]), is_for_want_of_values(first[1]))
        if not obstacle:
            return why if code or not failure else why._replace(code=failure)
        if why.wants_values:
            where = failure.partition(" ")[0] or "the network"
            raise ValuesNeededError(f"{where}: {why}, and {obstacle}")
        if failure:
            annotate(first[1], f"raised on the meta device in {run.observer.blamed}")
            failed(run.summary(failure))
        raise first[1]
    finally:
        first = None  # this frame is in its traceback


def _strategies(request: MetaRequest, *, scripted: bool) -> Iterator[FakeTensors | None]:
    """Yield what makes the tensors of each run that is tried; None leaves them on meta.

    Autocast passes over meta tensors, and a script holds its own weights unless they are replaced.
    """
    network = request.network
    device = device_of(network)
    needs_device = takes_fake_tensors(network) if casts(device) else scripted
    if needs_device and device.type != "meta":
        yield FakeTensors(device)
        return
    yield None
    if takes_fake_tensors(network):
        yield FakeTensors(device)


def obstacle_to_run(request: MetaRequest) -> str:
    """Return why a call is not made for real without being asked for, `""` where nothing is."""
    network = request.network
    held = [*named_parameters(network).values(), *named_buffers(network).values()]
    if any(tensor.is_meta for tensor in held):
        return 'the network is on meta (net.to_empty(device="cpu") gives it values)'
    if not request.own_input and any(tensor.is_meta for tensor in _arguments(request)):
        return "an argument is on meta"
    size = storage_bytes(held)
    return f"it is heavy, {units.size(size)}" if size > MOST_BYTES else ""


def _arguments(request: MetaRequest) -> list[torch.Tensor]:
    return list(tensors_of_call(request.args, dict(request.kwargs))[1])


def from_run(
    request: MetaRequest,
    why: WhyReal | None = None,
    *,
    failed: Callable[[Summary], None] = show_nothing,
) -> Summary:
    """Return the structure of a call that is made for real, everything put back afterwards.

    A run for want of values makes no graph, unless the forward takes gradients itself.

    Args:
        request: the call.
        why: why shapes alone do not do; None where a real run was asked for.
        failed: gets the summary of what ran before an exception goes on.

    Raises:
        Exception: whatever the forward raises, with a note that names the layer.
    """
    __tracebackhide__ = True
    if request.own_input or why is None or not why.wants_values or not torch.is_grad_enabled():
        return _from_run(request, why, failed, without_graph=request.own_input)
    printed, partial = HeldOutput(), list[Summary]()
    try:
        with redirect_stdout(printed):
            summary = _from_run(request, why, partial.append, without_graph=True)
    except BaseException as error:
        if NO_GRAPH not in str(error):
            printed.flush()
            for each in partial:
                failed(each)
            raise
    else:
        printed.flush()
        return summary
    return _from_run(request, why, failed, without_graph=False)


def _from_run(
    request: MetaRequest,
    why: WhyReal | None,
    failed: Callable[[Summary], None],
    *,
    without_graph: bool,
) -> Summary:
    __tracebackhide__ = True

    def run() -> Any:
        __tracebackhide__ = True
        return request.function(*request.args, **request.kwargs)

    note = "run for real, and everything put back"
    summary, _ = describe_run(
        run,
        naming=request.naming,
        title=request.title,
        within=_put_back(request, without_graph=without_graph),
        notes=(*request.notes, note if why is None else f"{note}: {why}"),
        failed=failed,
        network=request.network,
    )
    return with_training_step(summary, request)


@block
def _put_back(request: MetaRequest, *, without_graph: bool) -> Iterator[None]:
    """Let a call be as `describe` says, and leave no trace of it."""
    network = request.network
    parameters = list(named_parameters(network).values())
    gradients = [parameter.grad for parameter in parameters]
    values = [*_arguments(request), *(gradient for gradient in gradients if gradient is not None)]
    if storage_bytes(parameters) <= MOST_BYTES:
        values += parameters  # an embedding may scale its own
    try:
        with (
            preserved(network),
            values_kept(each for each in values if type(each) in PLAIN),
            random_state_kept(0 if request.own_input else None),
            torch.no_grad() if without_graph else nullcontext(),
            FASTPATH_OFF,
        ):
            if request.own_input:
                set_training(network, training=False)
            yield
    finally:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if parameter.grad is not gradient:  # the forward has a backward of its own
                parameter.grad = gradient


def with_training_step(summary: Summary, request: MetaRequest) -> Summary:
    """Add the memory of a training step, where the request names an optimizer, or a plan of it."""
    if request.plan is not None:
        return replace(summary, plan=plan_of(request, summary.rows))
    if not request.optimizer:
        return summary
    return replace(summary, training=training_step(request))


def planned_only(request: MetaRequest, lacking: str) -> Summary:
    """Return the layers of a network that no call could be made of, and the plan that is asked for.

    Args:
        request: what was asked for.
        lacking: why there is no call.

    Raises:
        PlanError: as `plan_of`.
    """
    counts = Counts(layers := Layers(request.network))
    summary = ShapeRun(request, layers, counts, None, by_rule=True).summary()
    plan = plan_of(request, lacking=lacking)
    return replace(summary, plan=plan, total_flops=None, least_flops=None)


class HeldOutput(StringIO):
    """Holds back what a run prints until it is known that the run is not made again.

    A flush lets it out at once: a debugger is about to ask.
    """

    def __init__(self) -> None:
        super().__init__()
        self.out = sys.stdout

    def flush(self) -> None:
        """Print what was held back."""
        text = self.getvalue()
        if text:
            self.seek(0)
            self.truncate()
            self.out.write(text)
        self.out.flush()
