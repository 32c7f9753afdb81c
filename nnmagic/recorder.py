"""The recorder: turns a run into the columns of a trace."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from math import prod
from typing import Any

import torch
from torch import nn

from nnmagic.batches import ignores_its_input
from nnmagic.calls import CallObserver, RunningCall, observed
from nnmagic.failures import annotate, calling_line, first_line, mismatch, place_text
from nnmagic.gradients import Gradients
from nnmagic.naming import Naming, Network
from nnmagic.root_calls import RootCalls
from nnmagic.state import Fingerprint, change_text
from nnmagic.tensors import WHOLE, form_of, measure, tensors_in, tensors_of_call, version_of
from nnmagic.trace_log import Failure, TraceLog

SCORES = 4096
"""How many values of a network's large output are kept in whole rows, but at least one row."""

LONGEST_SCORES = 32_768
"""How long such a row may be."""

MOST_PICTURES = 2000
"""Of how many large tensors of the last step a picture is kept: 4,096 values each at most."""


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
        grad: whether to note the gradients of a backward.

    Attributes:
        roots: the last outermost calls.
        at_most: how many values of a tensor are measured, spread evenly; None is all.
    """

    def __init__(
        self,
        log: TraceLog,
        naming: Naming,
        every: int = 1,
        keep: str = "sample",
        *,
        grad: bool = False,
    ) -> None:
        super().__init__(naming, every)
        self.log = log
        log.graded = grad
        self.gradients = Gradients(log, self._gradient) if grad else None
        self.keep = keep
        self.roots = RootCalls(log)
        self._before: dict[int, Fingerprint] = {}
        self._measured: dict[int, tuple[Callable[[], Any], int, int]] = {}
        self._pictures: dict[int, int] = {}
        self._error: BaseException | None = None
        self._origin = 0
        self._reached = 0
        self.at_most: int | None = None

    def observing(self) -> AbstractContextManager[None]:
        """See all calls for the length of the block."""
        return observed(self)

    def began(self, call: RunningCall, args: tuple, kwargs: dict[str, Any]) -> None:
        """Write the call and what it got."""
        network = call.network
        assert network is not None
        if call.depth == 0:
            self._error = None
            self._measured.clear()
            if not call.recomputed:
                self._drop_pictures(network.index)
            if network.index == len(self.log.networks):
                self._meet(network)
        shape, tensors = tensors_of_call(args, kwargs)
        index = self.log.add_call(
            self.log.layer_index(network.index, call.layer, type(call.module).__name__),
            call.step,
            call.depth,
            -1 if call.parent is None else call.parent.notes[0],
            self._place(call),
            shape,
            tuple(self._tensor(tensor, network.index) for tensor in tensors),
        )
        call.notes = index, args, kwargs
        if call.recomputed:
            self.log.recomputed.add(index)
        elif call.depth == 0:
            self.roots.note(call, index, args, kwargs)

    def ended(self, call: RunningCall, output: Any) -> None:
        """Write what the call returned."""
        index = call.notes[0]
        assert call.network is not None
        if index + 1 == len(self.log):
            for tensor in tensors_in(output)[
                1
            ]:  # a layer that calls no other may write to its input
                self._measured.pop(id(tensor), None)
        record = self._score_tensor if call.depth == 0 else self._tensor
        self.finish(index, call.network.index, output, record)
        if call.depth == 0 and not call.recomputed:
            inputs = tensors_of_call(call.notes[1], call.notes[2])[1]
            if ignores_its_input(inputs, tensors_in(output)[1]):
                self.log.constant.add(index)
        if self.log.makes_nonfinite(index):
            tainted = tuple(_nonfinite_state(call.module, below=index + 1 == len(self.log)))
            if tainted:
                self.log.tainted[index] = tainted

    def finish(
        self, index: int, network: int, output: Any, record: Callable[[torch.Tensor, int], int]
    ) -> None:
        """Write what a call, or a function, returned; `record` writes a tensor."""
        shape, tensors = tensors_in(output)
        indices = tuple(record(tensor, network) for tensor in tensors)
        self.log.finish(index, shape, indices)
        if self.gradients is not None:
            for tensor, number in zip(tensors, indices, strict=True):
                self.gradients.follow(tensor, number)

    def stopped(self, call: RunningCall) -> None:
        """Write that the backward has what it needed of a recomputation."""
        self.log.stop(call.notes[0])

    def raised(self, call: RunningCall, error: BaseException) -> None:
        """Write that an exception passes through the call, innermost first."""
        index, args, kwargs = call.notes
        # the same exception may be raised again elsewhere, by a network that keeps and reuses it
        innermost = error is not self._error or self.log.parent[self._reached] != index
        self._reached = index
        if innermost:
            cause = error.__cause__ or error.__context__
            came_from = self._origin if cause is self._error and cause is not None else None
            self._error, self._origin = error, index
        why = mismatch(call.module, args, kwargs, error) if innermost else ""
        if "last axis must be" in why:
            why += self._flattened_from(index)
        failure = Failure(
            type=type(error).__name__,
            message=first_line(error),
            mismatch=why,
            place=self.log.places[self.log.place[index]] if innermost else "",
            cause=self._described(came_from) if innermost and came_from is not None else "",
        )
        self.log.fail(index, failure)

    def _place(self, call: RunningCall) -> int:
        """Return the place of the code that made a call; for a thread that of the call it is of."""
        path, line = calling_line()
        if not path and call.stack is not self.running and self.running:
            starter = self.running[-1]
            if starter.network is not None:
                return self.log.place[starter.notes[0]]
        return self.log.place_index(path, line, place_text)

    def _flattened_from(self, index: int) -> str:
        """Say which maps the features that a layer refused were flattened from, if they were."""
        log = self.log
        (refused, *_) = [*log.inputs[index], None]
        wanted = None if refused is None else log.form_of(refused).shape
        for call in range(index - 1, max(-1, index - 4), -1):
            for tensor in (*log.outputs[call], *log.inputs[call]):
                shape = log.form_of(tensor).shape
                if len(shape) > 2 and wanted == (shape[0], prod(shape[1:])):
                    return f"; flattened from {shape}: pictures of another size?"
        return ""

    def _described(self, call: int) -> str:
        """Return which exception of which layer another one came from."""
        failure, layer = self.log.failures[call], self.log.layer_of(call)
        why = failure.mismatch or failure.message
        text = f"{failure.type} in {self.log.place_of(call)} ({layer.type})"
        return f"{text}: {why}" if why else text

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
        why += f"; after {failure.cause}" if failure.cause else ""
        annotate(error, f"raised in {where} ({layer.type}){place}{why}")

    def conclude(self) -> None:
        """Say what the run changed on its networks, and let go of everything."""
        self._error = None
        self._measured.clear()
        networks = self.naming.networks
        if self.gradients is not None:
            self.gradients.conclude([network.module() for network in networks])
        for number, before in self._before.items():
            network = networks[number]
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

    def _meet(self, network: Network) -> None:
        self.log.networks.append(network.label)
        module = network.module()
        assert module is not None
        self._before[network.index] = Fingerprint(module)

    def _gradient(self, gradient: torch.Tensor) -> int:
        with self._lock:
            statistics, samples, unknown = measure(gradient, self.keep)
            return self.log.add_tensor(form_of(gradient), statistics, samples, unknown)

    def _tensor(self, tensor: torch.Tensor, network: int, rows: int | None = None) -> int:
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
        if samples.picture is not None:
            self._pictures[index] = network
        self._measured[id(tensor)] = weakref.ref(tensor), version, index
        return index

    def _score_tensor(self, tensor: torch.Tensor, network: int) -> int:
        """Record an output of the network, of a large matrix whole rows: they may be scores."""
        if tensor.dim() == 2 and tensor.numel() > WHOLE and tensor.shape[1] <= LONGEST_SCORES:
            self._measured.pop(id(tensor), None)
            return self._tensor(tensor, network, rows=max(1, SCORES // tensor.shape[1]))
        return self._tensor(tensor, network)


def _nonfinite_state(module: nn.Module, *, below: bool) -> Iterator[str]:
    """Say which parameters and buffers hold NaN or Inf.

    Args:
        module: the layer.
        below: whether to look at those of the layers inside too, which were not called.
    """
    for kind, named in (
        ("parameter", module.named_parameters(recurse=below)),
        ("buffer", module.named_buffers(recurse=below)),
    ):
        for name, tensor in named:
            statistics, _, _ = measure(tensor, "none")
            counts = ((statistics.nan, "NaN"), (statistics.inf, "Inf"))
            words = [f"{number:,.0f} {what}" for number, what in counts if number > 0]
            if words:
                yield f"{kind} {name} holds {' and '.join(words)}"
