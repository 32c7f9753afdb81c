"""What is measured of a tensor, and the shapes of nested values."""

import dataclasses
from collections.abc import Iterable, Mapping
from math import inf, nan, prod, sqrt
from typing import Any

import numpy as np
import torch
from torch import nn

from nnmagic.records import Picture, Sample, Samples
from nnmagic.trace_log import NOTHING_KNOWN, Form, Statistics
from nnmagic.units import Shape

WHOLE = 1024
"""A tensor of at most this many values is kept whole; of a larger one so many, spread over it."""

LEADING = 256
"""How many values of a larger tensor's front are kept."""

DRAWN = 4096
"""How many values of a larger tensor are kept to draw it by."""

CHANNELS_DRAWN = 16

BLOCK = 1024
"""Float sums are taken over blocks of this many values: their rounding error stays below 1e-6."""

TWO_PASSES = 1 << 16
"""How many values are converted to float64 at a time where the fast sums would cancel."""


def tensors_in(value: Any) -> tuple[Shape, tuple[torch.Tensor, ...]]:
    """Return the nested shapes of a value, and its tensors in the order of the nesting.

    Tuples, lists and named tuples become tuples; mappings and dataclasses become dicts; what holds
    no tensor is dropped. A value without any tensor has the shape None.
    """
    found: list[torch.Tensor] = []
    return _shapes(value, found, set()), tuple(found)


def tensors_of_call(
    args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Shape, tuple[torch.Tensor, ...]]:
    """Return the nested shapes of a call's arguments, and their tensors.

    One positional tensor: its shape. Otherwise a tuple of the positional ones, with a dict of the
    keyword ones last if there are any.
    """
    if len(args) == 1 and not kwargs and isinstance(args[0], torch.Tensor):
        return form_of(args[0]).shape, args
    if not kwargs:
        return tensors_in(args)
    found: list[torch.Tensor] = []
    seen: set[int] = set()
    positional = _shapes(args, found, seen) or ()
    keyword = _shapes(kwargs, found, seen)
    shape = positional if keyword is None else (*positional, keyword)
    return shape or None, tuple(found)


def _shapes(value: Any, found: list[torch.Tensor], parents: set[int]) -> Shape:
    if isinstance(value, torch.Tensor):
        found.append(value)
        return form_of(value).shape
    if value is None or isinstance(value, str | bytes | int | float):
        return None
    if id(value) in parents:
        return None  # a container that holds itself
    parents.add(id(value))
    shapes = [(key, _shapes(each, found, parents)) for key, each in _parts(value)]
    parents.discard(id(value))
    known = [(key, shape) for key, shape in shapes if shape is not None]
    if not known:
        return None
    if isinstance(value, tuple | list):
        return tuple(shape for _, shape in known)
    return {key if isinstance(key, str | int) else _key_text(key): shape for key, shape in known}


def _key_text(key: Any) -> str:
    """Return a text for a key that may hold the user's objects."""
    plain = key is None or isinstance(key, float | bytes | tuple)
    return repr(key) if plain else f"{type(key).__name__} at {id(key):#x}"


def _parts(value: Any) -> list[tuple[Any, Any]]:
    try:
        if isinstance(value, tuple | list):
            return list(enumerate(value))
        if isinstance(value, Mapping):
            return list(value.items())
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = (each.name for each in dataclasses.fields(value))
            return [(name, getattr(value, name, None)) for name in names]
    except Exception:  # noqa: BLE001 - a container of the user's that cannot be read holds nothing
        return []
    return []


