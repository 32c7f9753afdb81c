import pytest
import torch
from rank_traces import job
from torch import nn

import nnmagic
from nnmagic.records.ranks.joint_trace import joined
from nnmagic.widget.row_panels import RowPanels


def test_a_panel_of_several_ranks_says_whose_values_it_shows():
    joint = joined(job(4, odd=[0]))
    table = joint.table()
    rows = {row.name: row.subject for row in table.rows}

    panels = {
        name: RowPanels(joint).panel(rows[name])[0] for name in ("0", "2.mlp", "2.mlp on rank 0")
    }

    assert [panel["title"] for panel in panels.values()] == [
        "0 on rank 1",
        "2.mlp on rank 1",
        "2.mlp on rank 0",
    ]
    for rank, name in ((1, "2.mlp"), (0, "2.mlp on rank 0")):
        mean = panels[name]["outputs"][0]["stats"]["mean"]
        assert float(mean) == pytest.approx(joint.of_rank(rank)["2.mlp"].mean, abs=1e-3)
    assert panels["2.mlp"]["wrong"] == [joint.findings[0].text]
    assert panels["0"]["wrong"] == []


def test_a_network_whose_loop_still_runs_is_not_said_to_be_gone():
    trace = nnmagic.trace(nn.Linear(2, 2), torch.rand(1, 2))

    panel, _ = RowPanels(trace).panel(trace.table().rows[0].subject)

    assert "when the cell has ended" in panel["parameters_reason"]
