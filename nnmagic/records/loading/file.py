"""Reading the file of a record, or those of several ranks."""

import os
from collections.abc import Sequence
from glob import glob, has_magic
from re import split
from typing import Any

from safetensors import safe_open

from nnmagic.display.units import with_article
from nnmagic.records.loading.ranks import RankReader
from nnmagic.records.loading.reading import load_record
from nnmagic.records.ranks.joint_trace import JointTrace, joined
from nnmagic.records.record import Record
from nnmagic.records.trace import Trace

Path = str | os.PathLike[str]


def load(source: Path | Sequence[Path | Trace]) -> Record:
    """Return the record that `record.save(path)` wrote, or those of several ranks as one trace.

    Nothing in a file is run.

    Args:
        source: a path; a glob (`"rank*.safetensors"`); or several paths, or traces that came back
            from other processes. A file knows the rank that it was saved under; one that does not
            has its position. One that is missing, or cannot be read, is a line of the trace.

    Raises:
        OSError: if the only file cannot be read.
        ValueError: if it is not as nnmagic wrote it, or if of several files none is there; the text
            says in one line what is wrong.
    """
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if not has_magic(path) or os.path.exists(path):
            return load_record(path)
        found = sorted(glob(path), key=_by_number)
        if not found:
            raise ValueError(f"no file matches {path}")
        return load_ranks(found)
    return load_ranks(source)


def load_trace(path: str | os.PathLike[str]) -> Trace:
    """Return the trace that `trace.save(path)` wrote.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not as nnmagic wrote it, or another record.
    """
    record = load_record(path)
    if not isinstance(record, Trace):
        raise ValueError(f"{os.fspath(path)} holds a {type(record).__name__}, no Trace")
    return record


def holds_trace(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file says of itself that it is a saved trace."""
    try:
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get("record") in (Trace.__name__, JointTrace.__name__)
    except Exception:  # noqa: BLE001 - it may be anything, or not there
        return False


def load_ranks(sources: Sequence[Path | Trace]) -> JointTrace:
    """Return the runs of several ranks as one trace; what cannot be read is a line of it.

    Args:
        sources: files of traces, or traces.

    Raises:
        TypeError: if one is neither.
        ValueError: if there is no trace at all.
    """
    traces, lines, reader = list[Trace](), list[str](), RankReader()
    for source in sources:
        if not isinstance(source, Trace | str | os.PathLike):  # an int would be a file descriptor
            raise TypeError(
                f"load takes paths and traces, not {with_article(type(source).__name__)}"
            )
        try:
            trace = source if isinstance(source, Trace) else reader.trace(source)
        except (OSError, ValueError) as error:
            lines.append(_missing(source, error))
            continue
        traces += trace.ranks if isinstance(trace, JointTrace) else [trace]
    if not traces:
        count = f"none of {len(lines)} files is a trace: " if lines else "no file was given"
        raise ValueError(count + "".join(lines[:1]))
    return joined(traces, [*lines, *reader.notes])


def _missing(source: Any, error: Exception) -> str:
    """Return why a file is left out, in one line."""
    if isinstance(error, OSError):
        return f"{os.fspath(source)} is left out: {error.strerror or error}"
    return f"left out: {error}"


def _by_number(path: str) -> list[Any]:
    """Return what sorts `rank10` after `rank9`."""
    return [int(part) if part.isdecimal() else part for part in split(r"(\d+)", path)]
