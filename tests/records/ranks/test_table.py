import pytest
import torch
from rank_traces import batch, job, network, on_rank
from torch import nn

import nnmagic
from nnmagic.display.table import State
from nnmagic.display.text import table_text
from nnmagic.records.ranks.joint_trace import joined


def rows_of(table):
    return dict(zip([row.label for row in table.rows], table.cells("ranks"), strict=True))


def test_ranks_that_agree_are_one_row():
    joint = joined(job(8))

    table = joint.table()

    assert set(table.cells("ranks")) == {"0-7"}
    assert [row.label for row in table.rows] == [row.label for row in job(1)[0].table().rows]
    assert table.heading.endswith(" · 9 calls on rank 0 · ranks 0-7 agree")
    assert not any(row.state & (State.FLAGGED | State.DIMMED) for row in table.rows)


def test_rows_fold_by_agreement_and_open_where_ranks_part():
    joint = joined(job(8, odd=[6]))

    table = joint.table()

    labels = [row.label for row in table.rows]
    assert labels == ["Sequential", "0", "1", "norm", "mlp", "2", "norm", "mlp", "rank 6", "3"]
    odd = "0-5, 7 ≠ 6"
    assert table.cells("ranks") == [odd, *["0-7"] * 4, odd, "0-7", odd, "6", odd]
    parted = table.rows[7]
    assert parted.state & State.FIRST
    assert parted.state & State.FLAGGED
    assert [row.label for row in table.rows if row.state & State.DIMMED] == ["3"]
    assert parted.subject.wrong == [joint.findings[0].text]
    assert table.heading.endswith(joint.agreement.sentence)
    assert table.first[0] == "where they part"


def test_the_errors_stand_where_ranks_part_and_nowhere_else():
    joint = joined(job(8, odd=[6]))
    compared = job(8, odd=[6])[6].compare(joint.of_rank(0))

    table = joint.table()

    errors = {
        row.name: cell.number
        for row, cell in zip(table.rows, table.cells("output_error"), strict=True)
        if cell != ""
    }
    assert errors == pytest.approx(
        {name: compared[layer].output_error for name, layer in
         {"Sequential": "", "2": "2", "2.mlp": "2.mlp", "3": "3"}.items()}, rel=0.1
    )  # fmt: skip
    inherited = dict(zip([row.name for row in table.rows], table.cells("input_error"), strict=True))
    assert inherited["2.mlp"] == ""
    assert inherited["3"].number > 1e-4
    assert "output_error" not in {each.key for each in joined(job(4)).table().columns}


def test_a_row_of_another_rank_has_its_own_numbers():
    joint = joined(job(8, odd=[6]))
    table = joint.table()

    child = next(row for row in table.rows if row.label == "rank 6")
    means = dict(zip([row.name for row in table.rows], table.cells("mean"), strict=True))

    assert means["2.mlp on rank 6"][0] == joint.of_rank(6)["2.mlp"].mean
    assert means["2.mlp"][0] == joint.of_rank(0)["2.mlp"].mean
    assert child.state == State.FLAGGED


def test_a_search_for_rank_finds_the_rows_that_disagree():
    table = joined(job(8, odd=[6])).table()

    assert [row.name for row in table.rows if "rank" in row.name] == ["2.mlp on rank 6"]


def test_own_data_is_said_in_the_rows():
    table = joined(job(3, own=True)).table()

    assert set(table.cells("ranks")) == {"own data"}
    assert "ranks 0-2, each on its own data" in table.heading


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_it_reads_as_text_and_as_html(width):
    joint = joined(job(8, odd=[6]), ["rank 9 is left out <b>"])

    text, page = table_text(joint.drawn(text=True), width), joint._repr_html_()

    for shown in (" ".join(text.split()), page.replace("\xa0", " ")):
        assert "0-5, 7 equal; 6 differs" in shown
        assert "rank 6" in shown
    assert "<b>" not in page.partition("left out")[2][:9]
    assert joint.table().notes[0] == "rank 9 is left out <b>"


