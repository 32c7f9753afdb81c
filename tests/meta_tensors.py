"""Tensors on the meta device, their form, and operations on them."""

import torch


def empty(shape, dtype=torch.float32, **form):
    return torch.empty(shape, dtype=dtype, device="meta", **form)


def form(value):
    """Return all that a tensor without values has, or that each of several has."""
    if isinstance(value, torch.Tensor):
        layout = value.layout, value.storage_offset(), value.untyped_storage().nbytes()
        return tuple(value.shape), value.stride(), value.dtype, str(value.device), *layout
    return tuple(map(form, value))


X = empty((2, 3, 5, 5))
LAST = empty((2, 3, 5, 5), memory_format=torch.channels_last)
ROWS = empty((4, 6))


def outcome(function, args):
    """What a call gives, or raises: some versions of torch let on meta pass what others refuse."""
    try:
        return form(function(*args))
    except Exception as error:  # noqa: BLE001 - whatever torch raises
        return type(error), str(error)


def run(kernels, op, args, kwargs=None):
    """Do an operation as a cache has it done, or as torch does where the cache leaves it alone."""
    kernel = kernels.kernel_of(op)
    return op(*args, **kwargs or {}) if kernel is None else kernel(args, kwargs or {})
