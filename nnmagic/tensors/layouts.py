"""What all tensors of one shape and dtype have in common that the kernel can measure."""

from collections.abc import Callable
from ctypes import c_char
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from nnmagic.records.kept_slices import WHOLE, step_of
from nnmagic.records.tensor import Metadata
from nnmagic.tensors.kernel import MOST, kernel_of

MEASURED_DTYPES = {torch.float32: ("float32", "f"), torch.float64: ("float64", "d")}
"""The name, and NumPy's code, of the dtypes that the kernel measures."""


class Layout(NamedTuple):
    """What all float32 or float64 tensors of one shape on the CPU have in common.

    Attributes:
        metadata: their shape, dtype, device and number of values.
        numel: how many values each has.
        nbytes: how many bytes they take.
        step: how far apart the values of the spread sample lie in a large one.
        code: NumPy's code of their type.
        bytes_at: gives access to the bytes at an address.
        measure: the kernel, see `kernel_of`.
    """

    metadata: Metadata
    numel: int
    nbytes: int
    step: int
    code: str
    bytes_at: Callable[[int], Any]
    measure: Callable[[int | bytes, int, int], int]


@lru_cache(maxsize=512)
def layout_of(shape: torch.Size, dtype: torch.dtype) -> Layout | None:
    """Return the layout of such tensors, None where the kernel cannot measure them.

    It is kept from run to run: the class by which ctypes reads the bytes takes 10 us to make.
    """
    name, code = MEASURED_DTYPES.get(dtype, ("", ""))
    kernel, numel = kernel_of(code), shape.numel()
    if kernel is None or not 0 < numel < MOST:
        return None
    nbytes = numel * dtype.itemsize
    metadata = Metadata(tuple(shape), name, "cpu", numel)
    bytes_at = (c_char * nbytes).from_address
    return Layout(metadata, numel, nbytes, step_of(numel, WHOLE), code, bytes_at, kernel)
