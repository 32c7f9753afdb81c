"""A small histogram as block characters."""

from nnmagic.display.table import Histogram

BARS = " ▁▂▃▄▅▆▇█"
TICK = "|"


def histogram_glyphs(histogram: Histogram) -> str:
    """Return a bar for each bin and a tick where zero lies."""
    bars = [
        BARS[0] if count == 0 else BARS[1 + (count * (len(BARS) - 2)) // histogram.top]
        for count in histogram.counts
    ]
    zero = histogram.zero
    if zero is None:
        return "".join(bars) + " "
    return "".join(bars[:zero]) + TICK + "".join(bars[zero:])
