"""The notebook widget: shows a record, answers the browser, and follows a network live."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakValueDictionary

import anywidget
import traitlets
from IPython.display import display

from nnmagic.contexts import block
from nnmagic.display.messages import AskMessage, PointContent
from nnmagic.display.sheet import Sheet, sheet_of
from nnmagic.display.table import Row, Table
from nnmagic.records.record import Record, View
from nnmagic.records.trace import Trace
from nnmagic.widget.front_end import script, style
from nnmagic.widget.live_network import LiveNetwork, live_network_of, with_parameters
from nnmagic.widget.loading import Loader
from nnmagic.widget.row_panels import RowPanels
from nnmagic.widget.static_output import ShownAfterItsTable, StaticOutput, bundle_of

if TYPE_CHECKING:
    from nnmagic.widget.watching import Watcher

PointMaker = Callable[[Sequence[Row]], tuple[PointContent, list[bytes]]]

MOST_OPEN = 20
"""How many widgets are alive at a time; an older one closes to its static table."""

NOT_THERE = "it is not among the rows that show now"


class NetworkWidget(anywidget.AnyWidget, ShownAfterItsTable):
    """A record in a notebook: its table, the panel of a layer, its run made again, live updates.

    Args:
        record: a trace, a summary or the parameters.
        watcher: what records every later call of a network into this widget; None follows nothing.
        running: whether the record is that of a loop that still runs: its network cannot be asked.
        table: the record's table, where it is there already.

    Attributes:
        static_output: the static table, which stands before the widget where that is displayed.
        closed_because: why the widget is closed, empty while it is open.
        trace: the record that is shown; assign another one to show it.
        selected: the key of the selected row, as in `trace[...]`; None for no row.
        step: the iteration that is shown.
        search: what is searched for in names and types.
        live: whether the widget follows a network.
        running: whether the loop that it shows still runs: the kernel cannot answer the page.
        paused: whether it has stopped to do so for a while.
        watcher: what records the calls of that network, or None.
        sheet: the arrays of the rows that the page shows now; `content` is what was sent when the
            rows were last others.
    """

    _esm = script()
    _css = style()
    content = traitlets.Dict().tag(sync=True)
    selected = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    search = traitlets.Unicode("").tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)
    live = traitlets.Bool(False).tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)
    paused = traitlets.Bool(False).tag(sync=True)
    trace: Any = traitlets.TraitType()
    sheet: Sheet
    _loader: Loader
    _panels: RowPanels

    opened: ClassVar["WeakValueDictionary[int, NetworkWidget]"] = WeakValueDictionary()
    """The widgets that are alive by their `id`, the oldest first; ipywidgets keeps every one."""

    def __init__(
        self,
        record: Record,
        *,
        watcher: "Watcher | None" = None,
        running: bool = False,
        table: Table | None = None,
    ) -> None:
        self._table = table
        self.watcher = watcher
        self._view: View = record.view
        self._live: LiveNetwork | None = None
        self.static_output = StaticOutput()
        self.closed_because = ""
        self._is_answered = False
        self._is_in_box = False
        self._static_trace: Record = record
        self._shown = False
        self._following = False
        super().__init__(trace=record, live=watcher is not None, running=running)
        self.on_msg(self._answer)
        self.opened[id(self)] = self
        for widget in self.open_ones()[:-MOST_OPEN]:
            widget.close(f"{MOST_OPEN} newer ones are open")

    @classmethod
    def open_ones(cls) -> list["NetworkWidget"]:
        """Return the widgets that are alive, the oldest first."""
        return list(cls.opened.values())

    def __repr__(self) -> str:
        """Return a few words: it is what a page without widgets shows."""
        shown = self.trace.brief().strip("<>") if isinstance(self.trace, Record) else "nothing"
        return f"<nnmagic widget: {shown}>"

    def __enter__(self) -> "NetworkWidget":
        """Return the widget; it is closed at the end of the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Stop to follow the network, and close."""
        self.close()

    def open(self) -> None:
        """Open the comm, not before the widget is first shown.

        A page that is told of a widget and at once that it is closed logs an error.
        """
        if self._shown:
            is_in_box = self._is_in_box
            super().open()
            self._is_in_box = is_in_box  # ipywidgets asks for the comm's name too

    @property
    def model_id(self) -> Any:
        """The name of the comm, by which a page, or a box that holds the widget, shows it."""
        self._shown = self._is_in_box = True
        if self.closed_because and self.comm is None:
            self._draw()
        self.open()
        return super().model_id

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Return what a front end shows: of a closed widget its static table.

        Beside the static table a page without widgets needs no words.
        """
        if self.closed_because:
            return self._last_table()
        is_in_box, bundle = self._is_in_box, super()._repr_mimebundle_(**options)
        self._is_in_box = is_in_box
        if bundle is not None and self.static_output.is_shown:
            bundle[0]["text/plain"] = ""
        return bundle

    def show(self, table: Table | None = None) -> None:
        """Show the static table, and then the widget, which hides it while it lives.

        Args:
            table: the record's table, where it is there already.
        """
        if self.closed_because:
            display(self._last_table(), raw=True)
            return
        self.static_output.show(self._viewed(), table, live=self.live or self.running)
        data, metadata = self._repr_mimebundle_()
        display(data, metadata=metadata, raw=True)

    def _viewed(self) -> Record:
        """Return the record that is shown, with the options that it is shown by."""
        record: Record = replace(self.trace, view=self._view)
        return record

    def update_static(self) -> None:
        """Let the static table show the last of what is followed: a network, or a loop."""
        if not (self.live or self.running):
            return
        if self.watcher is not None:
            self.watcher.flush()
        if self.trace is not self._static_trace:
            self._static_trace = self.trace
            self.static_output.update(self._viewed())

    def _last_table(self) -> dict[str, str]:
        """Return the table of what was shown last, which says why the widget is closed."""
        record = self._viewed()
        return bundle_of(record, self._with_reason(record.table()))

    def _with_reason(self, table: Table) -> Table:
        """Return the table with a line that says why the widget is closed, where it is."""
        notes = [f"this widget is closed: {self.closed_because}"] if self.closed_because else []
        return replace(table, notes=(*table.notes, *notes))

    def close(self, because: str = "close() was called, or its button pressed") -> None:
        """Stop to follow the network, and give the page its static table back.

        In a box, where it has none, the widget stays, without what needs the network.

        Args:
            because: why, in words that the table ends with.
        """
        if self.closed_because:
            return
        if self.watcher is not None:
            self.watcher.stop()
        self.closed_because = because
        self.live = self.running = False
        self.opened.pop(id(self), None)
        self._live = None
        self.static_output.update(self._viewed(), f"this widget is closed: {because}", live=False)
        self._set_panels(self.trace)
        if self._is_in_box:
            self._draw()
            return
        super().close()
        self.__dict__.pop("_repr_mimebundle_", None)  # ipywidgets lets a closed one show nothing

    # What is shown.

    @traitlets.validate("trace")
    def _checked(self, proposal: Any) -> Record:
        if not isinstance(given := proposal["value"], Record):
            kind = type(given).__name__
            raise traitlets.TraitError(f"trace takes a record, as nnmagic.trace gives, not {kind}")
        return given

    @traitlets.observe("trace")
    def _show(self, change: Any) -> None:
        if not self._following:
            self._show_whole(change["new"])

    def _show_whole(self, record: Record) -> None:
        self._view = record.view
        self._live = None
        if isinstance(record, Trace) and not self.running:
            self._live = live_network_of(record)
        self._set_panels(record)
        table, self._table = self._table, None
        self._draw(table)
        self._tell_panel()

    def _set_panels(self, record: Record) -> None:
        self._loader, classes = Loader(record), self._view.classes
        self._panels = RowPanels(record, live=self._live, loader=self._loader, classes=classes)

    @traitlets.observe("step")
    def _show_step(self, change: Any) -> None:
        steps = self.sheet.content.get("steps")
        if isinstance(self.trace, Trace) and steps and change["new"] != steps["shown"]:
            self._view = replace(self._view, step=change["new"])
            self._draw()
            self._tell_panel()

    def _draw(self, table: Table | None = None) -> None:
        if table is None:
            table = replace(self.trace, view=self._view).table()
        counts = None if self._live is None else self._live.counts()
        run = None if self._live is None else self._live.offer()
        mark = self.static_output.mark
        table = with_parameters(self._with_reason(table), counts)
        self.sheet = sheet_of(table, static=mark, run=run)
        with self.hold_sync():
            self.content = dict(self.sheet.content)
            steps = self.sheet.content.get("steps")
            self.step = 0 if steps is None else steps["shown"]

    def follow(self, trace: Trace, point_of: PointMaker | None = None) -> None:
        """Show what a run has come to: only numbers are sent where the rows are the same.

        Args:
            trace: a later call of the network, or a loop that runs.
            point_of: gives a loop's last iteration as a point of each curve.
        """
        counts = None if self.watcher is None else self.watcher.counts()
        table = with_parameters(replace(trace, view=self._view).table(), counts)
        sheet = sheet_of(table, static=self.static_output.mark, run=self.sheet.content["run"])
        is_same = sheet.has_rows_of(self.sheet)
        if not self.running:
            self._live = live_network_of(trace)
            if not is_same:
                sheet.content["run"] = self._live.offer()
        self.sheet = sheet
        self._set_panels(trace)
        self._set_trace(trace)
        if is_same:
            self.send(*self.sheet.numbers())
        else:
            self.content = dict(sheet.content)
        if point_of is not None:
            point, buffers = point_of(table.rows)
            self.send({"tell": "point", "point": point}, buffers)
        self._tell_panel()

    def update_static_in_time(self) -> None:
        """Let the static table follow while no page answers: there may be none that has widgets."""
        if not self._is_answered and self.static_output.is_due:
            self.update_static()

    def _set_trace(self, trace: Record) -> None:
        """Set the trait alone: what is shown is sent in few messages."""
        self._following = True
        try:
            self.trace = trace
        finally:
            self._following = False

    def become(self, trace: Record) -> None:
        """Show the record of a loop that was followed until now, which is over."""
        self.running = False
        self._set_trace(trace)
        self._show_whole(trace)
        self.static_output.update(self._viewed(), live=False)

    # What the browser asks.

    def _answer(self, _: Any, message: Any, buffers: Any) -> None:
        request = message.get("ask") if isinstance(message, dict) else None
        self._is_answered = True
        try:
            if request == "panel":
                self._tell_panel()
            elif request == "latest":
                self.send(*self.sheet.numbers())
            elif request == "all":
                self._load(message)
            elif request == "run" and self._live is not None:
                self.send({"tell": "begun"})
                with self._unwatched():
                    trace = self._live.run(message)
                self.trace = trace
            elif request == "pictures" and self._live is not None:
                labels, points = self._live.thumbnails()
                self.send({"tell": "pictures", "labels": labels, "buffer": 0}, [points])
            elif request in ("pause", "resume") and self.watcher is not None:
                self.watcher.paused = request == "pause"
                self.paused = self.watcher.paused  # the page hears of it once it is so
            elif request == "close":
                self.close()
        except Exception as error:  # noqa: BLE001 - the page is where the reader looks
            if request == "run":
                self._draw()  # a network that has gone meanwhile cannot be run again
            text = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else ""
            lines = (text or str(error)).splitlines()[:3]
            self.send({"tell": "error", "lines": lines or [type(error).__name__]})

    @block
    def _unwatched(self) -> Iterator[None]:
        """Follow the network no further for the length of the block: it is run by the widget."""
        watcher = self.watcher
        if watcher is None:
            yield
            return
        paused, watcher.paused = watcher.paused, True
        try:
            yield
        finally:
            watcher.paused = paused

    @traitlets.observe("paused")
    def _pause(self, change: Any) -> None:
        if self.watcher is not None:
            self.watcher.paused = self.paused

    @traitlets.observe("selected")
    def _select(self, change: Any) -> None:
        self._loader.forget_new_runs()
        self._tell_panel()

    def _subject(self) -> Any:
        """Return what the selected row is about, None where no row is selected."""
        row = None if self.selected is None else self.sheet.rows.get(self.selected)
        return None if row is None else self.sheet.subjects[row]

    def _tell_panel(self) -> None:
        """Answer what is known of the selected row, also where that is nothing."""
        if self.selected is None:
            return
        panel, buffers, lines = None, list[bytes](), [NOT_THERE]
        try:
            subject = self._subject()
            if subject is not None:
                panel, buffers = self._panels.panel(subject)
        except Exception as error:  # noqa: BLE001 - ipywidgets would keep it from the page
            lines = [f"nnmagic cannot show this row: {type(error).__name__}: {error}"]
        told = {"tell": "panel", "key": self.selected, "panel": panel}
        self.send(told if panel else {**told, "lines": lines}, buffers)

    def _load(self, message: AskMessage) -> None:
        """Load all values of a tensor of the selected row."""
        subject = self._subject()
        if subject is None:
            return
        self.send({"tell": "begun"})
        side, place = message.get("tensor", "output"), int(message.get("index", 0))
        with self._unwatched():
            self._loader.load(subject, side, place, new_run=bool(message.get("new")))
        self._tell_panel()


def close_all(because: str = "all were closed") -> None:
    """Close every widget that is alive, and say why."""
    for widget in NetworkWidget.open_ones():
        with suppress(Exception):
            widget.close(because)
