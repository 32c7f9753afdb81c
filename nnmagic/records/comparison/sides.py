"""Two sides of named parameters, held against each other pair by pair."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from nnmagic.display import units
from nnmagic.records.comparison.alignment import Renaming
from nnmagic.records.comparison.names import NamePair, paired, prefix_map
from nnmagic.records.comparison.parameter_rows import CHANGED, ComparedParameter
from nnmagic.records.comparison.parameters import ParamsComparison

PLAIN_TENSOR = "tensor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Parameters by name, without their values.

    Attributes:
        title: what they are of.
        typed: what stands for them in a line of Python.
        keys: the names, each with a key: tensors of one key are one parameter.
        kinds: what those are that are known to be parameters or buffers.
        notes: what is to be said of this side.
    """

    title: str
    typed: str
    keys: Mapping[str, Hashable]
    kinds: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def side_by_side(
    mine: Side,
    other: Side,
    row_of: Callable[[NamePair, str], ComparedParameter],
    rename: Renaming | None = None,
) -> ParamsComparison:
    """Return two sides as a record.

    Args:
        mine: this side.
        other: the other side.
        row_of: compares a pair, given what it is.
        rename: what the other side calls this side's parameters, where it has other names.

    Raises:
        ValueError: if a pattern of the map cannot be read.
    """
    kinds = {**other.kinds, **mine.kinds}
    pairs = paired(mine.keys, other.keys, rename)
    rows = tuple(row_of(p, kinds.get(p.name or p.other or "", PLAIN_TENSOR)) for p in pairs)
    notes = [*mine.notes, *other.notes, *_notes(rows)]
    if mine.keys and other.keys and all(None in (p.name, p.other) for p in pairs):
        notes.insert(0, _no_name_meets(mine, other))
    return ParamsComparison(
        title=mine.title, other_title=other.title, rows=rows, notes=tuple(notes)
    )


def _no_name_meets(mine: Side, other: Side) -> str:
    rename = prefix_map(mine.keys, other.keys)
    start = "no name is on both sides"
    call = f"nnmagic.compare({mine.typed}, {other.typed}, rename="
    if not rename:
        return f'{start}; type {call}{{"this side\'s glob": "the other\'s"}})'
    ((left, right),) = rename.items()
    side, prefix = ("the other", right[:-1]) if len(right) > len(left) else ("this", left[:-1])
    return f'{start}: those of {side} begin with "{prefix}"; type {call}{{"{left}": "{right}"}})'


def _notes(rows: tuple[ComparedParameter, ...]) -> list[str]:
    """Return what holds for several rows."""
    notes = []
    sampled = [row for row in rows if row.compared is not None and row.compared < (row.count or 0)]
    if sampled:
        largest = max(sampled, key=lambda row: row.count or 0)
        notes.append(
            f"of {units.plural(len(sampled), 'parameter')} only the kept values were compared, at "
            f"most {largest.compared:,} of {largest.count:,}: a Params record holds no more; type "
            f"the network, its state dict or a file for all of them"
        )
    rounded = sum(row.rounded and row.verdict == CHANGED for row in rows)
    if rounded:
        notes.append(
            f"by rounding alone: {rounded:,}; one side is the other one, cast to its dtype"
        )
    return notes
