"""Which lane each row's output runs in, down to the last row that gets it.

`lanes.js` does the same of the rows that show in the widget.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import count

NONE: Mapping[int, int] = {}


def assigned(
    sources: Sequence[Collection[int]], unchanged: Mapping[int, int] = NONE
) -> list[int | None]:
    """Return the lane of each row: no two outputs that some row below still gets share one.

    A row goes on in the lowest of the lanes that end in it, so that a chain is a straight line;
    else in the lowest that is free. A row whose output no row gets has a mark only: in the lane of
    what it returns unchanged, in one that ends in it, or in one that is free.

    Args:
        sources: for each row the rows that it gets something from; those below have no lane to it.
        unchanged: for rows that return what they got, and made nothing, the row that made it.
    """
    last: dict[int, int] = {}
    used: set[int] = set()
    for row, found in enumerate(sources):
        used |= {*found}
        last.update(dict.fromkeys((each for each in found if each < row), row))
    lanes: list[int | None] = []
    taken: set[int | None] = set()
    for row, found in enumerate(sources):
        above = [each for each in found if each < row]
        ended = sorted(lanes[each] or 0 for each in above if last[each] == row)
        taken -= {*ended}
        lane = None
        if row in used or above:
            lane = ended[0] if ended else next(each for each in count() if each not in taken)
        if row in last:
            taken.add(lane)
        elif last.get(unchanged.get(row, row), row) > row:
            lane = lanes[unchanged[row]]
        lanes.append(lane)
    return lanes
