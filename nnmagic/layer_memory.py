"""What torch's own layers give for tensors of the same forms: networks repeat a few of them.

It is remembered above autograd and all dispatch, from one run on the meta device to the next: to
ask again takes a tenth of the time.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

from nnmagic.default_device import has_torchs_forward
from nnmagic.layers import ATOMS, FIRST
from nnmagic.meta_kernels import meta_kernels
from nnmagic.shape_rules import FLOATS, META, is_dense
from nnmagic.tensors import dispatch_modes, function_modes, transform_level

HASHABLE = ATOMS | {tuple}

PLAIN = frozenset({Tensor, nn.Parameter})

CUT = "appears to not have been used in the graph"
"""What torch says of a gradient with respect to something before a layer that was left out."""

MOST = 16_384
"""So many calls are remembered, then all are forgotten."""

Key = tuple[Any, ...]


class _Given:
    """What a layer gave.

    Attributes:
        itself: whether that was its input.
        form: else shape, strides and dtype.
        graph: whether it was part of a graph.
        flops: the operations that it took.
    """

    __slots__ = ("_model", "flops", "form", "graph", "itself")

    def __init__(self, output: Tensor, itself: bool, flops: int) -> None:
        self.itself = itself
        self.form = output.shape, output.stride(), output.dtype
        self.graph = output.requires_grad
        self.flops = flops
        self._model: Tensor | None = None

    def again(self, value: Tensor) -> Tensor:
        """Return what the layer gives for another value."""
        if self.itself:
            return value
        with torch._C._DisableTorchDispatch():
            if self._model is not None:
                return self._model.clone()
            shape, strides, dtype = self.form
            new = torch.empty_strided(shape, strides, dtype=dtype, device=META)
            if not self.graph:
                return new
            self._model = new.requires_grad_()
            return self._model.clone()  # not a leaf, which could not be written to


_given: dict[Key, _Given | None] = {}

_names: dict[type, tuple[str, ...]] = {}


def forget() -> None:
    """Forget what layers and operations have given, as at the begin of a session."""
    _given.clear()
    meta_kernels.cache_clear()


class LayerMemory:
    """What is remembered, for one run.

    A layer that is left out leaves a gap in the graph: its output requires a gradient where it
    would, but does not depend on its input.

    Attributes:
        leaves_gaps: whether a layer was left out whose output is part of a graph.
    """

    def __init__(self) -> None:
        self._run = torch.get_default_dtype(), len(flop_registry)
        self.leaves_gaps = False

    def recall(
        self, layer: nn.Module, args: tuple, kwargs: dict[str, Any]
    ) -> tuple[Key | None, tuple[Tensor, int] | None]:
        """Look for a call like this one.

        There may be one for layers of torch with none of the user's code in them, that are given
        one plain tensor of floats on the meta device.

        Returns:
            What is equal for calls that give tensors of equal forms, None if that cannot be told;
            then the output and the number of operations, None if there was no such call.
        """
        if kwargs or len(args) != 1 or type(args[0]) is not Tensor:
            return None, None
        value = args[0]
        if not value.is_meta or value.dtype not in FLOATS or not is_dense(value):
            return None, None
        if function_modes() != 1 or dispatch_modes() != 1 or transform_level() is not None:
            return None, None  # somebody besides the run itself follows what layers do
        if not has_torchs_forward(layer):
            return None, None
        config = _config(layer)
        if config is None:
            return None, None
        graph = torch.is_grad_enabled(), value.requires_grad, value.requires_grad and value.is_leaf
        key = *config, *self._run, *graph, value.shape, value.stride(), value.dtype
        try:
            given = _given.get(key)
        except TypeError:  # something in a tuple has no hash
            return None, None
        if given is None:
            return key, None
        self.leaves_gaps |= given.graph and not given.itself
        return key, (given.again(value), given.flops)

    def remember(self, key: Key, value: Tensor, output: Any, flops: int) -> None:
        """Take note of what a layer gave, unless that shares memory with what it got."""
        if key in _given:
            return
        if len(_given) >= MOST:
            _given.clear()
        _given[key] = None
        if not (type(output) is Tensor and output.is_meta and is_dense(output)):
            return
        itself = output is value
        if itself or (_is_copied_as_it_is(output) and not _share_memory(output, value)):
            _given[key] = _Given(output, itself, flops)

    def explains(self, error: BaseException) -> bool:
        """Tell whether an error may come from a gap in the graph."""
        return self.leaves_gaps and isinstance(error, RuntimeError) and CUT in str(error)


def _is_copied_as_it_is(tensor: Tensor) -> bool:
    """Tell whether a clone has the same strides."""
    if tensor.is_contiguous():
        return True
    return tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)


def _share_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage()._cdata == other.untyped_storage()._cdata


def _begins_as_every(kind: type, names: tuple[str, ...]) -> bool:
    """Tell whether the first layer of its class that is met has these attributes in this order."""
    return names[: len(FIRST)] == FIRST and _names.setdefault(kind, names) == names


def _config(layer: nn.Module) -> Key | None:
    """Return all that a layer's output may depend on besides its input; None if it is unusual."""
    attributes = layer.__dict__
    kind, names = type(layer), tuple(attributes)
    if names != _names.get(kind) and not _begins_as_every(kind, names):
        return None
    own = tuple(attributes.values())[len(FIRST) :]
    if attributes["_modules"] or not HASHABLE.issuperset(map(type, own)):
        return None
    parameters, buffers = attributes["_parameters"], attributes["_buffers"]
    tensors = (*parameters.values(), *buffers.values()) if buffers else (*parameters.values(),)
    forms = [
        None
        if tensor is None
        else (tensor.shape, tensor.stride(), tensor.dtype, tensor.requires_grad)
        for tensor in tensors
        if tensor is None or (type(tensor) in PLAIN and tensor.is_meta)
    ]
    if len(forms) < len(tensors):
        return None
    return kind, attributes["training"], own, *forms
