"""An input for a network, where none is given."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, product
from math import isqrt
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from nnmagic.calls import CallObserver, RunningCall, observed
from nnmagic.failures import mismatch
from nnmagic.meta import is_for_want_of_values, networks_on_meta, on_meta
from nnmagic.naming import Naming
from nnmagic.units import layer_name

SEED = 0
LAYERS_TRIED = 4
SEQUENCE = 16
SIZES = (224, 32, 64, 28, 96, 128, 256, 299, 384, 512)
SMALL_SIZES = (28, 32, 64, 224, 96, 128, 256)
GROWING_SIZES = (1, 4, 7, 8, 16, 28, 32)
EVERY_SIZE = range(2, 161)
COMBINATIONS = 64
TIME_STEPS = ("t", "step", "steps", "time", "timestep", "timesteps")


class InputError(ValueError):
    """No input goes through a network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The form of one tensor that a network may take.

    Attributes:
        shape: its shape, the batch first.
        below: for integers, what they are less than; None for floating-point noise.
        dtype: its dtype; None is the network's own, or int64 for integers.
        reason: why a network may take it.
    """

    shape: tuple[int, ...]
    below: int | None = None
    dtype: torch.dtype | None = None
    reason: str = field(default="", compare=False)

    def on(self, device: torch.device, usual: torch.dtype) -> torch.Tensor:
        """Return noise of this form, drawn from a generator of its own; empty on meta."""
        dtype = self.dtype or (usual if self.below is None else torch.int64)
        if device.type == "meta":
            return torch.empty(self.shape, dtype=dtype, device=device)
        generator = torch.Generator("cpu").manual_seed(SEED)
        if self.below is None:
            noise = torch.rand(self.shape, generator=generator, dtype=torch.float32, device="cpu")
        else:
            noise = torch.randint(0, self.below, self.shape, generator=generator, device="cpu")
        return noise.to(device, dtype)

    def text(self, usual: torch.dtype) -> str:
        """Return the call of torch that gives such a tensor."""
        dtype = self.dtype or (usual if self.below is None else torch.int64)
        if self.below is not None:
            return f"torch.randint(0, {self.below}, {self.shape})"
        size = ", ".join(map(str, self.shape))
        return (
            f"torch.rand({size})"
            if dtype is torch.float32
            else f"torch.rand({size}, dtype={dtype})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """The arguments of a call that nnmagic makes itself.

    Attributes:
        args: the positional arguments.
        kwargs: the keyword arguments.
        text: how a person would write them.
        reason: why these.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    text: str
    reason: str

    @property
    def call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and the keyword arguments."""
        return self.args, dict(self.kwargs)


def takes_no_input(network: nn.Module) -> bool:
    """Tell whether a network's forward has no parameters at all."""
    return not _parameters_of(network)


def work_out_input(network: nn.Module, device: torch.device | None = None) -> Input:
    """Return an input that goes through the network on the meta device.

    What the network declares comes first (`example_input_array`, `dummy_inputs`, the input size of
    its `default_cfg`), then what its first layers with weights take, the likeliest first.

    Raises:
        InputError: if nothing goes through; the text names the layer that refused, and what it got.
    """
    device = device or device_of(network)
    usual = dtype_of(network)
    if takes_no_input(network):
        return Input(args=(), text="", reason="its forward takes no input")
    declared = list(_declared(network))  # before their tensors are on meta with the network's
    first: Sequence[Size] | None = None
    plausible: Sequence[Size] | None = None
    with _trials(network) as goes_through:
        for given in declared:
            if goes_through(given.args, given.kwargs) is not False:
                return _moved(given, device)
        for sizes in _candidates(network):
            first = first or sizes
            args = tuple(size.on(torch.device("meta"), usual) for size in sizes)
            result = goes_through(args, {})
            if result is True:
                return _made(sizes, device, usual)
            if result is None:
                plausible = plausible or sizes
    if plausible is not None:
        return _made(plausible, device, usual)
    raise InputError(_refusal(network, first, usual))


