"""All values of a tensor of a recorded run, had by making its root call again."""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from nnmagic.display import units
from nnmagic.network.autocast import casting_to
from nnmagic.network.calls import CallObserver, RunningCall, observed
from nnmagic.network.failures.mismatch import said_by
from nnmagic.network.naming import Naming
from nnmagic.network.nested_values import tensors_in, tensors_of_call
from nnmagic.recording.iterations import is_training
from nnmagic.recording.root_calls import GoneError, RootCall, RootCalls
from nnmagic.recording.run import own_run, same_run
from nnmagic.records.tensor import STATISTICS, Sample, TensorRecord
from nnmagic.records.tensor_log import TensorLog
from nnmagic.records.trace import Trace
from nnmagic.tensors.measure import first_items
from nnmagic.tensors.writer import TensorWriter

KEEP_ALL = "--keep all keeps all values"


class RefusedError(ValueError):
    """The values of a recorded run cannot be had; the text says why.

    Attributes:
        offers_new_run: whether those of a new run can.
    """

    def __init__(self, reason: str, *, offers_new_run: bool = False) -> None:
        super().__init__(f"{reason}; {KEEP_ALL}")
        self.offers_new_run = offers_new_run


class TensorOfCall(NamedTuple):
    """Which tensor of a trace is meant.

    Attributes:
        call: the number of the call.
        side: `"input"` or `"output"`.
        place: which of the tensors on that side.
    """

    call: int
    side: str
    place: int


