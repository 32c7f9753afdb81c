"""Reading the file of a record."""

import json
import os
from typing import Any, get_args

import numpy as np
from safetensors import safe_open

from nnmagic.records.comparison.comparison import Comparison
from nnmagic.records.comparison.parameters import ParamsComparison
from nnmagic.records.loading.checks import check
from nnmagic.records.loading.unpacking import Unpacker
from nnmagic.records.params import Params
from nnmagic.records.record import Record
from nnmagic.records.saving.file import FORMAT, checksum
from nnmagic.records.summary import Summary
from nnmagic.records.trace import Trace

Loaded = Trace | Summary | Params | Comparison | ParamsComparison

KINDS = {kind.__name__: kind for kind in get_args(Loaded)}


def load(path: str | os.PathLike[str]) -> Record:
    """Return the record that `record.save(path)` wrote.

    Nothing in the file is run.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not as nnmagic wrote it; the text says in one line what is wrong.
    """
    try:
        kind, content, arrays = _read(path)
        if kind not in KINDS:
            raise ValueError(f"it holds a {kind or 'record of no kind'}, which this one knows not")
        record: Loaded = Unpacker(arrays).unpack(KINDS[kind], content)
        check(record)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - a hostile file may break any step of it
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{os.fspath(path)} is no record of nnmagic: {reason}") from None
    return record


def load_trace(path: str | os.PathLike[str]) -> Trace:
    """Return the trace that `trace.save(path)` wrote.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not as nnmagic wrote it, or another record.
    """
    record = load(path)
    if not isinstance(record, Trace):
        raise ValueError(f"{os.fspath(path)} holds a {type(record).__name__}, no Trace")
    return record


def holds_trace(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file says of itself that it is a saved trace."""
    try:
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get("record") == Trace.__name__
    except Exception:  # noqa: BLE001 - it may be anything, or not there
        return False


def _read(path: str | os.PathLike[str]) -> tuple[str, Any, dict[str, np.ndarray]]:
    """Return the kind of the record in a file, its JSON, and its arrays.

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
    return metadata.get("record", ""), json.loads(content), arrays
