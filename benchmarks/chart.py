"""One picture of the ratios, for the README."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure as Drawing

from benchmarks.summaries import TABLE as SUMMARIES
from benchmarks.timing import Figure
from benchmarks.traces import PEERS_TABLE
from benchmarks.traces import TABLE as TRACES

OURS, PEERS = "#3d6fb4", "#999999"

PANELS = {
    "time of a traced run over a plain forward pass (less is better)": (TRACES, PEERS_TABLE),
    "time of torchinfo.summary over nnmagic.summary (more is better)": (SUMMARIES,),
}


def draw(figures: Sequence[Figure], path: Path) -> None:
    """Draw the ratios on one thread as bars, with a mark at what is required of ours."""
    shown = [f for f in figures if f.threads == 1 and not f.unit]
    bars = {title: [f for f in shown if f.table in tables] for title, tables in PANELS.items()}
    heights = [len(each) for each in bars.values()]
    drawing = Drawing(figsize=(9, 0.32 * sum(heights) + 1.2), layout="constrained", dpi=110)
    panels = drawing.subplots(len(bars), 1, height_ratios=heights)
    for axes, (title, those) in zip(panels, bars.items(), strict=True):
        those.sort(key=lambda each: each.name)
        names = [each.name for each in those]
        colors = [PEERS if each.table == PEERS_TABLE else OURS for each in those]
        # from 1 on: where both take as long, the bar has no length
        axes.barh(names, [each.value - 1 for each in those], left=1, color=colors)
        for row, each in enumerate(those):
            end = max(each.value, each.required or 1, 1)
            axes.annotate(f" {each.value:.3g}", (end, row), va="center", fontsize=8)
            if each.required is not None:
                axes.plot([each.required] * 2, [row - 0.4, row + 0.4], color="black")
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.margins(x=0.1)
        axes.invert_yaxis()
        axes.set_title(title, loc="left", fontsize=10)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right", "left"]].set_visible(False)
    drawing.supxlabel("blue: nnmagic, the black mark its goal; grey: its peers", fontsize=8)
    drawing.savefig(path)