def test_what_a_rank_made_of_it_flows_as_in_its_own_trace():
    joint, one = joined(job(4, odd=[2], layer="0")), job(1)[0]

    def flow(table):
        names = [row.name for row in table.rows]
        cells = zip(names, table.cells("flow"), strict=True)
        return {name: [names[each] for each in cell.sources] for name, cell in cells}

    found = flow(joint.table())

    assert found.pop("0 on rank 2") == []
    assert found == flow(one.table())


def test_layers_and_depth_narrow_it():
    joint = joined(job(4, odd=[2]))

    shown = joint.show(layers="3").drawn(text=True)

    assert {"3", "rank 2"} <= {row.label for row in shown.rows}


def test_two_roots_of_one_network_have_their_rows():
    net = network()
    traces = []
    for rank in range(2):
        with nnmagic.tracing(net) as trace:
            net(batch(0))
            net[0](batch(1))
        traces.append(on_rank(trace, rank, 2))

    table = joined(traces).table()

    assert set(rows_of(table).values()) == {"0, 1"}


def of_shards(make, world, placement, whole):
    """Traces of ranks whose last call returned a DTensor, of which each rank has a part."""
    traces = []
    for rank in range(world):
        trace = nnmagic.trace(*make(rank))
        tensors = trace.log.tensors
        place = tensors.metadata_index[trace.log.main_output(0)]
        tensors.metadata[place] = tensors.metadata[place]._replace(
            global_shape=whole, placements=(placement,), mesh=((rank, world),)
        )
        traces.append(on_rank(trace, rank, world))
    return traces


def test_a_row_of_shards_has_the_statistics_of_all_and_both_shapes():
    x = torch.randn(7, 3)
    parts = x.chunk(3)

    joint = joined(of_shards(lambda rank: (nn.ReLU(), parts[rank]), 3, "Shard(0)", (7, 3)))

    table, whole = joint.table(), x.relu()
    (mean,), (limits,), (zeros,) = map(table.cells, ("mean", "range", "zeros"))
    assert mean == pytest.approx((whole.mean().item(), whole.std().item()), rel=1e-6)
    assert limits == (0.0, whole.max().item())
    assert zeros == pytest.approx((whole == 0).double().mean().item())
    (shape,) = table.cells("shape")
    assert (shape.shape, shape.odd) == ((3, 3), "of (7, 3), Shard(0)")
    assert joint.findings == ()


def test_shards_of_one_input_are_no_parting_and_what_follows_is_none():
    x, linear = torch.randn(4, 3), nn.Linear(3, 6)
    parts = linear.weight.detach().chunk(2)

    def make(rank):
        part = nn.Linear(3, 3, bias=False)
        part.weight.data = parts[rank]
        return part, x

    shards = of_shards(make, 2, "Shard(1)", (4, 6))
    plain = [on_rank(nnmagic.trace(*make(rank)), rank, 2) for rank in range(2)]

    assert joined(shards).findings == ()
    assert joined(shards).table().cells("ranks") == ["0, 1 shards"]
    assert [each.layer for each in joined(plain).findings] == [""]


def test_shards_of_a_call_that_do_not_tile_are_named():
    x = torch.randn(7, 3)
    parts = [x[:3], x[3:5], x[6:]]

    joint = joined(of_shards(lambda rank: (nn.ReLU(), parts[rank]), 3, "Shard(0)", (7, 3)))

    assert [(each.rule, each.rank) for each in joint.findings] == [
        ("shards do not fit together", 1)
    ]
    assert "6 of the 7" not in joint.findings[0].text
    assert "18 of the 21 values of (7, 3)" in joint.findings[0].text


def test_what_differs_by_rounding_alone_is_said_to():
    net, traces = network(), []
    for rank in range(3):
        with torch.no_grad():
            net[3].bias.mul_(1 + 1e-7 * (rank == 2))
        traces.append(on_rank(nnmagic.trace(net, batch()), rank, 3))

    joint = joined(traces)

    assert joint.findings == ()
    assert joint.agreement.sentence == "ranks 0-2 agree within rounding"
    assert not any(row.state & State.DIMMED for row in joint.table().rows)
