"""What the axes of a tensor are called, by the layers that made it or took it."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from math import isclose
from typing import NamedTuple

from nnmagic.network.weight_axes import is_unnamed, unnamed
from nnmagic.records.call_log import TraceLog
from nnmagic.widget.tensor_names import STATES, input_names, output_names

SPATIAL = {1: ("position",), 2: ("row", "column"), 3: ("depth", "row", "column")}

SHUFFLING = ("PixelShuffle", "PixelUnshuffle", "pixel_shuffle", "pixel_unshuffle")

OVER_SPACE = re.compile(r"(?:[a-z]|_)([123])d(?:_[a-z_]*)?$")
"""Layers and functions over channels and space: `Conv2d`, `max_pool2d`; not a GPT-2's `Conv1D`."""

FLATTENING = ("Flatten", "flatten")
FEATURES_LAST = {
    *("Linear", "LayerNorm", "RMSNorm", "Embedding", "Conv1D", "Bilinear"),
    *("linear", "layer_norm", "embedding", "bilinear"),
}
EMBEDDINGS = ("Embedding", "embedding")
OF_BAGS = {
    ("EmbeddingBag", "input"): ("batch", "position"),
    ("EmbeddingBag", "output"): ("batch", "feature"),
    ("embedding_bag", "output"): ("batch", "feature"),
}
IDS = {(kind, "input") for kind in EMBEDDINGS}
RECURRENT = ("LSTM", "GRU", "RNN")
CELLS = ("LSTMCell", "GRUCell", "RNNCell")
TRANSFORMERS = frozenset(
    f"Transformer{part}" for part in ("", "Encoder", "Decoder", "EncoderLayer", "DecoderLayer")
)
SEQUENCES = ("src", "tgt", "memory", "input", "output")
"""What torch's transformers call the sequences that they get and return."""

ATTENDING = ("query", "key", "value", "output")
MASKS = {
    *("attn_mask", "mask", "src_mask", "tgt_mask", "memory_mask"),
    *(f"{of}key_padding_mask" for of in ("", "src_", "tgt_", "memory_")),
}
OF_MASKS = {2: ("query", "key"), 3: ("batch × head", "query", "key")}
OF_PADDING = {1: ("key",), 2: ("batch", "key")}
"""The masks that torch's attention and transformers get, and their axes by how many they are."""

MOVES = ("transpose", "permute", "reshape", "view", "flatten", "swapaxes", "movedim")

OF_OUTPUTS = {
    "boxes": ("box", "corner"),
    "scores": ("box",),
    "labels": ("box",),
    "masks": ("box", "channel", "row", "column"),
    "keypoints": ("box", "keypoint", "x, y, visible"),
    "last_hidden_state": ("batch", "position", "feature"),
    "logits": ("batch", "position", "feature"),
}
"""The axes of what torchvision's detectors and the networks of transformers return, by name."""

OF_INPUTS = {
    "input_ids": ("batch", "position"),
    "attention_mask": ("batch", "position"),
    "token_type_ids": ("batch", "position"),
    "pixel_values": ("batch", "channel", "row", "column"),
}
"""The axes of what the networks of transformers get, by name."""

MOST_HOPS = 32
MOST_USES = 32
"""How many tensors, and how many calls of each, are asked."""

NEAR = 500
"""How many calls before and after one are looked at, so that a long run's panel opens at once."""


class Use(NamedTuple):
    """A call that got or returned a tensor, and what the tensor is called there."""

    call: int
    side: str
    name: str


