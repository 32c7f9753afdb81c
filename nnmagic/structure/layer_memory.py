"""What torch's own layers give for tensors of the same forms: networks repeat a few of them.

It is remembered above autograd and all dispatch, from one run on the meta device to the next: to
ask again takes a tenth of the time.
"""

import marshal
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as torchs_modules
from torch.utils.flop_counter import flop_registry

from nnmagic.network.layers import ATOMS, FIRST
from nnmagic.structure.default_device import has_torchs_forward
from nnmagic.structure.meta_cache import meta_kernels
from nnmagic.structure.meta_rules import FLOATS, META, is_dense
from nnmagic.tensors.metadata import dispatch_modes, function_modes, transform_level

MARSHALLED = ATOMS | {tuple}

PLAIN = frozenset({Tensor, nn.Parameter})

FUNCTIONS = dict(vars(nn.functional))
"""What torch's layers call; where the user has replaced any of it, nothing is remembered."""

CONVOLUTIONS: Mapping[type, Any] = {
    kind: kind._conv_forward for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d)
}

SIGNS = ("appears to not have been used in the graph", "NoneType")
"""What errors say of a gradient with respect to something before a layer that was left out."""

MOST = 16_384
"""So many calls are remembered, then all are forgotten."""

Key = tuple[Any, ...]

saved_tensors_hooks = getattr(
    torch._C._autograd, "_top_saved_tensors_default_hooks", lambda ignore_is_tracing: "unknown"
)
"""Tells the hooks that see what is saved for a backward; an older torch does not tell."""


class _Given:
    """What a layer gave.

    It holds no tensor.

    Attributes:
        itself: whether that was its input.
        form: else shape, strides and dtype.
        graph: whether it was part of a graph.
        flops: the operations that it took.
    """

    __slots__ = ("flops", "form", "graph", "itself")

    def __init__(self, output: Tensor, itself: bool, flops: int) -> None:
        self.itself = itself
        self.form = output.shape, output.stride(), output.dtype
        self.graph = output.requires_grad
        self.flops = flops

    def made(self) -> Tensor:
        """Return a tensor of this form."""
        shape, strides, dtype = self.form
        return torch.empty_strided(shape, strides, dtype=dtype, device=META)


_given: dict[Key, _Given | None] = {}

_names: dict[type, tuple[str, ...]] = {}


def forget() -> None:
    """Forget what layers and operations have given, as at the begin of a session."""
    _given.clear()
    _names.clear()
    meta_kernels.cache_clear()


class LayerMemory:
    """What is remembered, for one run.

    A layer that is left out leaves a gap in the graph: its output requires a gradient where it
    would, but does not depend on its input.
    """

    def __init__(self) -> None:
        self._run = torch.get_default_dtype(), len(flop_registry)
        self._usual = vars(nn.functional) == FUNCTIONS
        self._models: dict[_Given, Tensor] = {}
        self._leaves_gaps = False
        self._met: list[Tensor] = []

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
        if not self._usual or not _is_alone(layer) or value.is_inference():
            return None, None
        config = _config(layer)
        if config is None:
            return None, None
        graph = torch.is_grad_enabled(), value.requires_grad, value.requires_grad and value.is_leaf
        key = *config, *self._run, *graph, value.shape, value.stride(), value.dtype
        given = _given.get(key)
        if given is None:
            return key, None
        if given.itself and value.requires_grad and value._is_view():
            return key, None  # to some views nothing may be written
        return key, (value if given.itself else self._again(given), given.flops)

    def _again(self, given: _Given) -> Tensor:
        with torch._C._DisableTorchDispatch():
            if not given.graph:
                return given.made()
            self._leaves_gaps = True
            model = self._models.get(given)
            if model is None:
                model = self._models[given] = given.made().requires_grad_()
                model.register_post_accumulate_grad_hook(self._met.append)
            return model.clone()  # not a leaf, which could not be written to

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

    def misled(self, differentiated: bool, error: BaseException | None = None) -> bool:
        """Tell whether a run may have gone another way because of a gap in the graph.

        Args:
            differentiated: whether there was a backward in it.
            error: what ended it.
        """
        if not self._leaves_gaps:
            return False
        if isinstance(error, Exception) and any(sign in str(error) for sign in SIGNS):
            return True
        return differentiated or bool(self._met)


def _is_alone(layer: nn.Module) -> bool:
    """Tell whether a layer is torch's, and nobody besides the run follows what it does."""
    attributes, kind = layer.__dict__, type(layer)
    if not has_torchs_forward(layer) or getattr(kind, "_conv_forward", None) is not (
        CONVOLUTIONS.get(kind)
    ):
        return False
    if attributes["_backward_hooks"] or attributes["_backward_pre_hooks"]:
        return False
    if torchs_modules._global_backward_hooks or torchs_modules._global_backward_pre_hooks:
        return False
    return (
        function_modes() == dispatch_modes() == 1
        and transform_level() is None
        and forward_ad._current_level < 0
        and saved_tensors_hooks(False) is None
    )


def _is_copied_as_it_is(tensor: Tensor) -> bool:
    """Tell whether a clone has the same strides."""
    if tensor.is_contiguous():
        return True
    return tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)


def _share_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage()._cdata == other.untyped_storage()._cdata


def _config(layer: nn.Module) -> Key | None:
    """Return all that a layer's output may depend on besides its input; None if it is unusual."""
    attributes = layer.__dict__
    kind, names = type(layer), tuple(attributes)
    usual = _names.get(kind)
    if names != usual:
        if names[: len(FIRST)] != FIRST:
            return None
        usual = _names.setdefault(kind, names)
    others = () if names == usual else names
    own = tuple(attributes.values())[len(FIRST) :]
    if attributes["_modules"] or not MARSHALLED.issuperset(map(type, own)):
        return None
    try:
        values = marshal.dumps(own, 2)  # tells 1 from 1.0, and runs no code of the user's
    except ValueError:  # a tuple that holds something else
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
    return kind, others, attributes["training"], values, *forms