def is_lazy(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor of a lazy layer has no shape yet."""
    usual = type(tensor) in (nn.Parameter, torch.Tensor)  # to ask for an instance is slow
    return not usual and isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer)


def bytes_of(tensor: torch.Tensor) -> int:
    """Return `numel * element_size`."""
    return tensor.numel() * tensor.element_size()


def storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Return the bytes of tensors, those that share a storage counted once."""
    views: dict[Any, dict[Any, int]] = {}
    limits: dict[Any, int] = {}
    for tensor in tensors:
        if is_lazy(tensor):
            continue
        key, limit = storage_of(tensor)
        has_storage = key != id(tensor)
        view = (tensor.storage_offset(), tensor.shape, tensor.stride()) if has_storage else None
        limits[key] = limit
        views.setdefault(key, {})[view] = bytes_of(tensor)
    return sum(min(sum(sizes.values()), limits[key]) for key, sizes in views.items())


def storage_of(tensor: torch.Tensor) -> tuple[int, int]:
    """Return what is equal for tensors that share a storage, and the bytes in it."""
    try:
        storage = tensor.untyped_storage()
        return storage._cdata, storage.nbytes()
    except (RuntimeError, NotImplementedError):
        return id(tensor), bytes_of(tensor)  # one without a storage, such as a sparse one


def form_of(tensor: torch.Tensor) -> Form:
    """Return a tensor's shape, dtype, device and number of values.

    A tensor that has no shape, or does not tell it, is said to be of type `"unknown"`.
    """
    try:
        return Form(
            tuple(tensor.shape),
            str(tensor.dtype).removeprefix("torch."),
            str(tensor.device),
            tensor.numel(),
        )
    except Exception:  # noqa: BLE001 - a subclass may refuse to be read
        return Form((), "unknown", "unknown", 0)


def version_of(tensor: torch.Tensor) -> int:
    """Return the version counter of a tensor, -1 where it has none."""
    try:
        return -1 if tensor.is_inference() else tensor._version
    except Exception:  # noqa: BLE001 - a subclass may refuse to be read
        return -1


def measure(
    tensor: torch.Tensor,
    keep: str = "sample",
    *,
    rows: int | None = None,
    drawn: bool = False,
    at_most: int | None = None,
) -> tuple[Statistics, Samples, str]:
    """Measure a tensor as it is now.

    This is the one place that lets no error out: a tensor that refuses to be read has no numbers,
    and a reason.

    Args:
        tensor: any tensor.
        keep: what is kept of the values: `"none"`, `"sample"` or `"all"`.
        rows: how many rows the leading sample has, each whole; None takes a corner.
        drawn: whether to keep values to draw a large tensor by.
        at_most: how many values, spread evenly, to measure; None measures all.

    Returns:
        The statistics, the samples, and why they are missing, if they are.
    """
    try:
        reason = _unreadable(tensor)
        if reason:
            return NOTHING_KNOWN, Samples(None, None), reason
        if at_most is not None and tensor.numel() > at_most:
            tensor = _thinned(tensor.detach(), at_most)
            values, times = _as_numpy(tensor)
            spread = Sample(values.dtype.char, values.shape, values.tobytes())
            return _statistics(values, times), Samples(None, spread), ""
        values, times = _as_numpy(tensor.detach())
        samples = _samples(tensor, values, keep, rows)
        if drawn and keep == "sample" and tensor.numel() > WHOLE:
            samples = samples._replace(picture=_picture(tensor.detach()))
        return _statistics(values, times), samples, ""
    except Exception as error:  # noqa: BLE001 - an observer observes: no error of ours gets out
        return (
            NOTHING_KNOWN,
            Samples(None, None),
            str(error).partition("\n")[0] or type(error).__name__,
        )


def _unreadable(tensor: torch.Tensor) -> str:
    if tensor.is_meta:
        return "on the meta device"
    if tensor.layout is not torch.strided or tensor.is_nested:
        return "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
    return ""


def _as_numpy(tensor: torch.Tensor) -> tuple[np.ndarray, int]:
    """Return the distinct values in any order, and how many times each stands in the tensor."""
    times = 1
    if 0 in tensor.stride() and tensor.numel():
        before = tensor.numel()
        for axis, stride in enumerate(tensor.stride()):
            if stride == 0:
                tensor = tensor.narrow(axis, 0, 1)
        times = before // tensor.numel()
    return _readable(tensor).ravel(order="K"), times


def _readable(tensor: torch.Tensor) -> np.ndarray:
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.is_complex():
        tensor = tensor.resolve_conj().to("cpu", torch.complex128).abs()
    elif tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.to("cpu", torch.float32)
    elif tensor.device.type != "cpu":
        tensor = tensor.cpu()
    return tensor.resolve_neg().numpy()


def _statistics(values: np.ndarray, times: int) -> Statistics:
    numel = values.size
    if numel == 0:
        return Statistics(nan, nan, nan, nan, nan, 0, 0, 0)
    zeros = np.count_nonzero(values == 0) / numel
    if values.dtype.kind != "f":
        low, high = float(values.min()), float(values.max())
        mean, std = _moments(values, numel * times)
        return Statistics(low, high, mean, std, zeros, 0, 0, 0)
    low, high = float(values.min()), float(values.max())
    if -inf < low and high < inf:  # false for NaN too
        fast = _block_moments(values, low, high, numel * times)
        mean, std = fast or _moments(values, numel * times)
        return Statistics(low, high, mean, std, zeros, 0, 0, 0)
    is_nan = np.isnan(values)
    finite = values[np.isfinite(values)]
    nans = int(is_nan.sum())
    negative = int((values == -inf).sum())
    infinite = numel - nans - finite.size
    low, high, mean, std = nan, nan, nan, nan
    if finite.size:
        low, high = float(finite.min()), float(finite.max())
        mean, std = _moments(finite, finite.size * times)
    return Statistics(low, high, mean, std, zeros, nans * times, infinite * times, negative * times)


def _block_moments(
    values: np.ndarray, low: float, high: float, numel: int
) -> tuple[float, float] | None:
    """Return mean and std from sums over blocks, or None where they would not be exact enough.

    The sums run in the values' own precision, which for float32 is exact to 1e-6 within a block;
    the variance as the mean of squares less the square of the mean is refused where that cancels.
    """
    size = values.size
    largest = max(-low, high)
    if size < BLOCK or not 1e-15 < largest < 1e15:  # no under- or overflow of the squares
        return None
    whole = size - size % BLOCK
    blocks = values[:whole].reshape(-1, BLOCK)
    total = float(blocks.sum(axis=1).sum(dtype=np.float64))
    squares = float(np.einsum("ij,ij->i", blocks, blocks).sum(dtype=np.float64))
    rest = values[whole:].astype(np.float64)
    mean = (total + float(rest.sum())) / size
    mean_square = (squares + float(rest.dot(rest))) / size
    variance = mean_square - mean * mean
    if variance < 0.1 * mean_square:
        return None
    return mean, sqrt(variance * numel / (numel - 1))


def _moments(values: np.ndarray, numel: int) -> tuple[float, float]:
    """Return mean and std (correction 1) in float64, in two passes over pieces that are merged.

    Source: T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm
    for computing sample variances", 1979.

    Args:
        values: finite values, at least one.
        numel: how many values they stand for.
    """
    seen, mean, squares, scale = 0, 0.0, 0.0, 1.0
    if values.dtype == np.float64:
        largest = max(-float(values.min()), float(values.max()))
        if not (largest == 0 or 1e-100 < largest < 1e100):
            scale = largest
    for start in range(0, values.size, TWO_PASSES):
        piece = values[start : start + TWO_PASSES].astype(np.float64)
        if scale != 1.0:
            piece /= scale
        piece_mean = float(piece.sum()) / piece.size
        piece -= piece_mean
        piece_mean += float(piece.sum()) / piece.size  # what the first sum rounded away
        step = piece_mean - mean
        together = seen + piece.size
        mean += step * piece.size / together
        squares += float(piece.dot(piece)) + step * step * seen * piece.size / together
        seen = together
    if numel < 2:
        return mean * scale, nan
    variance = squares / seen * numel / (numel - 1)
    return mean * scale, sqrt(variance) * scale


def _samples(tensor: torch.Tensor, values: np.ndarray, keep: str, rows: int | None) -> Samples:
    if keep == "none":
        return Samples(None, None)
    tensor = tensor.detach()
    if keep == "all" or tensor.numel() <= WHOLE:
        if tensor.is_contiguous() and not tensor.is_complex():
            whole = Sample(values.dtype.char, tuple(tensor.shape), values.tobytes())
        else:
            whole = sample(tensor)
        return Samples(whole if rows is None or not tensor.dim() else sample(tensor[:rows]), whole)
    if rows is not None:
        leading = sample(tensor[:rows])
    else:
        leading = sample(tensor[tuple(slice(size) for size in _corner(tuple(tensor.shape)))])
    step = -(-values.size // WHOLE)
    if step % 2 == 0:
        step += 1  # an even step falls in with the usual sizes and sees the same few channels
    spread = np.ascontiguousarray(values[::step])
    return Samples(leading, Sample(spread.dtype.char, spread.shape, spread.tobytes()))


def _thinned(tensor: torch.Tensor, at_most: int) -> torch.Tensor:
    """Return values spread evenly over a tensor, without a copy of it where that can be had."""
    step = -(-tensor.numel() // at_most)
    return tensor.reshape(-1)[:: step + (step % 2 == 0)]


def _picture(tensor: torch.Tensor) -> Picture:
    """Return a grid of at most DRAWN values: all, or of the first item, of its first channels."""
    shape = tuple(tensor.shape)
    sizes, steps = list(shape), [1] * len(shape)
    if tensor.numel() <= DRAWN:
        return Picture(sample(tensor), tuple(steps))
    for axis in range(len(shape) - 2):
        channels = axis == len(shape) - 3 and axis > 0
        sizes[axis] = min(shape[axis], CHANNELS_DRAWN if channels else 1)
    drawn = range(max(0, len(shape) - 2), len(shape))
    while prod(sizes) > DRAWN:
        longest = max(drawn, key=sizes.__getitem__)
        steps[longest] *= 2
        sizes[longest] = -(-shape[longest] // steps[longest])
    cut = tuple(slice(0, n * step, step) for n, step in zip(sizes, steps, strict=True))
    return Picture(sample(tensor[cut]), tuple(steps))


def _corner(shape: tuple[int, ...]) -> list[int]:
    """Return the sizes of a corner of at most LEADING values, the longest axes cut first."""
    sizes = list(shape)
    while prod(sizes) > LEADING:
        longest = max(range(len(sizes)), key=sizes.__getitem__)
        sizes[longest] = -(-sizes[longest] // 2)
    return sizes


def sample(tensor: torch.Tensor) -> Sample:
    """Return all values of a tensor, half precision as float32."""
    if tensor.is_complex():
        parts = torch.view_as_real(tensor.resolve_conj().to("cpu", torch.complex128))
        return Sample("Zd", tuple(tensor.shape), parts.numpy().tobytes())
    array = _readable(tensor)
    return Sample(array.dtype.char, tuple(array.shape), array.tobytes())


def restored(whole: Sample, form: Form) -> torch.Tensor:
    """Return a tensor with the values of a sample that holds all of them."""
    dtype = getattr(torch, form.dtype)
    if whole.format == "Zd":
        parts = torch.frombuffer(bytearray(whole.data), dtype=torch.float64)
        tensor = torch.view_as_complex(parts.view(-1, 2))
    else:
        tensor = torch.from_numpy(np.frombuffer(whole.data, dtype=whole.format).copy())
    return tensor.reshape(form.shape).to(form.device, dtype)
