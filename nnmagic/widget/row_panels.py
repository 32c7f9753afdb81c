"""The panel of a row of any record: of a call, of a layer's structure, or of a parameter."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

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
from nnmagic.widget.loading import NOTHING, Loader
from nnmagic.widget.panel import LayerDetails, PanelMaker

if TYPE_CHECKING:
    from nnmagic.widget.watching import Watcher


class RowPanels:
    """Gives the panel of each row of a record.

    Args:
        record: a trace, a summary, the parameters or a comparison.
        live: what may be asked of a trace's network; None where it is gone.
        watcher: what records every later call of that network, if anything does.
        classes: the names of the classes.
        curves: the curves of a run, where they are there already.
        points: how many iterations a curve has at most.

    Attributes:
        curves: the same, or those that a panel needed.
    """

    def __init__(
        self,
        record: Record,
        *,
        live: LiveNetwork | None = None,
        watcher: "Watcher | None" = None,
        classes: Sequence[str] = (),
        curves: Curves | None = None,
        points: int = POINTS,
    ) -> None:
        self.record = record
        self.live = live
        self.watcher = watcher
        self.classes = classes
        self.curves = curves
        self.points = points

    def panel(
        self,
        subject: Any,
        panels: PanelMaker,
        loader: Loader | None = None,
    ) -> PanelContent | None:
        """Return the panel of what a row is about; None where there is none.

        Args:
            subject: what a row of the record's table is about.
            panels: packs the panel, and gets the arrays of its pictures.
            loader: loads what the record does not keep; None where nothing can be asked for.
        """
        record = self.record
        if isinstance(record, Params):
            if subject.record is None:
                return None
            loading = NOTHING if loader is None else loader.of(subject)
            return panels.parameter_panel(record, subject.record, loading)
        if isinstance(record, ParamsComparison):
            compared = subject.record
            return None if compared is None else panels.compared_parameter_panel(compared)
        if isinstance(record, Summary):
            return None if subject.head else panels.layer_panel(subject.layer)
        if isinstance(record, Comparison):
            return None if subject is None else comparison_panel(record, subject, panels)
        assert isinstance(record, Trace)
        return self._call_panel(record, subject, panels, loader)

    def _call_panel(
        self, record: Trace, subject: Any, panels: PanelMaker, loader: Loader | None
    ) -> PanelContent:
        live, log, call = self.live, subject.step.log, subject.call
        if log is not record.log:  # a row of another rank
            record = replace(record, log=log)
        layer = log.layer_of(call)
        network = log.networks[layer.network]
        source = live or self.watcher
        details = (
            LayerDetails(reason="the network is gone: its parameters cannot be seen")
            if source is None
            else source.details(network, layer.name)
        )
        panel = panels.call_panel(
            record,
            call,
            details,
            scores=log.main_output(call) in subject.step.scored,
            classes=self.classes,
            loading=lambda *where: NOTHING if loader is None else loader.of(subject, *where),
            wrong=subject.wrong,
        )
        if isinstance(record, JointTrace):
            panel["title"] += f" on rank {log.rank}"
        module = None if live is None else live.layer(network, layer.name)
        add_attention(panel, panels, log, call, module)
        if log.root_series.count(log.series_of(call)) > 1:
            if self.curves is None or self.curves.log is not log:
                self.curves = Curves(log, self.points)
            self.curves.add(panel, panels, call)
        return panel
