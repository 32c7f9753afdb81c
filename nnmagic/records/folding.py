"""The calls of a run as a tree in which those of a layer that is called often are one line."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

FOLDED_FROM = 6
"""From how many calls of one layer in one call on they are folded into one row."""


class Line(NamedTuple):
    """A call to draw.

    Attributes:
        call: its number.
        level: how deep it stands in the tree.
        folded: whether it stands below a line that stands for many calls.
        times: how many calls the line stands for, the last of which it shows; 0 for one call.
    """

    call: int
    level: int
    folded: bool = False
    times: int = 0


def folded(
    calls: Sequence[int],
    parents: Mapping[int, int | None],
    keys: Mapping[int, Hashable],
    depths: Sequence[int],
) -> list[Line]:
    """Return the calls in order, many of one key gathered below one line.

    Args:
        calls: the numbers of the calls.
        parents: the call that made each of them, None outside.
        keys: what calls of one layer, made by one call, have in common.
        depths: how deep each call stands, by its number.
    """
    often = {key for key, n in Counter(keys[call] for call in calls).items() if n >= FOLDED_FROM}
    if not often:
        return [Line(call, depths[call]) for call in calls]
    children: dict[int | None, list[int]] = {}
    for call in calls:
        children.setdefault(parents[call], []).append(call)
    lines: list[Line] = []
    gathered: set[Hashable] = set()
    pending = [Line(call, 0) for call in reversed(children.get(None, []))]
    while pending:
        line = pending.pop()
        key = keys[line.call]
        if key in often and key not in gathered:
            gathered.add(key)
            same = [call for call in children[parents[line.call]] if keys[call] == key]
            lines.append(Line(same[-1], line.level, line.folded, times=len(same)))
            pending += [Line(call, line.level + 1, folded=True) for call in reversed(same)]
        elif key not in often or line.folded:
            lines.append(line)
            below = reversed(children.get(line.call, []))
            pending += [Line(call, line.level + 1, line.folded) for call in below]
    return lines
