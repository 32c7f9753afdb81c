"""The recorder: turns a run into the columns of a trace."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nnmagic.calls import CallObserver, RunningCall, observed
from nnmagic.failures import annotate, calling_line, first_line, mismatch, place_text
from nnmagic.inputs import takes_no_input, work_out_input
from nnmagic.measuring import measure
from nnmagic.naming import Naming
from nnmagic.nesting import tensors_in, tensors_of_call
from nnmagic.root_calls import RootCalls
from nnmagic.samples import WHOLE
from nnmagic.state import Fingerprint, change_text, preserved, random_state_kept
from nnmagic.tensors import form_of, version_of
from nnmagic.trace_log import Failure, TraceLog
from nnmagic.trace_records import Trace

SCORES = 4096
"""How many values of a network's large output are kept in whole rows, but at least one row."""

LONGEST_SCORES = 32_768
"""How long such a row may be."""

MOST_PICTURES = 2000
"""Of how many large tensors of the last step a picture is kept: 4,096 values each at most."""

KEEPS = ("none", "sample", "all")


class Recorder(CallObserver):
    """Writes every call, what it got and what it returned, into a log.

    Values are measured at the moment at which a layer gets or returns them, so that a later change
    in place cannot rewrite them. A tensor that comes by again unchanged, by identity and version
    counter, is not measured again.

    Args:
        log: the columns to fill.
        naming: names networks and layers.
        every: record the steps 0, every, 2 * every, ... only.
        keep: what to keep of the values: `"none"`, `"sample"` or `"all"`.

    Attributes:
        roots: the last outermost calls.
        at_most: how many values of a tensor are measured, spread evenly; None is all.
    """

    def __init__(self, log: TraceLog, naming: Naming, every: int = 1, keep: str = "sample") -> None:
        super().__init__(naming, every)
        self.log = log
        self.keep = keep
        self.roots = RootCalls(log)
        self._before: list[Fingerprint] = []
        self._measured: dict[int, tuple[Callable[[], Any], int, int]] = {}
        self._pictures: dict[int, int] = {}
        self._error: BaseException | None = None
        self._origin = 0
        self.at_most: int | None = None

    def began(self, call: RunningCall, args: tuple, kwargs: dict[str, Any]) -> None:
        """Write the call and what it got."""
        network = call.network
        assert network is not None
        if call.depth == 0:
            self._error = None
            self._measured.clear()
            self._drop_pictures(network.index)
            if network.index == len(self.log.networks):
                self._meet(network.label, network.module)
        shape, tensors = tensors_of_call(args, kwargs)
        call.notes = (
            self.log.add_call(
                self.log.layer_index(network.index, call.layer, type(call.module).__name__),
                call.step,
                call.depth,
                self.log.place_index(*calling_line(), place_text),
                shape,
                tuple(map(self._tensor, tensors)),
            ),
            args,
            kwargs,
        )
        if call.depth == 0:
            self.roots.note(call, call.notes[0], args, kwargs)

    def ended(self, call: RunningCall, output: Any) -> None:
        """Write what the call returned."""
        index = call.notes[0]
        shape, tensors = tensors_in(output)
        if index + 1 == len(self.log):
            for tensor in tensors:  # a layer that calls no other may have written to what it got
                self._measured.pop(id(tensor), None)
        record = self._score_tensor if call.depth == 0 else self._tensor
        self.log.finish(index, shape, tuple(map(record, tensors)))

    def raised(self, call: RunningCall, error: BaseException) -> None:
        """Write that an exception passes through the call, innermost first."""
        index, args, kwargs = call.notes
        innermost = error is not self._error
        if innermost:
            self._error, self._origin = error, index
        failure = Failure(
            type=type(error).__name__,
            message=first_line(error),
            mismatch=mismatch(call.module, args, kwargs) if innermost else "",
            place=self.log.places[self.log.place[index]] if innermost else "",
        )
        self.log.fail(index, failure)

    def blame(self, error: BaseException) -> None:
        """Note that the run ended by an exception, and name its layer on the exception."""
        if error is not self._error:
            return
        self.log.raised = self._origin
        layer = self.log.layer_of(self._origin)
        failure = self.log.failures[self._origin]
        where = self.log.place_of(self._origin)
        place = f", called at {failure.place}" if failure.place else ""
        why = f": {failure.mismatch}" if failure.mismatch else ""
        annotate(error, f"raised in {where} ({layer.type}){place}{why}")

    def conclude(self) -> None:
        """Say what the run changed on its networks, and let go of everything."""
        self._error = None
        self._measured.clear()
        for network, before in zip(self.naming.networks, self._before, strict=False):
            module = network.module()
            if module is None:
                continue
            changes = before.changes(module)
            if changes is None:
                continue
            text = change_text(changes)
            if len(self._before) > 1:
                if text == "network unchanged":
                    continue
                text = f"{network.label}: {text}"
            self.log.notes.append(text)
        if len(self._before) > 1 and not self.log.notes:
            self.log.notes.append("networks unchanged")

    def _drop_pictures(self, network: int) -> None:
        """Forget the pictures of the network's step before: only the last one is drawn in full."""
        old = [index for index, home in self._pictures.items() if home == network]
        for index in old:
            del self._pictures[index]
            self.log.samples[index] = self.log.samples[index]._replace(picture=None)

    def _meet(self, label: str, module: Callable[[], nn.Module | None]) -> None:
        self.log.networks.append(label)
        network = module()
        assert network is not None
        self._before.append(Fingerprint(network))

    def _tensor(self, tensor: torch.Tensor, rows: int | None = None) -> int:
        version = version_of(tensor)
        known = self._measured.get(id(tensor))
        if known is not None and known[0]() is tensor and known[1] == version >= 0:
            return known[2]
        drawn = len(self._pictures) < MOST_PICTURES
        statistics, samples, unknown = measure(
            tensor, self.keep, rows=rows, drawn=drawn, at_most=self.at_most
        )
        form = form_of(tensor)
        measured = None if self.at_most is None else min(self.at_most, form.numel)
        if measured == form.numel:
            measured = None
        index = self.log.add_tensor(form, statistics, samples, unknown, measured)
        if samples.picture is not None and self.running:
            running = self.running[-1].network
            self._pictures[index] = -1 if running is None else running.index
        self._measured[id(tensor)] = weakref.ref(tensor), version, index
        return index

    def _score_tensor(self, tensor: torch.Tensor) -> int:
        """Record an output of the network, of a large matrix whole rows: they may be scores."""
        if tensor.dim() == 2 and tensor.numel() > WHOLE and tensor.shape[1] <= LONGEST_SCORES:
            self._measured.pop(id(tensor), None)
            return self._tensor(tensor, rows=max(1, SCORES // tensor.shape[1]))
        return self._tensor(tensor)


@contextmanager
def recording(
    title: str, naming: Naming, *, every: int = 1, keep: str = "sample"
) -> Iterator[Recorder]:
    """Record the module calls of the block; an exception goes on with a note that names its layer.

    Args:
        title: what the record says it is of.
        naming: names networks and layers.
        every: record the steps 0, every, 2 * every, ... of each network only.
        keep: what to keep of each tensor's values: `"none"`, `"sample"` or `"all"`.
    """
    recorder = Recorder(TraceLog(title), naming, every, keep)
    try:
        with observed(recorder):
            yield recorder
    except BaseException as error:
        recorder.blame(error)
        raise
    finally:
        recorder.conclude()


@contextmanager
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


@contextmanager
def tracing(*modules: nn.Module, every: int = 1, keep: str = "sample") -> Iterator[Trace]:
    """Record every module call in the block, or those of the given networks only.

    Args:
        *modules: the networks to record; none records all that run.
        every: record the steps 0, every, 2 * every, ... of each network only.
        keep: what to keep of each tensor's values: `"none"`, a bounded `"sample"`, or `"all"`.

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
    with recording("tracing", naming, every=every, keep=keep) as recorder:
        yield Trace(log=recorder.log, root=recorder.roots)
