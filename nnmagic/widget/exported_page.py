"""A page of its own: a record's widget with its panels, without a kernel and a network."""

from bisect import bisect_left
from copy import deepcopy
from functools import cache
from html import escape
from typing import Any

from nnmagic.display.html import table_html
from nnmagic.display.messages import PanelContent
from nnmagic.display.sheet import sheet_of
from nnmagic.display.table import State, bounded
from nnmagic.records.curves.drawn_curves import POINTS
from nnmagic.records.record import Record
from nnmagic.records.trace import Trace
from nnmagic.widget.front_end import page_script, style
from nnmagic.widget.live_network import LiveNetwork, with_parameters
from nnmagic.widget.packing import Packing, pictures_in, thinned
from nnmagic.widget.panel import WEIGHTS_THEN, LayerDetails, PanelMaker
from nnmagic.widget.pictures import WRITTEN_OUT, values_in
from nnmagic.widget.row_panels import RowPanels

MARK = "page"
"""What the widget finds the static table of the page by."""

PAGE_BYTES = 240_000
"""How large a page may be before its pictures get coarser."""

PICTURE_VALUES = [round(2 ** (half / 2)) for half in range(28, 17, -1)]
"""How many values a picture may have: the most with which the page is small enough, or 512."""

FINER = 4
"""How many times as many a figure beside the outputs may have, such as an attention map."""

LEAST_POINTS, ALL_POINTS = 20, 3000
"""How many iterations the curves of a row have at least, and those of all rows."""

MOST_PANELS = 1000
"""Of how many rows the panels are packed."""


TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
h1 {{ position: absolute; clip-path: inset(50%) }}
{style}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
{static}
</main>
<script type="module">
{script}
const packed = "{packed}";
render({{ model: standIn(await unpacked(packed)), el: document.querySelector("main") }});
</script>
</body>
</html>
"""


def page_of(record: Record) -> str:
    """Return the page of a trace, a summary or parameters as HTML.

    The table, its search and the panels work in it as in a notebook; a reader without scripts sees
    the static table. Pictures have fewer values where the page would get too large, rounded to
    three digits.
    """
    contents = _Contents(record)
    parts = {
        "title": escape(contents.table.heading),
        "style": style(),
        "static": table_html(record.drawn(contents.table, text=False), MARK),
        "script": page_script(),
    }
    packed = cache(contents.packed)
    room = PAGE_BYTES - len(TEMPLATE.format(**parts, packed="").encode())
    fitting = bisect_left(PICTURE_VALUES, -room, key=lambda most: -len(packed(most)))
    most = PICTURE_VALUES[min(fitting, len(PICTURE_VALUES) - 1)]
    return TEMPLATE.format(**parts, packed=packed(most))


class _Contents:
    """What the widget of a page shows, and what a kernel would have answered it.

    Args:
        record: the record.

    Attributes:
        table: its table.
    """

    def __init__(self, record: Record) -> None:
        self.table = record.table()
        live = LiveNetwork(record) if isinstance(record, Trace) else None
        counts = None if live is None else live.counts()
        sheet = sheet_of(with_parameters(self.table, counts), static=MARK)
        self._content: dict[str, Any] = dict(sheet.content)
        steps = self._content.get("steps")
        self._step = steps["shown"] if steps else 0
        rows = RowPanels(
            record,
            live=live,
            classes=record.view.classes,
            points=max(LEAST_POINTS, min(POINTS, ALL_POINTS // max(1, len(sheet.rows)))),
        )
        self._panels: dict[str, PanelContent | None] = {}
        self._buffers: list[bytes] = []
        shown = self.table.rows
        urgent = [i for i, row in enumerate(shown) if row.state & (State.FLAGGED | State.FAILED)]
        kept = bounded([row.level for row in shown], urgent, MOST_PANELS)
        keys = {row: key for key, row in sheet.rows.items()}
        for row in filter(keys.__contains__, kept):
            key = keys[row]
            panel, buffers = rows.panel(sheet.subjects[row])
            self._panels[key] = panel
            if panel is not None:
                panel["parameters_heading"] = WEIGHTS_THEN
                for picture in pictures_in(panel):
                    picture["buffer"] += len(self._buffers)
                self._buffers += buffers

    def packed(self, most: int) -> str:
        """Return all as one text, pictures with at most so many values."""
        packing = Packing()
        panels = deepcopy(self._panels)
        buffers: list[Any] = [None] * len(self._buffers)
        shown = [panel for panel in panels.values() if panel is not None and panel["outputs"]]
        figures = [panel["figures"] for panel in shown]
        finer = {id(picture) for picture in pictures_in(figures)}
        for picture in pictures_in(panels):
            place = picture["buffer"]
            if picture["kind"] in WRITTEN_OUT:
                buffers[place] = packing.placed(self._buffers[place])
                continue
            left = most * FINER if id(picture) in finer else most
            values = values_in(picture, self._buffers[place]).reshape(picture["shape"])
            values = thinned(picture, values, left)
            wide = picture["wide"]
            buffers[place] = packing.placed(values.tobytes()) if wide else packing.floats(values)
        state = {
            "content": packing.placed(self._content),
            "selected": None,
            "search": "",
            "step": self._step,
            "live": False,
            "paused": False,
            "alone": True,  # only the shown iteration is in the page
        }
        contents = {
            "state": state,
            "panels": packing.placed(panels),
            "other": packing.placed(self._panel_not_packed()),
            "buffers": buffers,
        }
        return packing.packed(contents)

    def _panel_not_packed(self) -> PanelContent:
        """Return the panel of any other row."""
        panel = PanelMaker().layer_content("", "", LayerDetails())
        count = len(self.table.rows)
        note = (
            f"this page has the panels of {len(self._panels):,} of {count:,} rows: of those that "
            "are failed or flagged, and of the upper levels"
        )
        return {**panel, "notes": [note], "parameters_heading": ""}
