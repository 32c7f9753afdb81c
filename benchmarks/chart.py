"""One picture of the ratios, for the README."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure as Drawing

from benchmarks.summaries import TABLE as SUMMARIES
from benchmarks.timing import Figure
from benchmarks.traces import TABLE as TRACES


def draw(figures: Sequence[Figure], path: Path) -> None:
    """Draw the ratios of both tables on one thread as bars, with a mark at what is required."""
    drawing = Drawing(figsize=(9, 5), layout="constrained")
    for place, table in enumerate((TRACES, SUMMARIES)):
        bars = [f for f in figures if f.table == table and f.threads in (0, 1) and not f.unit]
        axes = drawing.add_subplot(2, 1, place + 1)
        names, values = [bar.name for bar in bars], [bar.value for bar in bars]
        colors = ["#3d6fb4" if bar.required else "#999999" for bar in bars]
        axes.barh(names, values, color=colors)
        for row, bar in enumerate(bars):
            if bar.required is not None:
                axes.plot([bar.required] * 2, [row - 0.4, row + 0.4], color="black")
            axes.annotate(f" {bar.value:.3g}", (bar.value, row), va="center", fontsize=8)
        axes.set_xscale("log")
        axes.invert_yaxis()
        axes.set_title(table, loc="left")
        axes.tick_params(labelsize=8)
    drawing.savefig(path)
