"""One file of a record: read, checked, and put together."""

import json
import os
from typing import NamedTuple, get_args

import numpy as np
from safetensors import safe_open

from nnmagic.records.comparison.comparison import Comparison
from nnmagic.records.comparison.parameters import ParamsComparison
from nnmagic.records.loading.checks import check
from nnmagic.records.loading.unpacking import Unpacker
from nnmagic.records.params import Params
from nnmagic.records.ranks.joint_trace import JointTrace
from nnmagic.records.saving.file import FORMAT, checksum
from nnmagic.records.summary import Summary
from nnmagic.records.trace import Trace

Loaded = Trace | JointTrace | Summary | Params | Comparison | ParamsComparison

KINDS = {kind.__name__: kind for kind in get_args(Loaded)}


class Saved(NamedTuple):
    """What is in a file: the kind of the record, its JSON as a text, and its arrays."""

    kind: str
    content: str
    arrays: dict[str, np.ndarray]


def load_record(path: str | os.PathLike[str]) -> Loaded:
    """Return the record that `record.save(path)` wrote.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not as nnmagic wrote it; the text says in one line what is wrong.
    """
    try:
        return record_of(read(path))
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - a hostile file may break any step of it
        raise refusal(path, error) from None


def refusal(path: str | os.PathLike[str], error: Exception) -> ValueError:
    """Return the error that says in one line what is wrong with a file."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ValueError(f"{os.fspath(path)} is no record of nnmagic: {reason}")


def record_of(saved: Saved) -> Loaded:
    """Return the record that a file holds.

    Raises:
        ValueError: if it does not hang together.
    """
    if saved.kind not in KINDS:
        kind = saved.kind or "record of no kind"
        raise ValueError(f"it holds a {kind}, which this one knows not")
    record: Loaded = Unpacker(saved.arrays).unpack(KINDS[saved.kind], json.loads(saved.content))
    check(record)
    return record


def read(path: str | os.PathLike[str]) -> Saved:
    """Return what is in a file.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not as nnmagic wrote it.
    """
    with open(path, "rb"):  # safetensors' own errors do not tell what is missing
        pass
    with safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
        if "nnmagic" not in metadata:
            raise ValueError("nnmagic did not save it")
        if int(metadata["nnmagic"]) > FORMAT:
            raise ValueError(
                f"a newer nnmagic saved it (format {metadata['nnmagic']}, this one reads up to "
                f"{FORMAT}): pip install --upgrade nnmagic"
            )
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    content = metadata.get("content", "")
    if checksum(content, arrays) != metadata.get("checksum"):
        raise ValueError("it was changed or damaged after it was saved (its checksum differs)")
    return Saved(metadata.get("record", ""), content, arrays)