class Axes:
    """Names the axes of the tensors of one root call.

    Args:
        log: the columns of the run.
        call: a call of it; what is said of it is said of the root call around it.
        batch_first: whether the layer of the call takes the batch as the first axis; None where
            it does not say.
    """

    def __init__(self, log: TraceLog, call: int, batch_first: bool | None = None) -> None:
        self.log, self.call, self.batch_first = log, call, batch_first
        self.parents: set[int] = set()
        self._places: dict[int, list[tuple[int, str, int]]] = {}
        for each in self._calls():
            self.parents.add(log.parent[each])
            for side, tensors in (("input", log.inputs[each]), ("output", log.outputs[each])):
                for place, tensor in enumerate(tensors):
                    self._places.setdefault(tensor, []).append((each, side, place))

    def uses(self, tensor: int) -> list[Use]:
        """Return the calls that got or returned a tensor, the nearest first, and no more."""
        found = sorted(self._places.get(tensor, ()), key=lambda each: abs(each[0] - self.call))
        del found[MOST_USES:]
        names = {"input": input_names, "output": output_names}
        return [Use(call, side, names[side](self.log, call)[place]) for call, side, place in found]

    def of(self, tensor: int) -> tuple[str, ...]:
        """Return the names of a tensor's axes, of a scalar none: ``"axis 0"`` of an unknown one."""
        shape, kinds = self._shape(tensor), set[tuple[str, str]]()
        best = unnamed(len(shape))
        for use in self._reached(tensor, shape):
            told = self._told(use, shape)
            if told and len(told) == len(shape) and sum(is_unnamed(told)) < sum(is_unnamed(best)):
                best = told
            kinds.add((self._type(use.call), use.side))
            if not any(is_unnamed(best)):
                return best
        if best[-1:] == ("feature",) and all(is_unnamed(best[:-1])):
            return (*self._leading(shape[:-1], may_be_batch=False), "feature")
        if not all(is_unnamed(best)):
            return best
        if any(kind in FEATURES_LAST for kind, _ in kinds - IDS):
            # Of ids one after the other nobody knows whether they are a batch or a sequence.
            may_be_batch = not any(kind in EMBEDDINGS for kind, _ in kinds)
            leading = self._leading(shape[:-1], may_be_batch=may_be_batch)
            return (*leading, "feature")[-len(shape) :]
        if kinds & IDS and len(shape) > 1:
            return self._leading(shape, may_be_batch=False)
        return ("index",) if len(shape) == 1 else best

    def _reached(self, tensor: int, shape: tuple[int, ...]) -> Iterator[Use]:
        """Yield the uses of a tensor, and then those of tensors with the same axes."""
        seen, pending = {tensor}, [tensor]
        while pending and len(seen) < MOST_HOPS:
            for use in self.uses(pending.pop(0)):
                yield use
                found = [each for each in self._same_axes(use, shape) if each not in seen]
                seen.update(found)
                pending += found

    def _leading(self, sizes: tuple[int, ...], *, may_be_batch: bool) -> tuple[str, ...]:
        """Return the names of axes of which a layer says no more than that there may be any.

        The only one that is as long as the batch is the batch.

        Args:
            sizes: how long they are.
            may_be_batch: whether one alone is the batch where no layer knows how long that is.
        """
        batches, names = self._batches, [*unnamed(len(sizes))]
        is_batch = [size in batches for size in sizes]
        if len(sizes) == 1 and not batches and may_be_batch:
            return ("batch",)
        if is_batch.count(True) == 1:
            place = is_batch.index(True)
            names[place] = "batch"
            if len(sizes) == 2:
                names[1 - place] = "position"
        return tuple(names)

    @cached_property
    def _batches(self) -> set[int]:
        """How long the batch is, by the layers that tell which axis it is."""
        root, found = self._calls().start, set()
        for tensor, places in self._places.items():
            kinds = {self._type(call) for call, _, _ in places if call != root}
            if len(kinds) < len(places) or any(map(_tells, kinds)):
                shape = self._shape(tensor)
                for told in (self._told(use, shape) for use in self.uses(tensor)):
                    if told and len(told) == len(shape) and "batch" in told:
                        found.add(shape[told.index("batch")])
        return found

    def _calls(self) -> range:
        """Return the calls of the root call that are near, those that tell of the same tensors."""
        calls, place = self.log.calls_beside(self.call), self.call
        return calls[max(0, place - NEAR - calls.start) : place + NEAR - calls.start]

    def _type(self, call: int) -> str:
        """Return the class of a call's layer, or the name of a function without its home."""
        return self.log.layer_of(call).type.rpartition(".")[2]

    def _shape(self, tensor: int) -> tuple[int, ...]:
        shape = self.log.tensors.metadata_of(tensor).shape
        return tuple(size or 0 for size in shape)

    def _same_axes(self, use: Use, shape: tuple[int, ...]) -> Iterator[int]:
        """Yield what a leaf call got and returned in the same shape, as an activation does."""
        log, call = self.log, use.call
        kind = self._type(call)
        if call in self.parents or any(word in kind for word in MOVES):
            return
        for tensor in (*log.inputs[call], *log.outputs[call]):
            if self._shape(tensor) == shape:
                yield tensor

    def _told(self, use: Use, shape: tuple[int, ...]) -> tuple[str, ...] | None:
        """Return what a call says of the axes of a tensor that it got or returned."""
        kind, rank = self._type(use.call), len(shape)
        by_name = OF_OUTPUTS if use.side == "output" else OF_INPUTS
        if len(by_name.get(use.name, ())) == rank > 0:
            return by_name[use.name]
        if kind in RECURRENT:
            return self._of_recurrent(use, rank)
        if kind in CELLS:
            return ("batch", "feature")[-rank:] if rank in (1, 2) else None
        if (kind, use.side) in OF_BAGS and rank == 2:
            return OF_BAGS[kind, use.side]
        if (kind in TRANSFORMERS or kind == "MultiheadAttention") and use.name in MASKS:
            return (OF_PADDING if "key_padding" in use.name else OF_MASKS).get(rank)
        if kind == "MultiheadAttention":
            return self._of_attention(use, rank)
        if kind in TRANSFORMERS and use.name in SEQUENCES and rank in (2, 3):
            return self._sequence(use.call, shape, None) if rank == 3 else ("position", "feature")
        if kind == "scaled_dot_product_attention" and rank == 4 and use.name in ATTENDING:
            return ("batch", "head", "position", "feature")
        if kind == "scaled_dot_product_attention" and use.name == "attn_mask" and rank in (2, 4):
            return ("batch", "head", "query", "key")[-rank:]
        if kind in ("Softmax", "softmax") and self._attends(use.call, shape):
            return ("batch", "head", "query", "key")
        if kind in FLATTENING and rank > 1:
            return self._of_flattening(use, rank)
        over_space = OVER_SPACE.search(kind)
        if over_space is None and kind not in SHUFFLING:
            return None
        spatial = SPATIAL[int(over_space[1]) if over_space else 2]
        if kind == "BatchNorm1d" and rank == 2:
            return ("batch", "channel")
        own = ("channel", *spatial)
        if rank == len(own) + 1:
            return ("batch", *own)
        # A dropout of three axes may be of a batch: torch has it both ways.
        return None if "ropout" in kind else own

    def _attends(self, call: int, shape: tuple[int, ...]) -> bool:
        """Tell whether a softmax gave each query its shares of the keys, and not of channels."""
        outputs = self.log.outputs[call]
        if len(shape) != 4 or not shape[-1] or shape[-3] == shape[-1] or not outputs:
            return False
        shares = self.log.tensors.statistics_of(outputs[0]).mean
        return isclose(shares, 1 / shape[-1], rel_tol=1e-3)

    def _of_recurrent(self, use: Use, rank: int) -> tuple[str, ...]:
        if use.name in STATES:
            axes = ("layer × direction", "batch", "feature")
            return axes if rank == 3 else axes[::2]
        if rank != 3:
            return ("position", "feature")
        states = [shape for name, shape in self._outputs(use.call) if name in STATES]
        batch = states[0][1] if states and len(states[0]) == 3 else None
        (given, *_) = self.log.inputs[use.call]
        return self._sequence(use.call, self._shape(given), batch)

    def _of_attention(self, use: Use, rank: int) -> tuple[str, ...] | None:
        (given, *_) = self.log.inputs[use.call]
        shape = self._shape(given)
        if use.name == "weights":
            batch = ("batch",) if len(shape) == 3 else ()
            heads = ("head",) if rank == len(batch) + 3 else ()
            return (*batch, *heads, "query", "key")
        if use.name not in ATTENDING or rank != 3:
            return ("position", "feature") if rank == 2 else None
        weights = [found for name, found in self._outputs(use.call) if name == "weights"]
        return self._sequence(use.call, shape, weights[0][0] if weights else None)

    def _of_flattening(self, use: Use, rank: int) -> tuple[str, ...] | None:
        """Return the axes of what a layer got, or returned, that keeps the first of them alone."""
        got, gave = (self._shape(side[use.call][0]) for side in (self.log.inputs, self.log.outputs))
        if len(gave) != 2 or len(got) < 3 or got[0] != gave[0]:
            return None
        return ("batch", "feature") if use.side == "output" else ("batch", *unnamed(rank)[1:])

    def _outputs(self, call: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        tensors = self.log.outputs[call]
        for name, tensor in zip(output_names(self.log, call), tensors, strict=True):
            yield name, self._shape(tensor)

    def _sequence(self, call: int, shape: Sequence[int], batch: int | None) -> tuple[str, ...]:
        """Return the axes of a batch of sequences, which stands first or second."""
        first = self.batch_first if call == self.call else None
        if first is None and batch is not None and shape[0] != shape[1]:
            first = shape[0] == batch
        if first is None:
            return ("axis 0", "axis 1", "feature")
        return ("batch", "position", "feature") if first else ("position", "batch", "feature")


def _tells(kind: str) -> bool:
    """Tell whether layers of a type know which axis is the batch."""
    telling = (*RECURRENT, *CELLS, *FLATTENING, *SHUFFLING, "MultiheadAttention", "EmbeddingBag")
    return kind in telling or OVER_SPACE.search(kind) is not None
