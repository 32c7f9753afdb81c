"""Running the network of a trace again: as its recorded call did, on the same input or another."""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import nn

from nnmagic.display.messages import AskMessage, RunContent
from nnmagic.network.calls import CallObserver, RunningCall, observed
from nnmagic.network.naming import Naming
from nnmagic.network.nested_values import tensors_in, tensors_of_call
from nnmagic.recording.root_calls import GoneError, RootCall, RootCalls
from nnmagic.recording.run import own_run, recording
from nnmagic.records.tensor import Metadata, Sample
from nnmagic.records.trace import Trace
from nnmagic.tensors.measure import first_items
from nnmagic.tutorial import are_on_disk, fashion_mnist

THUMBNAILS = 30
"""How many pictures are offered."""

PICTURE = 28
"""The height and the width of a Fashion-MNIST picture."""


class Rerun:
    """The network that a trace is about, held weakly, and its run made again.

    Runs are in eval mode and without a graph, and leave the network as it was.

    Args:
        trace: the record.
        look_up: what a name in the notebook is bound to; None outside a notebook.
        max_values: how many values of a tensor `load` returns.

    Attributes:
        roots: the last outermost calls of the run; None of a trace that was loaded.
        call: the one that is made again.
    """

    def __init__(
        self,
        trace: Trace,
        look_up: Callable[[str], Any] | None = None,
        max_values: int = 1 << 20,
    ) -> None:
        self.trace = trace
        self.look_up = look_up
        self.max_values = max_values
        self.roots = trace.root if isinstance(trace.root, RootCalls) else None
        self.call: RootCall | None = None if self.roots is None else self.roots.main()

    @property
    def network(self) -> nn.Module | None:
        """The network, None where it is gone."""
        return None if self.call is None else self.call.network()

    def is_function(self, layer: str) -> bool:
        """Tell whether a row of the trace is a tensor function, not a layer."""
        log = self.trace.log
        return any(log.layers[index].name == layer for index in log.functions)

    def offer(self) -> RunContent:
        """Return what the browser may ask to be run, and why it may not where it may not."""
        reason = self._refusal()
        sources = []
        if not reason:
            if not self.reason_not_same():
                sources.append("same")
            metadata = self._main_metadata()
            if metadata is not None:
                sources.append("noise")
                if _takes_pictures(metadata) and are_on_disk():
                    sources.append("picture")
                if self.look_up is not None:
                    sources.append("variable")
            if not sources:
                reason = self.reason_not_same()
        return {"enabled": not reason, "reason": reason, "sources": sources, "text": ""}

    def _refusal(self) -> str:
        if self.roots is not None and not self.roots.last:
            return "no call yet"
        if self.roots is None or self.call is None:
            return "the network is gone"
        if self.roots.loose:
            return "several separate layers ran; run the cell again"
        if self.call.called() is None:
            return "the network is gone"
        try:
            self.roots.arguments(torch.empty(0))
        except GoneError as error:
            if "takes no tensor" not in str(error):
                return str(error)
        return ""

    def reason_not_same(self) -> str:
        """Return why the same call cannot be made again; empty where it can."""
        refusal = self._refusal()
        if refusal or self.call is None or self.roots is None:
            return refusal
        if self.roots.remake is not None:
            return ""
        try:
            self.roots.arguments()
        except GoneError as error:
            return str(error)
        return ""

    def _main_metadata(self) -> Metadata | None:
        log, call = self.trace.log, self.call
        if call is None or not log.inputs[call.index]:
            return None
        return log.tensors.metadata_of(log.inputs[call.index][0])

    def run(self, asked: AskMessage) -> Trace:
        """Run the network as its recorded call did, on what was asked for.

        A run that fails gives the partial trace.

        Args:
            asked: `on`: `"same"`, `"noise"` with a `seed`, `"picture"` with an `index`, or
                `"variable"` with a `name`.

        Raises:
            GoneError: if it cannot be run so; the text says why.
        """
        refusal = self._refusal()
        if refusal or self.call is None or self.roots is None:
            raise GoneError(refusal)
        main, text, classes = self._input(asked)
        args, kwargs = self.roots.arguments(main)
        log, called, network = self.trace.log, self.call.called(), self.network
        assert called is not None
        assert network is not None
        label = log.networks[log.layer_of(self.call.index).network]
        naming = Naming(lambda: [(label, network)])
        recorder = None
        output = None
        try:
            ops = bool(log.functions)
            with own_run(network), recording(f"{label} on {text}", naming, ops=ops) as recorder:
                output = called(*args, **kwargs)
        except Exception:  # the partial trace shows it
            if recorder is None or recorder.log.raised is None:
                raise
        assert recorder is not None
        recorder.log.notes.append("run from the widget, in eval mode")
        return Trace(
            log=recorder.log,
            output=output,
            root=recorder.roots,
            default=self.trace.default,
            view=replace(self.trace.view, step=None, classes=classes or self.trace.view.classes),
        )

    def _input(self, asked: AskMessage) -> tuple[torch.Tensor | None, str, tuple[str, ...]]:
        on = asked.get("on")
        metadata = self._main_metadata()
        if on == "same":
            return None, "the same input", ()
        if metadata is None:
            raise GoneError("the call takes no tensor")
        if on == "noise":
            seed = int(asked.get("seed", 0))
            return self._noise(metadata, seed), f"noise {metadata.shape}, seed {seed}", ()
        if on == "picture":
            index = int(asked.get("index", 0))
            pictures = fashion_mnist()
            picture, target = pictures[index]
            values = picture.reshape(_picture_shape(metadata)).to(metadata.device, _dtype(metadata))
            text = f"Fashion-MNIST picture {index} ({pictures.classes[target]})"
            return values, text, tuple(pictures.classes) if self._scores_all(pictures) else ()
        if on == "variable":
            name = str(asked.get("name", "")).strip()
            value = None if self.look_up is None else self.look_up(name)
            if not isinstance(value, torch.Tensor):
                what = "no variable" if value is None else f"a {type(value).__name__}"
                raise GoneError(f"{name!r} is {what}; type the name of a tensor in the notebook")
            return value, name, ()
        raise GoneError(f"cannot run on {on!r}")

    def _scores_all(self, pictures: Any) -> bool:
        """Tell whether the network's output has one value for each class of the pictures."""
        assert self.call is not None
        outputs = self.trace.log.outputs[self.call.index]
        shape = self.trace.log.tensors.metadata_of(outputs[0]).shape if outputs else ()
        return len(shape) == 2 and shape[1] == len(pictures.classes)

    def _noise(self, metadata: Metadata, seed: int) -> torch.Tensor:
        generator = torch.Generator("cpu").manual_seed(seed)
        dtype = _dtype(metadata)
        assert self.call is not None
        if dtype.is_floating_point or dtype.is_complex:
            drawn = torch.complex64 if dtype.is_complex else torch.float32
            noise = torch.rand(_sizes(metadata), generator=generator, dtype=drawn, device="cpu")
        else:
            main = self.trace.log.tensors.record(self.trace.log.inputs[self.call.index][0])
            low, high = int(main.min or 0), int(main.max or 0)
            sizes = _sizes(metadata)
            noise = torch.randint(low, high + 1, sizes, generator=generator, device="cpu")
        return noise.to(metadata.device, dtype)

    def thumbnails(self) -> tuple[list[str], bytes]:
        """Return the first pictures' class names, and their points, 28 by 28 bytes each."""
        pictures = fashion_mnist()
        count = min(THUMBNAILS, len(pictures))
        labels = [pictures.classes[int(pictures.targets[i])] for i in range(count)]
        return labels, pictures.data[:count].numpy().tobytes()

    def load(self, layer: str, nth: int, side: str, place: int) -> Sample:
        """Run the same call again and return all values of one tensor of a layer.

        Args:
            layer: the layer's dotted name.
            nth: which of its calls in the run, from 0.
            side: `"input"` or `"output"`.
            place: which of the tensors.

        Raises:
            GoneError: if the run cannot be made again, or does not get to that call.
        """
        if self.is_function(layer):
            raise GoneError(
                "only layers are run again; --keep all keeps all of a function's values"
            )
        reason = self.reason_not_same()
        call, network = self.call, self.network
        if reason or call is None or network is None:
            raise GoneError(reason or "the network is gone")
        assert self.roots is not None
        args, kwargs = self.roots.arguments()
        called = call.called()
        assert called is not None
        catch = _Catch(network, self.max_values, layer=layer, nth=nth, side=side, place=place)
        with own_run(network), observed(catch):
            called(*args, **kwargs)
        if catch.caught is None:
            raise GoneError("the new run did not reach this call")
        return catch.caught