def input_of_sizes(
    network: nn.Module,
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[torch.dtype] = (),
    device: torch.device | None = None,
) -> Input:
    """Return noise of the shapes that the user gave, one tensor a shape.

    Args:
        network: the network that is to take it.
        shapes: the shapes, batch included.
        dtypes: one for each shape, or one for all; default: the network's dtype or, where that is
            refused, integers.
        device: default: the network's.

    Raises:
        InputError: if the network does not take it.
    """
    device = device or device_of(network)
    usual = dtype_of(network)
    given = list(dtypes) * len(shapes) if len(dtypes) == 1 else list(dtypes)
    below = _least_vocabulary(network)
    reason = "the size that was given"
    if given:
        if len(given) != len(shapes):
            raise InputError(
                f"{len(shapes)} sizes and {len(given)} dtypes; give one dtype, or one a size"
            )
        choices = [
            [
                Size(
                    shape=shape,
                    dtype=dtype,
                    reason=reason,
                    below=None if dtype.is_floating_point or dtype.is_complex else below,
                )
                for shape, dtype in zip(shapes, given, strict=True)
            ]
        ]
    else:
        kinds = product((None, below), repeat=len(shapes))
        choices = [
            [Size(shape=s, below=b, reason=reason) for s, b in zip(shapes, kind, strict=True)]
            for kind in kinds
        ]
    with _trials(network) as goes_through:
        for sizes in choices:
            args = tuple(size.on(torch.device("meta"), usual) for size in sizes)
            if goes_through(args, {}) is not False:
                return _made(sizes, device, usual)
    raise InputError(_refusal(network, choices[0], usual, given=True))


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's first parameter or buffer, else the CPU."""
    for tensor in chain(network.parameters(), network.buffers()):
        return tensor.device
    return torch.device("cpu")


def dtype_of(network: nn.Module) -> torch.dtype:
    """Return the dtype of a network's first floating-point parameter, else float32."""
    floating = (p.dtype for p in network.parameters() if p.is_floating_point())
    return next(floating, torch.float32)


