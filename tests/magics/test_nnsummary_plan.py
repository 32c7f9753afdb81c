"""`%nnsummary --plan`: what each rank of a training holds."""

import pytest
import torch
from small_transformer import IDS, Transformer
from torch import nn

import nnmagic


@pytest.fixture
def net(session):
    session.shell.user_ns.update(net=Transformer(), ids=IDS, nn=nn, torch=torch)
    return session["net"]


def test_a_plan_is_part_of_the_summary_and_says_whether_it_fits(session, net):
    found = session.run("%nnsummary --plan fsdp=2,tp=2 net(ids) --optimizer adam")

    plan = found.plan
    parts = plan.param_bytes, plan.grad_bytes, plan.optimizer_bytes, plan.buffer_bytes
    assert (plan.fsdp, plan.tp, plan.optimizer) == (2, 2, "adam")
    assert plan.total_bytes == sum(parts) + plan.saved_bytes + plan.gathered_bytes
    assert (plan.fits(1), plan.fits(plan.total_bytes / 2**30), plan.fits(0)) == (True, True, False)
    assert found.total_params == sum(each.numel() for each in net.parameters())
    for coat in (str(found), found._repr_html_(), found.to_markdown()):
        assert "plan fsdp=2, tp=2 (4 ranks), on each rank: parameters " in coat
        assert "163,008 parameters · 4 ranks: fits in 80 GiB: yes, " in coat


def test_a_plan_is_saved_and_loaded(session, net, tmp_path):
    found = session.run("%nnsummary --plan fsdp=3 net(ids)")

    found.save(tmp_path / "plan.safetensors")

    assert nnmagic.load(tmp_path / "plan.safetensors") == found


def test_the_input_of_a_plan_is_worked_out_and_a_line_says_that_it_is_small(session, net):
    alone = session.run("%nnsummary --plan tp=2 net")
    sized = session.run("%nnsummary --plan tp=2 net --input-size 2,48 --dtype int64")
    called = session.run("%nnsummary --plan tp=2 net(ids)")

    assert any("for your own batch type its call" in note for note in alone.notes)
    assert not any("for your own batch" in note for note in (*sized.notes, *called.notes))
    assert alone.plan.saved_bytes < called.plan.saved_bytes == sized.plan.saved_bytes


def test_without_an_input_all_else_is_planned(session):
    session.run(
        "import torch; from torch import nn\n"
        "class Odd(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__(); self.inner = nn.Linear(8, 8)\n"
        "    def forward(self, box):\n"
        "        return self.inner(box.content)"
    )

    found = session.run("%nnsummary --plan fsdp=2 Odd()")

    assert (found.plan.param_bytes, found.plan.saved_bytes) == (4 * (4 * 8 + 4), None)
    assert (found.total_flops, found.to_frame().layer.tolist()) == (None, ["inner"])
    assert "fits in 80 GiB: unknown, " in str(found)
    assert "saved for backward unknown: no input found" in str(found)
    assert "for your own batch" not in str(found)


def test_a_floating_dtype_is_that_of_the_planned_network(session, net):
    full = session.run("%nnsummary --plan fsdp=2 net(ids)")
    half = session.run("%nnsummary --plan fsdp=2 net(ids) --dtype bfloat16")

    assert half.plan.dtype == "bfloat16"
    assert half.plan.param_bytes == full.plan.param_bytes // 2
    assert half.param_bytes == full.param_bytes == 4 * half.total_params


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--plan fsdp=0 net", "fsdp is 1 or more, not '0'"),
        ("--plan fsdp=-2 net", "fsdp is 1 or more, not '-2'"),
        ("--plan fsdp net", "fsdp is 1 or more, not ''"),
        ("--plan fsdp=2.5 net", "fsdp is 1 or more, not '2.5'"),
        ("--plan pp=2 net", "'pp' is none of fsdp, tp"),
        ("--plan net", "'net' is none of fsdp, tp"),
        ("--plan fsdp=2,fsdp=4 net", "fsdp is there twice"),
        ("--plan fsdp=2, net", "'' is none of fsdp, tp"),
        ("--plan", "needs a value"),
        ("--plan tp=5 net", "no multiple of 5"),
        ("--plan fsdp=2 --real net", "leave out --real"),
        ("--plan fsdp=2 --engine torchinfo net", "leave out --real and --engine"),
        ("--plan fsdp=2 net(ids).sum() + net(ids).sum()", "more than one call"),
        ("--plan fsdp=2 net --dtype int64", "--dtype needs --input-size"),
        ("--plan fsdp=2 nn.LazyLinear(3)", "weight has no shape before the first run"),
        ("--plan fsdp=2 nn.Linear", "make a network of it first"),
    ],
)
def test_a_plan_that_says_nothing_sensible_is_refused_in_a_line(session, net, line, says):
    text = session.refusal(f"%nnsummary {line}")

    assert says in text
    assert text.startswith("%nnsummary: ")
