"""The values of a tensor that are kept."""

from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch

from nnmagic.records.kept_slices import WHOLE, KeptSlices, slices_of, step_of, with_nonfinite
from nnmagic.records.tensor import NO_VALUES, Metadata, Picture, Sample, Samples
from nnmagic.tensors.values import DenseValues, Values, as_array


def samples_cut(
    slices: KeptSlices,
    leading: Values | None = None,
    spread: Values | None = None,
    picture: Values | None = None,
) -> Samples:
    """Return the samples of a large tensor, given its values at some slices, on the host."""
    if leading is None or spread is None:
        return NO_VALUES
    grid = None if picture is None else Picture(sample(picture), slices.steps)
    return Samples(sample(leading), real_sample(spread), grid)


def samples_of(
    values: DenseValues,
    keep: str,
    *,
    whole_rows: int | None = None,
    picture_values: int = 0,
    is_finite: bool = True,
) -> Samples:
    """Return the values kept of a tensor on the host.

    Args:
        values: the tensor's.
        keep: `"none"`, `"sample"` or `"all"`.
        whole_rows: how many rows the leading sample has, each whole; None takes a corner.
        picture_values: how many values may be kept to draw a large tensor by; 0 keeps none.
        is_finite: whether all of them are finite.
    """
    whole = values.whole
    if keep == "none" or values.zeros:  # the stored values alone have another distribution
        return NO_VALUES
    if whole is None:
        return Samples(None, real_sample(evenly_spaced(values.flat, WHOLE)))
    shape = tuple(whole.shape)
    if keep == "all" or prod(shape) <= WHOLE:
        all_ = sample(whole)
        leading = all_ if whole_rows is None or not shape else sample(whole[:whole_rows])
        return Samples(leading, all_)
    slices = slices_of(shape, whole_rows, picture_values)
    picture = None if slices.picture is None else grid(whole, slices, is_finite=is_finite)
    return samples_cut(slices, whole[slices.leading], evenly_spaced(whole, WHOLE), picture)


def grid(whole: Values, slices: KeptSlices, *, is_finite: bool) -> Values:
    """Return the values to draw a tensor by, in which NaN and Inf between them are seen too."""
    assert slices.picture is not None
    cut = whole[slices.picture]
    if is_finite:
        return cut
    seen = with_nonfinite(sample(cut).array(), as_array(whole), slices.steps)
    return torch.from_numpy(seen) if np.iscomplexobj(seen) else seen


def sample(values: Values) -> Sample:
    """Return all of these values; half precision as float32."""
    if not isinstance(values, np.ndarray) and values.is_complex():
        parts = torch.view_as_real(values.resolve_conj().to(torch.complex128))
        return Sample("Zd", tuple(values.shape), parts.numpy().tobytes())
    return real_sample(values)


def real_sample(values: Values) -> Sample:
    """Return all of these values; half precision as float32, complex ones by absolute value."""
    array = as_array(values)
    return Sample(array.dtype.char, array.shape, array.tobytes())


def evenly_spaced(values: Any, at_most: int) -> Any:
    """Return at most so many values of an array or a tensor, spread evenly over it.

    They are taken in the order of the axes, wherever the values lie in memory: samples of two
    tensors of one shape are of the same places.
    """
    shape, size = values.shape, prod(values.shape)
    step = step_of(size, at_most)
    is_array = isinstance(values, np.ndarray)
    if values.flags.c_contiguous if is_array else values.is_contiguous():
        return values.reshape(-1)[::step]
    arange = np.arange if is_array else partial(torch.arange, device=values.device)
    places = arange(0, size, step)
    return values[tuple(places // prod(shape[i + 1 :]) % shape[i] for i in range(len(shape)))]


def restored(whole: Sample, metadata: Metadata) -> torch.Tensor:
    """Return a tensor with the values of a sample that holds all of them."""
    dtype = getattr(torch, metadata.dtype)
    if whole.format == "Zd":
        parts = torch.frombuffer(bytearray(whole.data), dtype=torch.float64)
        tensor = torch.view_as_complex(parts.view(-1, 2))
    else:
        tensor = torch.from_numpy(np.frombuffer(whole.data, dtype=whole.format).copy())
    return tensor.reshape(whole.shape).to(metadata.device, dtype)