class _trials:  # noqa: N801 - used as a function in a with statement
    """Tries calls of a network on meta, in eval mode and without a graph."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.context = networks_on_meta(network)

    def __enter__(self) -> Any:
        self.context.__enter__()
        self.network.eval()
        return self.goes_through

    def __exit__(self, *error: Any) -> Any:
        return self.context.__exit__(*error)

    def goes_through(self, args: Any, kwargs: Any) -> bool | None:
        """Tell whether a call succeeds; None where meta tensors cannot tell."""
        try:
            with torch.no_grad():
                self.network(*on_meta(args), **on_meta(dict(kwargs)))
        except Exception as error:  # noqa: BLE001 - whatever a forward raises refuses the input
            return None if is_for_want_of_values(error) else False
        return True


def _made(sizes: Sequence[Size], device: torch.device, usual: torch.dtype) -> Input:
    return Input(
        args=tuple(size.on(device, usual) for size in sizes),
        text=", ".join(size.text(usual) for size in sizes),
        reason=sizes[0].reason,
    )


def _moved(given: Input, device: torch.device) -> Input:
    args = tree_map_only(torch.Tensor, lambda tensor: tensor.to(device), given.args)
    kwargs = tree_map_only(torch.Tensor, lambda tensor: tensor.to(device), dict(given.kwargs))
    return Input(args=args, kwargs=kwargs, text=given.text, reason=given.reason)


def _declared(network: nn.Module) -> Iterator[Input]:
    for name in ("example_input_array", "dummy_inputs"):
        value = _attribute(network, name)
        if value is None:
            continue
        args = () if isinstance(value, Mapping) else value if isinstance(value, tuple) else (value,)
        kwargs = value if isinstance(value, Mapping) else {}
        yield Input(args=args, kwargs=kwargs, text=f"its {name}", reason="the network declares it")
    for name in ("pretrained_cfg", "default_cfg"):
        value = _attribute(network, name)
        size = value.get("input_size") if isinstance(value, Mapping) else None
        if size:
            sizes = [Size(shape=(1, *size), reason=f"its {name} declares this size")]
            yield _made(sizes, torch.device("cpu"), dtype_of(network))


def _attribute(network: nn.Module, name: str) -> Any:
    try:
        return getattr(network, name, None)
    except Exception:  # noqa: BLE001 - a property of the user's that fails declares nothing
        return None


def _parameters_of(network: nn.Module) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(network.forward).parameters.values())
    except (TypeError, ValueError):
        return [inspect.Parameter("input", inspect.Parameter.POSITIONAL_ONLY)]


def _required(network: nn.Module) -> list[str]:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [
        each.name
        for each in _parameters_of(network)
        if each.kind in positional and each.default is inspect.Parameter.empty
    ]


def _candidates(network: nn.Module) -> Iterator[list[Size]]:
    """Yield forms of the arguments to try, the likeliest first."""
    names = _required(network)
    arguments = max(1, len(names))
    layers = list(_first_layer_sizes(network))
    if arguments > 1:
        least = _least_vocabulary(network)
        layers = [[_within(size, least) for size in sizes] for sizes in layers]
        ids = Size(shape=(1,), below=least, reason="a number for each item")
        if any(name in TIME_STEPS for name in names):
            for sizes in layers:
                yield [ids if name in TIME_STEPS else sizes[0] for name in names]
    for size in chain.from_iterable(layers):
        yield [size] * arguments
    if arguments > 1:
        few = [*chain.from_iterable(sizes[:2] for sizes in layers), ids]
        for mixed in islice(product(few, repeat=arguments), COMBINATIONS):
            if len(set(mixed)) > 1:
                yield list(mixed)
    for size in _every_size(network):
        yield [size] * arguments


def _within(size: Size, least: int) -> Size:
    """Return the size with ids that every embedding has, since any of them may get any input."""
    return size if size.below is None else replace(size, below=min(size.below, least))


def _weighted_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            yield name, module


def _first_layer_sizes(network: nn.Module) -> Iterator[list[Size]]:
    """Yield for each of the first layers with weights what it takes, the likeliest first."""
    layers = (
        list(_sizes_for(layer, f"{name or 'it'} ({type(layer).__name__})"))
        for name, layer in _weighted_layers(network)
    )
    known = list(islice(filter(None, layers), LAYERS_TRIED))
    reason = "no layer says what it takes"
    anything = [
        Size(shape=shape, reason=reason) for shape in ((1, 28, 28), (1, 3, 32, 32), (1, 16))
    ]
    yield from known or [anything]


def _sizes_for(layer: nn.Module, name: str) -> Iterator[Size]:
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin):
        yield from _lazy_sizes(layer, f"{name} is lazy")
    elif isinstance(layer, nn.Linear):
        yield from _linear_sizes(layer.in_features, f"{name} takes {layer.in_features} features")
    elif isinstance(layer, nn.modules.conv._ConvNd):
        reason = f"{name} takes {layer.in_channels} channels"
        for size in _usual_sizes(layer):
            yield _picture(layer, size, reason)
    elif isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        reason = f"{name} takes ids below {layer.num_embeddings}"
        yield Size(shape=(1, SEQUENCE), below=layer.num_embeddings, reason=reason)
        yield Size(shape=(1,), below=layer.num_embeddings, reason=reason)
    elif isinstance(layer, nn.RNNBase):
        reason = f"{name} takes {layer.input_size} features"
        first = (1, SEQUENCE) if layer.batch_first else (SEQUENCE, 1)
        yield Size(shape=(*first, layer.input_size), reason=reason)
    elif isinstance(layer, nn.RNNCellBase):
        reason = f"{name} takes {layer.input_size} features"
        yield Size(shape=(1, layer.input_size), reason=reason)
    elif isinstance(layer, nn.MultiheadAttention):
        reason = f"{name} takes {layer.embed_dim} features"
        first = (1, SEQUENCE) if layer.batch_first else (SEQUENCE, 1)
        yield Size(shape=(*first, layer.embed_dim), reason=reason)
    elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
        yield from _channel_sizes(layer.num_features, f"{name} takes {layer.num_features} channels")
    elif isinstance(layer, nn.GroupNorm):
        yield from _channel_sizes(layer.num_channels, f"{name} takes {layer.num_channels} channels")
    elif isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        shape = tuple(layer.normalized_shape)
        reason = f"{name} takes {shape} at the end"
        yield Size(shape=(1, SEQUENCE, *shape), reason=reason)
        yield Size(shape=(1, *shape), reason=reason)
    elif isinstance(layer, nn.Bilinear):
        yield Size(
            shape=(1, layer.in1_features), reason=f"{name} takes {layer.in1_features} features"
        )
        yield Size(
            shape=(1, layer.in2_features), reason=f"{name} takes {layer.in2_features} features"
        )


def _linear_sizes(features: int, reason: str) -> Iterator[Size]:
    yield Size(shape=(1, features), reason=reason)
    yield Size(shape=(1, SEQUENCE, features), reason=reason)
    for channels in (1, 3):
        side = isqrt(features // channels)
        if features > 16 and channels * side * side == features:
            yield Size(shape=(1, channels, side, side), reason=reason)
            if channels == 1:
                yield Size(shape=(1, side, side), reason=reason)


def _channel_sizes(channels: int, reason: str) -> Iterator[Size]:
    yield Size(shape=(1, channels), reason=reason)
    yield Size(shape=(1, channels, SEQUENCE), reason=reason)
    yield Size(shape=(1, channels, 32, 32), reason=reason)


def _lazy_sizes(layer: nn.Module, reason: str) -> Iterator[Size]:
    axes = len(getattr(layer, "kernel_size", ()))
    if axes:
        yield Size(shape=(1, 3, *[32] * axes), reason=reason)
    else:
        yield Size(shape=(1, SEQUENCE), reason=reason)
        yield Size(shape=(1, 3, 32, 32), reason=reason)


def _usual_sizes(layer: Any) -> Sequence[int]:
    if layer.transposed:
        return GROWING_SIZES
    if len(layer.kernel_size) == 1:
        return (128, 1024, 16_000)
    if len(layer.kernel_size) == 3:
        return (16, 32, 64, 112)
    return SIZES if layer.in_channels == 3 else SMALL_SIZES


def _picture(layer: Any, size: int, reason: str) -> Size:
    return Size(shape=(1, layer.in_channels, *[size] * len(layer.kernel_size)), reason=reason)


def _every_size(network: nn.Module) -> Iterator[Size]:
    """Yield pictures of each size for the first convolution: a Linear after it fits only one."""
    for name, layer in _weighted_layers(network):
        if isinstance(layer, nn.modules.conv._ConvNd):
            for size in EVERY_SIZE:
                yield _picture(
                    layer, size, f"{name} takes {layer.in_channels} channels of this size"
                )
            return


def _least_vocabulary(network: nn.Module) -> int:
    tables = (m for m in network.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag))
    return min((table.num_embeddings for table in tables), default=2)


class _Refusal(CallObserver):
    """Finds the innermost layer that refuses an input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(Naming(lambda: [("", network)]))
        self.network = type(network).__name__
        self.error: BaseException | None = None
        self.text = ""

    def began(self, call: RunningCall, args: tuple, kwargs: dict[str, Any]) -> None:
        call.notes = args, kwargs

    def ended(self, call: RunningCall, output: Any) -> None:
        pass

    def raised(self, call: RunningCall, error: BaseException) -> None:
        if error is not self.error:
            self.error = error
            args, kwargs = call.notes
            got = mismatch(call.module, args, kwargs) or str(error).partition("\n")[0]
            where = layer_name(self.network, call.layer)
            self.text = f"{where} ({type(call.module).__name__}) {got}"


def _refusal(
    network: nn.Module, sizes: Sequence[Size] | None, usual: torch.dtype, *, given: bool = False
) -> str:
    if sizes is None:
        return (
            "no layer says what input the network takes; call it, or give --input-size 1,3,224,224"
        )
    refusal = _Refusal(network)
    trials = _trials(network)
    with trials as goes_through, observed(refusal):
        goes_through(tuple(size.on(torch.device("meta"), usual) for size in sizes), {})
    text = ", ".join(size.text(usual) for size in sizes)
    shape = ",".join(map(str, sizes[0].shape))
    if given:
        return f"the network refuses {text}: {refusal.text}"
    return (
        f"no input found: on {text}, {refusal.text}; "
        f"call the network on one, or give a size such as --input-size {shape}"
    )
