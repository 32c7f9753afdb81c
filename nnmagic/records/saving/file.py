"""The file of a record: a safetensors file, whose metadata has what is no array."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from nnmagic.records.saving.packing import Packer

FORMAT = 1
"""The version of the file's format; a newer one is refused."""


def write(record: Any, path: str | os.PathLike[str]) -> None:
    """Save a record; a file of that name is replaced at once, or left as it is.

    Raises:
        OSError: if the file cannot be written.
    """
    packer = Packer()
    content = json.dumps(packer.pack(record), allow_nan=False, separators=(",", ":"))
    arrays = {name: np.require(each, requirements="C") for name, each in packer.arrays.items()}
    metadata = {
        "nnmagic": str(FORMAT),
        "record": type(record).__name__,
        "content": content,
        "checksum": checksum(content, arrays),
    }
    target = Path(path)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(save(arrays, metadata))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def checksum(content: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of the JSON, then of each array: its name, dtype, shape and bytes."""
    total = hashlib.sha256(content.encode())
    for name in sorted(arrays):
        values = arrays[name]
        total.update(f"{name} {values.dtype.str} {values.shape}".encode())
        total.update(values.data if values.size else b"")
    return total.hexdigest()
