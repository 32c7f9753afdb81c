"""Running the network of a trace again: as its recorded call did, on the same input or another."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import torch
from torch import nn

from nnmagic.display.messages import AskMessage, RunContent
from nnmagic.display.units import with_article
from nnmagic.network.autocast import casting_to
from nnmagic.network.naming import Naming
from nnmagic.recording.root_calls import GoneError, NoTensorError, RootCall, RootCalls
from nnmagic.recording.run import own_run, recording
from nnmagic.records.tensor import Metadata
from nnmagic.records.trace import Trace
from nnmagic.tutorial import are_on_disk, fashion_mnist

THUMBNAILS = 30
"""How many pictures are offered."""

PICTURE = 28
"""The height and the width of a Fashion-MNIST picture."""


class _Target(NamedTuple):
    """What a run calls again: the root call of a trace, the layer that it was of, its network."""

    roots: RootCalls
    call: RootCall
    called: nn.Module
    network: nn.Module


def _refusal(check: Callable[[], object]) -> str:
    """Return the text of the `GoneError` that a check raises, an empty one where it raises none."""
    try:
        check()
    except GoneError as error:
        return str(error)
    return ""


class Rerun:
    """The network that a trace is about, held weakly, and its run made again.

    Runs are in eval mode and without a graph, and leave the network as it was.

    Args:
        trace: the record.
        look_up: what a name in the notebook is bound to; None outside a notebook.

    Attributes:
        roots: the last outermost calls of the run; None of a trace that was loaded.
        call: the one that is made again.
    """

    def __init__(
        self,
        trace: Trace,
        look_up: Callable[[str], Any] | None = None,
    ) -> None:
        self.trace = trace
        self.look_up = look_up
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

    def offer(self) -> RunContent | None:
        """Return what the browser may ask to be run, or why nothing; None of a loaded trace."""
        if self.roots is None:
            return None
        reason, sources = _refusal(self._target), list[str]()
        if not reason:
            not_same, tensor = self.reason_not_same(), self._main_input()
            can_run = {
                "same": not not_same,
                "noise": tensor is not None,
                "picture": tensor is not None and self._takes_pictures(tensor) and are_on_disk(),
                "variable": tensor is not None and self.look_up is not None,
            }
            sources = [source for source, can in can_run.items() if can]
            reason = "" if sources else not_same
        return {"enabled": not reason, "reason": reason, "sources": sources}

    def _target(self) -> _Target:
        """Return what runs again, on some input at least.

        Raises:
            GoneError: if nothing can; the text says why.
        """
        roots, call, network = self.roots, self.call, self.network
        if roots is not None and not roots.last:
            raise GoneError("no call yet")
        if roots is not None and roots.loose:
            raise GoneError("several separate layers ran; run the cell again")
        called = None if call is None else call.called()
        if roots is None or call is None or called is None or network is None:
            raise GoneError("the network is gone")
        with suppress(NoTensorError):
            roots.arguments(torch.empty(0))
        return _Target(roots, call, called, network)

    def _same_target(self) -> _Target:
        """Return what runs again, on the input that it had.

        Raises:
            GoneError: if that cannot be had; the text says why.
        """
        target = self._target()
        if target.roots.remake is None:
            target.roots.arguments()
        return target

    def reason_not_same(self) -> str:
        """Return why the same call cannot be made again; empty where it can."""
        return _refusal(self._same_target)

    def _main_input(self) -> int | None:
        """Return the number of the call's first tensor in the log."""
        inputs = () if self.call is None else self.trace.log.inputs[self.call.index]
        return inputs[0] if inputs else None

    def run(self, message: AskMessage) -> Trace:
        """Run the network as its recorded call did, on what was asked for.

        A run that fails gives the partial trace.

        Args:
            message: `on`: `"same"`, `"noise"` with a `seed`, `"picture"` with an `index`, or
                `"variable"` with a `name`.

        Raises:
            GoneError: if it cannot be run so; the text says why.
        """
        roots, call, called, network = self._target()
        main, text, classes = self._input(message)
        args, kwargs = roots.arguments(main)
        log = self.trace.log
        label = log.networks[log.layer_of(call.index).network]
        naming = Naming(lambda: [(label, network)])
        recorder = output = None
        try:
            recorded = recording(f"{label} on {text}", naming, ops=bool(log.functions))
            with own_run(network), casting_to(call.casts), recorded as recorder:
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

    def _input(self, message: AskMessage) -> tuple[torch.Tensor | None, str, tuple[str, ...]]:
        """Return the main input that was asked for, what it is, and the names of its classes."""
        source, tensor = message.get("on"), self._main_input()
        if source == "same":
            return None, "the same input", ()
        if tensor is None:
            raise NoTensorError("the call takes no tensor")
        metadata = self.trace.log.tensors.metadata_of(tensor)
        if source == "noise":
            seed = int(message.get("seed", 0))
            return self._noise(tensor, seed), f"noise {metadata.shape}, seed {seed}", ()
        if source == "picture":
            index = int(message.get("index", 0))
            pictures = fashion_mnist()
            picture, target = pictures[index]
            values = picture.reshape(1, *_sizes(metadata)[1:])
            text = f"Fashion-MNIST picture {index} ({pictures.classes[target]})"
            classes = tuple(pictures.classes) if self._scores_all(pictures) else ()
            return values.to(metadata.device, _dtype(metadata)), text, classes
        if source == "variable":
            name = str(message.get("name", "")).strip()
            value = None if self.look_up is None else self.look_up(name)
            if not isinstance(value, torch.Tensor):
                what = "no variable" if value is None else with_article(type(value).__name__)
                raise GoneError(f"{name!r} is {what}; type the name of a tensor in the notebook")
            return value, name, ()
        raise GoneError(f"cannot run on {source!r}")

    def _takes_pictures(self, tensor: int) -> bool:
        """Tell whether an input has the size of the tutorial's pictures."""
        metadata = self.trace.log.tensors.metadata_of(tensor)
        shape = metadata.shape
        if len(shape) < 2 or None in shape or not _dtype(metadata).is_floating_point:
            return False
        return prod(_sizes(metadata)[1:]) == PICTURE * PICTURE

    def _scores_all(self, pictures: Any) -> bool:
        """Tell whether the network's output has one value for each class of the pictures."""
        assert self.call is not None
        outputs = self.trace.log.outputs[self.call.index]
        shape = self.trace.log.tensors.metadata_of(outputs[0]).shape if outputs else ()
        return len(shape) == 2 and shape[1] == len(pictures.classes)

    def _noise(self, tensor: int, seed: int) -> torch.Tensor:
        """Return noise in place of a tensor: in 0..1, or integers within the tensor's range."""
        tensors = self.trace.log.tensors
        record, metadata = tensors.record(tensor), tensors.metadata_of(tensor)
        generator = torch.Generator("cpu").manual_seed(seed)
        dtype, sizes = _dtype(metadata), _sizes(metadata)
        if dtype.is_floating_point or dtype.is_complex:
            wide = torch.complex64 if dtype.is_complex else torch.float32
            noise = torch.rand(sizes, generator=generator, dtype=wide, device="cpu")
        else:
            low, high = int(record.min or 0), int(record.max or 0)
            noise = torch.randint(low, high + 1, sizes, generator=generator, device="cpu")
        return noise.to(metadata.device, dtype)

    def thumbnails(self) -> tuple[list[str], bytes]:
        """Return the first pictures' class names, and their points, 28 by 28 bytes each."""
        pictures = fashion_mnist()
        count = min(THUMBNAILS, len(pictures))
        labels = [pictures.classes[int(pictures.targets[i])] for i in range(count)]
        return labels, pictures.data[:count].numpy().tobytes()


def _dtype(metadata: Metadata) -> torch.dtype:
    dtype = getattr(torch, metadata.dtype)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _sizes(metadata: Metadata) -> tuple[int, ...]:
    sizes = tuple(size for size in metadata.shape if size is not None)
    if len(sizes) < len(metadata.shape):
        raise GoneError("a nested tensor cannot be recreated")
    return sizes
