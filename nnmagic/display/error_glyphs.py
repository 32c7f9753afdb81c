"""A relative error as a bar of line glyphs on a logarithmic scale."""

from math import log10

from nnmagic.display.table import RelativeError

DECADES = 8
"""The scale reaches from 1e-8 to 1, a glyph a decade."""


def error_glyphs(error: RelativeError) -> str:
    """Return a bar that is as long as the error is large, with a tick at its bound.

    No error has neither: what is equal is quiet.
    """
    if not error.number:
        return ""
    halves = max(1, round(2 * _decades_below(error.number)))
    full = halves // 2
    glyphs = list(("━" * full + "╸" * (halves % 2)).ljust(DECADES))
    if error.bound:
        tick = min(DECADES - 1, int(_decades_below(error.bound)))
        glyphs[tick] = "┿" if tick < full else "│"
    return "".join(glyphs)


def _decades_below(number: float) -> float:
    """Return how much of the scale lies below a number."""
    return min(DECADES, max(0.0, log10(number) + DECADES))