class ValuesByRerun:
    """Gives all values of the tensors of a trace that keeps some of them.

    The last root call of a network is made again, in the modes that its layers are in, and what
    comes by is held against all that was recorded of it: the statistics to the last bit, measured
    in the same way, and every value that was kept. Only what is equal is given.

    Args:
        trace: the record.
        at_most: how many values of a tensor are given: the first items, as many as fit.
    """

    def __init__(self, trace: Trace, at_most: int) -> None:
        self.trace = trace
        self.at_most = at_most

    def check(self, call: int) -> RootCall:
        """Return the root call to be made again for a call's values.

        Raises:
            RefusedError: if there is none.
        """
        log, roots = self.trace.log, self.trace.root
        if log.is_function(call):
            raise RefusedError("functions are not run again by themselves")
        if call in log.recomputed:
            raise RefusedError("a backward's recomputation is not run again")
        network = log.layer_of(call).network
        if not isinstance(roots, RootCalls):  # of a trace that was loaded
            raise RefusedError("the network is not in this session")
        root = roots.last.get(network)
        if root is None or root.called() is None or root.network() is None:
            raise RefusedError("the network is gone")
        if root.index != log.root_of(call):
            raise RefusedError(f"only the last call of {log.networks[network]} can be run again")
        try:
            self._arguments(root)
        except GoneError as error:
            raise RefusedError(str(error)) from None
        return root

    def of_recorded_run(self, tensor: TensorOfCall) -> Sample:
        """Return the values of a tensor as they were in the recorded run.

        Raises:
            RefusedError: if they cannot be had.
        """
        root = self.check(tensor.call)
        log, module = self.trace.log, root.network()
        assert module is not None
        series = log.series[log.root_series[log.roots.index(root.index)]]
        if is_training(module) is not series.training:
            training = series.training
            was, now = ("train", "eval") if training else ("eval", "train")
            reason = f"recorded in {was} mode, and the network is in {now} mode now"
            raise RefusedError(reason, offers_new_run=True)
        caught = self._caught(root, tensor, same_run(module, grad=series.grad))
        recorded = self._record(tensor)
        if not any(_is_same(recorded, again) for again in caught.records):
            raise RefusedError(_difference(recorded, caught.records[0]), offers_new_run=True)
        return caught.values

    def of_new_run(self, tensor: TensorOfCall) -> Sample:
        """Return the values of a tensor in a new run, in eval mode.

        Raises:
            RefusedError: if there is no such run, or its tensor has another shape.
        """
        root = self.check(tensor.call)
        module = root.network()
        assert module is not None
        caught = self._caught(root, tensor, own_run(module))
        if caught.records[0].shape != self._record(tensor).shape:
            raise RefusedError(f"in a new run its shape is {units.shape(caught.records[0].shape)}")
        return caught.values

    def _record(self, tensor: TensorOfCall) -> TensorRecord:
        log = self.trace.log
        side = log.inputs if tensor.side == "input" else log.outputs
        return log.tensors.record(side[tensor.call][tensor.place])

    def _arguments(self, root: RootCall) -> tuple[tuple[Any, ...], dict[str, Any]]:
        roots = self.trace.root
        if isinstance(roots, RootCalls) and root is roots.main():
            return roots.arguments()  # which makes them anew, where nnmagic made them
        return root.arguments(self.trace.log)

    def _caught(
        self, root: RootCall, tensor: TensorOfCall, mode: AbstractContextManager[None]
    ) -> "_Caught":
        """Make a root call again, and return what is seen of one tensor in it."""
        log, network, called = self.trace.log, root.network(), root.called()
        assert network is not None
        assert called is not None
        earlier = [
            each
            for each in range(root.index, tensor.call)
            if log.layer[each] == log.layer[tensor.call]
            if log.root_of(each) == root.index and each not in log.recomputed
        ]
        measured = self._record(tensor).measured
        name = log.layer_of(tensor.call).name
        catch = _Catch(network, name, len(earlier), tensor, self.at_most, measured)
        args, kwargs = self._arguments(root)
        try:
            with mode, casting_to(root.casts), observed(catch):
                called(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the user's code; the page says what it raised
            if catch.caught is None:
                raise RefusedError(f"a new run failed: {said_by(error)}") from None
        if catch.caught is None:
            raise RefusedError("a new run did not get there, or its values cannot be read")
        return catch.caught


class _Caught(NamedTuple):
    """A tensor that came by.

    Attributes:
        values: all of its values, or those of the first items.
        records: what a record would say of it, for each of the ways in which one is measured.
    """

    values: Sample
    records: tuple[TensorRecord, ...]


class _Catch(CallObserver[int]):
    """Takes one tensor of one call.

    Args:
        network: what runs.
        layer: the dotted name of the layer that is called.
        nth: which of its calls is meant, from 0.
        tensor: which of that call's tensors is.
        at_most: how many of its values to keep.
        measured: how many of its values are measured; None is all.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        nth: int,
        tensor: TensorOfCall,
        at_most: int,
        measured: int | None,
    ) -> None:
        super().__init__(Naming(lambda: [("", network)]))
        self.layer = layer
        self.nth = nth
        self.tensor = tensor
        self.at_most = at_most
        self.measured = measured
        self.seen = 0
        self.caught: _Caught | None = None

    def began(self, call: RunningCall[int]) -> int:
        """Return which call of the layer it is; -1 for one of another layer."""
        if call.layer != self.layer:
            return -1
        self.seen += 1
        if self.tensor.side == "input" and self.seen - 1 == self.nth:
            self._take(tensors_of_call(call.args, call.kwargs)[1])
        return self.seen - 1

    def ended(self, call: RunningCall[int], output: Any) -> None:
        if self.tensor.side == "output" and call.record == self.nth:
            self._take(tensors_in(output)[1])

    def raised(self, call: RunningCall[int], error: BaseException) -> None:
        pass

    def _take(self, tensors: tuple[torch.Tensor, ...]) -> None:
        if self.tensor.place >= len(tensors):
            return
        tensor = tensors[self.tensor.place]
        values = first_items(tensor, self.at_most)
        if values is None:
            return
        writer = TensorWriter(TensorLog(), "sample")
        writer.max_values = self.measured
        numbers = writer.write(tensor, 0), writer.write_alone(tensor, series=0)
        writer.finish()
        self.caught = _Caught(values, tuple(map(writer.log.record, numbers)))


def _is_same(recorded: TensorRecord, again: TensorRecord) -> bool:
    """Tell whether two records are of the same values, as far as both keep some."""
    ours, theirs = replace(recorded, **NO_SAMPLES), replace(again, **NO_SAMPLES)
    pairs = [(recorded.spread, again.spread), (recorded.leading, again.leading)]
    if recorded.picture and again.picture and recorded.picture.steps == again.picture.steps:
        pairs.append((recorded.picture.sample, again.picture.sample))
    alike = [(one, other) for one, other in pairs if one and other and one.shape == other.shape]
    return ours == theirs and all(one == other for one, other in alike)


NO_SAMPLES: Any = {"leading": None, "spread": None, "picture": None}


def _difference(recorded: TensorRecord, again: TensorRecord) -> str:
    """Return in words what a new run has other than the recorded one."""
    for name in ("shape", "dtype", "device", *STATISTICS):
        was, is_now = getattr(recorded, name), getattr(again, name)
        if was != is_now:
            if isinstance(was, float) and isinstance(is_now, float):
                was, is_now = units.numbers(was, is_now)
            return f"a new run has {name} {is_now} where {was} was recorded: {OTHERWISE}"
    return f"a new run has other values: {OTHERWISE}"


OTHERWISE = "weights, buffers, modes or random numbers are others now"
