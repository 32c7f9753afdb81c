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


def test_the_panels_of_a_long_loop_are_those_of_its_own_calls(tmp_path):
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with nnmagic.tracing(net) as trace:
        for i in range(1_001):
            net(torch.full((1 + i % 7, 4), float(i)))
    calls = {call.step: call for call in trace.calls("0")}
    assert 100 < len(calls) < 1_001

    for step in [*calls][:: len(calls) // 20]:
        shown = trace.show(step=step)
        subject = next(row.subject for row in shown.table().rows if row.name == "0")
        panel, _ = RowPanels(shown).panel(subject)
        for card, of_call in zip(
            panel["inputs"] + panel["outputs"],
            calls[step].inputs + calls[step].outputs,
            strict=True,
        ):
            assert card["shape"] == str(tuple(of_call.shape))
            assert card["stats"]["mean"] == pytest.approx(of_call.mean, nan_ok=True)
            assert card["picture"]["axes"][0] == "batch"

    trace.to_html(tmp_path / "page.html")
