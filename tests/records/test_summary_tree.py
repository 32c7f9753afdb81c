import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.display.sheet import sheet_of
from nnmagic.records.folding import FOLDED_FROM


class Unrolled(nn.Module):
    """Calls a cell, and what is around it, once for each step."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.cell, self.head = steps, nn.LSTMCell(3, 5), nn.Linear(5, 2)

    def forward(self, x):
        state = self.cell(x)
        for _ in range(self.steps - 1):
            state = self.cell(x, state)
        return self.head(state[0])


class Deep(nn.Module):
    """Calls a block of layers again and again, and another layer in between."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        self.block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        for _ in range(self.steps):
            x = self.norm(self.block(x))
        return x


def labels(record):
    return [line.split("  ")[0].strip(" │├└─") for line in str(record).splitlines()[2:]]


def tree_of(summary):
    return [(row.level, row.label) for row in summary.table().rows]


@pytest.mark.parametrize("steps", [2, FOLDED_FROM - 1, FOLDED_FROM, 30])
def test_a_layer_that_is_called_often_is_one_row_with_its_calls_inside(steps):
    summary, x = nnmagic.summary(Unrolled(steps), torch.rand(2, 3)), torch.rand(2, 3)

    calls = [(1 + (steps >= FOLDED_FROM), "cell")] * steps
    many = [(1, f"cell × {steps}")] if steps >= FOLDED_FROM else []
    assert tree_of(summary) == [(0, "Unrolled"), *many, *calls, (1, "head")]
    assert len(summary.to_frame()) == steps + 2
    trace = nnmagic.trace(Unrolled(steps), x)
    assert tree_of(trace) == tree_of(summary)
    assert len(str(summary).splitlines()) < 20


def test_the_row_of_many_calls_adds_up_what_they_compute():
    summary = nnmagic.summary(Unrolled(30), torch.rand(2, 3))

    table = summary.table()
    flops = dict(zip([row.label for row in table.rows], table.cells("flops"), strict=True))
    assert flops["cell × 30"] == 30 * flops["cell"] == 30 * 2 * 2 * 20 * (3 + 5)
    assert flops["Unrolled"] == flops["cell × 30"] + flops["head"]
    assert table.cells("params")[1] == 4 * 5 * (3 + 5 + 2)


def test_blocks_fold_with_all_that_is_in_them():
    summary = nnmagic.summary(Deep(7), torch.rand(2, 4))

    rows = tree_of(summary)
    block = [(2, "block"), (3, "0"), (3, "1")]
    assert rows == [(0, "Deep"), (1, "block × 7"), *block * 7, (1, "norm × 7"), *[(2, "norm")] * 7]


def test_a_network_that_is_called_often_in_an_expression_is_one_row(session):
    session.run("net = nn.Sequential(nn.Linear(4, 4), nn.ReLU()); x = torch.rand(2, 4)")

    summary = session.run("%nnsummary [net(x) for _ in range(8)]")

    assert tree_of(summary)[:2] == [(0, "net × 8"), (1, "net")]
    assert len(summary.to_frame()) == 8 * 3


def test_what_is_asked_for_by_name_or_sorted_is_not_folded():
    summary = nnmagic.summary(Unrolled(30), torch.rand(2, 3))

    assert labels(summary.show(layers="cell")).count("cell") == 30
    assert labels(summary.show(sort="flops")).count("cell") == 30


class Idle(nn.Module):
    """Holds layers of all sorts that its forward leaves alone."""

    def __init__(self, many=0):
        super().__init__()
        self.used = nn.Linear(4, 4)
        self.aux = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
        self.empty, self.none = nn.ParameterDict(), nn.ModuleList()
        self.scales = nn.ParameterDict({"a": nn.Parameter(torch.ones(7))})
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"run": nn.Linear(4, 4), "idle": nn.Linear(2, 2)}) for _ in range(many)
        )

    def forward(self, x):
        for block in self.blocks:
            x = block["run"](x)
        return self.used(x)


def test_layers_that_are_not_called_stand_nested_under_a_head_of_their_own():
    summary = nnmagic.summary(Idle(), torch.rand(2, 4))

    assert tree_of(summary) == [
        (0, "Idle"),
        (1, "used"),
        (0, "not called"),
        (1, "aux"),
        (2, "0"),
        (2, "1"),
        (3, "0"),
        (3, "1"),
        (1, "scales"),
    ]
    assert "6 layers, 30 parameters" in str(summary)
    assert labels(summary)[:5] == ["Idle", "used", "not called", "aux", "scales"]
    assert sum(row.own_params for row in summary.rows) == summary.total_params == 20 + 30


def test_many_layers_that_are_not_called_are_folded_into_their_head():
    summary = nnmagic.summary(Idle(many=24), torch.rand(2, 4))

    assert "not called" in labels(summary)
    assert f"{24 + 6} layers, {24 * 6 + 30} parameters" in str(summary)
    assert "idle" not in str(summary)
    assert "blocks.23.idle" in summary._repr_html_()
    assert "blocks.23.idle" in str(summary.show(layers="*.idle"))


def test_the_depth_holds_for_layers_that_are_not_called():
    summary = nnmagic.summary(Idle(), torch.rand(2, 4)).show(depth=0)

    assert labels(summary)[:2] == ["Idle", "not called"]
    assert "aux" not in str(summary)
    html = nnmagic.summary(Idle(), torch.rand(2, 4)).show(depth=2)._repr_html_()
    assert html.count("ReLU") == 0


@pytest.mark.parametrize(
    "container",
    [nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict, nn.Module],
)
def test_a_container_that_nothing_can_call_is_no_row_unless_it_holds_parameters(container):
    net = Idle()
    net.other = container()

    assert "other" not in set(nnmagic.summary(net, torch.rand(2, 4)).to_frame().layer)
    net.other.register_parameter("scale", nn.Parameter(torch.ones(2)))
    assert "other" in set(nnmagic.summary(net, torch.rand(2, 4)).to_frame().layer)


def test_adapters_on_a_network_add_no_rows_of_their_containers():
    class Adapted(nn.Module):
        """A Linear with what peft hangs on each."""

        def __init__(self):
            super().__init__()
            self.base = nn.Linear(4, 4)
            self.down = nn.ModuleDict({"default": nn.Linear(4, 2, bias=False)})
            self.up = nn.ModuleDict({"default": nn.Linear(2, 4, bias=False)})
            self.embedding_down, self.embedding_up = nn.ParameterDict(), nn.ParameterDict()
            self.magnitudes = nn.ModuleDict()

        def forward(self, x):
            return self.base(x) + self.up["default"](self.down["default"](x))

    net = nn.Sequential(*(Adapted() for _ in range(24)))

    summary = nnmagic.summary(net, torch.rand(2, 4))

    assert len(summary.rows) == 1 + 24 * 4
    assert "not called" not in str(summary)


def test_the_head_is_a_row_of_the_page_without_a_panel():
    sheet = sheet_of(nnmagic.summary(Idle(), torch.rand(2, 4)).table())

    assert sheet.content["message"] == {"2": "6 layers, 30 parameters"}
    assert "not called" in sheet.rows
