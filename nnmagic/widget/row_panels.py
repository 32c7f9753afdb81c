"""The panel of a row of any record: of a call, of a layer's structure, or of a parameter."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from nnmagic.display.messages import PanelContent
from nnmagic.records.comparison.comparison import Comparison
from nnmagic.records.comparison.parameters import ParamsComparison
from nnmagic.records.curves.drawn_curves import POINTS
from nnmagic.records.params import Params
from nnmagic.records.ranks.joint_trace import JointTrace
from nnmagic.records.record import Record
from nnmagic.records.summary import Summary
from nnmagic.records.trace import Trace
from nnmagic.widget.attention import add_attention
from nnmagic.widget.comparison_panel import comparison_panel
from nnmagic.widget.curves import Curves
from nnmagic.widget.live_network import LiveNetwork
from nnmagic.widget.loading import NOTHING, Loader, Loading
from nnmagic.widget.panel import LayerDetails, PanelMaker

STILL_RUNS = "the parameters are read when the cell has ended"


class RowPanels:
    """Gives the panel of each row of a record.

    Args:
        record: a trace, a summary, the parameters or a comparison.
        live: what may be asked of a trace's network; None while its loop runs.
        loader: loads what the record does not keep; None where nothing can be asked for.
        classes: the names of the classes.
        points: how many iterations a curve has at most.
    """

    def __init__(
        self,
        record: Record,
        *,
        live: LiveNetwork | None = None,
        loader: Loader | None = None,
        classes: Sequence[str] = (),
        points: int = POINTS,
    ) -> None:
        self.record = record
        self.live = live
        self.loader = loader
        self.classes = classes
        self.points = points
        self._curves: Curves | None = None

    def panel(self, subject: Any) -> tuple[PanelContent | None, list[bytes]]:
        """Return the panel of what a row is about, None where there is none, and its arrays.

        Args:
            subject: what a row of the record's table is about.
        """
        panels = PanelMaker()
        return self._panel(subject, panels), panels.buffers

    def _panel(self, subject: Any, panels: PanelMaker) -> PanelContent | None:
        record = self.record
        if isinstance(record, Params):
            if subject.record is None:
                return None
            return panels.parameter_panel(record, subject.record, self._loading(subject))
        if isinstance(record, ParamsComparison):
            compared = subject.record
            return None if compared is None else panels.compared_parameter_panel(compared)
        if isinstance(record, Summary):
            return None if subject.head else panels.layer_panel(subject.layer)
        if isinstance(record, Comparison):
            return None if subject is None else comparison_panel(record, subject, panels)
        assert isinstance(record, Trace)
        return self._call_panel(record, subject, panels)

    def _loading(self, subject: Any, *where: Any) -> Loading:
        return NOTHING if self.loader is None else self.loader.of(subject, *where)

    def _call_panel(self, record: Trace, subject: Any, panels: PanelMaker) -> PanelContent:
        live, log, call = self.live, subject.step.log, subject.call
        if log is not record.log:  # a row of another rank
            record = replace(record, log=log)
        layer = log.layer_of(call)
        network = log.networks[layer.network]
        details = LayerDetails(reason=STILL_RUNS)
        if live is not None:
            details = live.details(network, layer.name)
        panel = panels.call_panel(
            record,
            call,
            details,
            scores=log.main_output(call) in subject.step.scored,
            classes=self.classes,
            loading=partial(self._loading, subject),
            wrong=subject.wrong,
        )
        if isinstance(record, JointTrace):
            panel["title"] += f" on rank {log.rank}"
        module = None if live is None else live.layer(network, layer.name)
        add_attention(panel, panels, log, call, module)
        if log.root_series.count(log.series_of(call)) > 1:
            if self._curves is None or self._curves.log is not log:
                self._curves = Curves(log, self.points)
            self._curves.add(panel, panels, call)
        return panel
