"""Lanes as characters for box drawing, one line a row."""

from collections.abc import Sequence

from nnmagic.display.lanes import assigned
from nnmagic.display.table import Lanes

MADE, PASSED = "●", "○"
"""The mark of a row whose output another row gets, and of one that only gets something."""

UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8

GLYPHS = " ╵╷│╴╯╮┤╶╰╭├─┴┬┼"
"""The character with arms in these directions, by the sum of their bits."""


def lane_glyphs(cells: Sequence[Lanes]) -> list[str]:
    """Return a text for each row; empty ones where all runs in one lane, which says nothing."""
    ends: dict[int, int] = {}
    for row, cell in enumerate(cells):
        ends.update(dict.fromkeys((each for each in cell.sources if each < row), row))
    used = {source for cell in cells for source in cell.sources}
    unchanged = {
        row: cell.unchanged for row, cell in enumerate(cells) if cell.unchanged is not None
    }
    found = assigned([cell.sources for cell in cells], unchanged)
    lanes = [-1 if lane is None else lane for lane in found]
    if not any(lane > 0 for lane in lanes):
        return [""] * len(cells)
    width = 1 + max(lanes)
    texts: list[str] = []
    running: dict[int, int] = {}  # for each lane that is open, the row where it ends
    for row, cell in enumerate(cells):
        before = set(running)
        running = {lane: end for lane, end in running.items() if end > row}
        if row in ends:
            running[lanes[row]] = ends[row]
        joined = {lanes[source] for source in cell.sources if source < row}
        span = joined | {lanes[row]} if lanes[row] >= 0 else set()
        line = []
        for lane in range(width):
            arms = UP * (lane in before) | DOWN * (lane in running)
            if lane == lanes[row]:
                line.append(MADE if row in used else PASSED)
                continue
            crossed = bool(span) and min(span) <= lane <= max(span)
            if crossed and (lane in joined or not arms):
                arms |= LEFT * (lane > min(span)) | RIGHT * (lane < max(span))
            line.append(GLYPHS[arms])
        texts.append("".join(line).rstrip())
    return texts