class _Catch(CallObserver[int]):
    """Keeps all values of one tensor of one call."""

    def __init__(
        self, network: nn.Module, max_values: int, *, layer: str, nth: int, side: str, place: int
    ) -> None:
        super().__init__(Naming(lambda: [("", network)]))
        self.max_values = max_values
        self.layer, self.nth, self.side, self.place = layer, nth, side, place
        self.seen = 0
        self.caught: Sample | None = None

    def began(self, call: RunningCall[int]) -> int:
        """Return which call of the layer it is; -1 for one of another layer."""
        if call.layer != self.layer:
            return -1
        self.seen += 1
        if self.side == "input" and self.seen - 1 == self.nth:
            self._take(tensors_of_call(call.args, call.kwargs)[1])
        return self.seen - 1

    def ended(self, call: RunningCall[int], output: Any) -> None:
        if self.side == "output" and call.record == self.nth:
            self._take(tensors_in(output)[1])

    def raised(self, call: RunningCall[int], error: BaseException) -> None:
        pass

    def _take(self, tensors: tuple[torch.Tensor, ...]) -> None:
        if self.place < len(tensors):
            self.caught = first_items(tensors[self.place], self.max_values)


def _dtype(metadata: Metadata) -> torch.dtype:
    dtype = getattr(torch, metadata.dtype)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _takes_pictures(metadata: Metadata) -> bool:
    if len(metadata.shape) < 2 or None in metadata.shape or not _dtype(metadata).is_floating_point:
        return False
    return prod(_sizes(metadata)[1:]) == PICTURE * PICTURE


def _picture_shape(metadata: Metadata) -> tuple[int, ...]:
    return (1, *_sizes(metadata)[1:])


def _sizes(metadata: Metadata) -> tuple[int, ...]:
    sizes = tuple(size for size in metadata.shape if size is not None)
    if len(sizes) < len(metadata.shape):
        raise GoneError("a nested tensor cannot be recreated")
    return sizes
