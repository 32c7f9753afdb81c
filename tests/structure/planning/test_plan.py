import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import TestCase

import pytest
import torch
from small_transformer import IDS, Transformer
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from nnmagic.network.naming import Naming
from nnmagic.structure.describe import describe, planned_only
from nnmagic.structure.plan_request import PlanError, PlanRequest
from nnmagic.structure.shape_run import MetaRequest

TESTS = Path(__file__).parent.parent.parent
PARTS = ("param_bytes", "grad_bytes", "optimizer_bytes", "buffer_bytes", "saved_bytes")


def plan(net, *args, optimizer="adam", own_input=False, lacking="", **sizes):
    request = MetaRequest(
        network=net,
        args=args,
        naming=Naming(),
        title="net",
        own_input=own_input,
        optimizer=optimizer,
        plan=PlanRequest(**sizes),
    )
    return (planned_only(request, lacking) if lacking else describe(request)).plan


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two ranks of gloo really hold: of each kind the larger one."""
    store = tmp_path_factory.mktemp("gloo") / "store"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}
    command = [sys.executable, str(TESTS / "rank_of_plan.py")]
    running = [
        subprocess.Popen(
            [*command, str(rank), str(store)], stdout=subprocess.PIPE, text=True, env=environment
        )
        for rank in range(2)
    ]
    try:
        found = [json.loads(each.communicate(timeout=120)[0]) for each in running]
    finally:
        for each in running:
            each.kill()
    first, second = found
    for cut in ("sharded", "parallel"):
        first[cut] = {part: max(first[cut][part], second[cut][part]) for part in PARTS}
    return first


@pytest.mark.slow
@pytest.mark.parametrize(("cut", "sizes"), [("sharded", {"fsdp": 2}), ("parallel", {"tp": 2})])
def test_a_plan_is_what_two_ranks_of_a_transformer_hold(ranks, cut, sizes):
    found = plan(Transformer(), IDS, **sizes)

    assert {part: getattr(found, part) for part in PARTS[:-1]} == {
        part: ranks[cut][part] for part in PARTS[:-1]
    }
    assert found.saved_bytes == pytest.approx(ranks[cut]["saved_bytes"], rel=0.05)


@pytest.mark.slow
def test_what_is_gathered_at_once_is_what_torchs_own_tracker_sees(ranks):
    net = Transformer()
    inside = sum(each.nbytes for each in net.blocks[0].parameters())
    outside = sum(each.nbytes for each in net.parameters()) - 3 * inside

    found = plan(net, IDS, fsdp=4)

    gradients = inside + outside  # which the tracker counts apart
    assert found.gathered_bytes - gradients == pytest.approx(ranks["gathered_bytes"], rel=0.05)
    assert found.gathered_bytes == 2 * outside + 3 * inside


@pytest.mark.slow
def test_a_network_that_is_cut_and_then_sharded_is_planned_as_torch_does_it(ranks):
    found = plan(Transformer(), IDS, fsdp=2, tp=2)

    assert found.param_bytes == ranks["cut_twice_bytes"]


def test_shards_are_padded_to_the_largest_and_gathered_whole():
    net = nn.Linear(4, 5)  # a weight of (5, 4), a bias of 5

    found = plan(net, torch.rand(3, 4), fsdp=3)

    shards = 4 * (2 * 4 + 2)  # two rows of five over three ranks
    whole = 4 * (5 * 4 + 5)
    assert (found.param_bytes, found.grad_bytes) == (shards, shards)
    assert found.optimizer_bytes == 2 * shards + 2 * 4  # and the steps of two parameters
    assert found.saved_bytes == 4 * 3 * 4  # the input
    assert found.gathered_bytes == 2 * whole  # the parameters, and their gradients
    assert found.total_bytes == 2 * shards + found.optimizer_bytes + 48 + 2 * whole


def test_a_frozen_parameter_has_neither_gradient_nor_state():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    net[0].requires_grad_(False)

    found = plan(net, torch.rand(2, 4), fsdp=2)

    assert (found.param_bytes, found.grad_bytes, found.optimizer_bytes) == (64, 32, 2 * 32 + 4)


def test_a_tied_parameter_is_held_once_and_cut_once():
    net = Transformer()
    net.head.weight = net.embed.weight

    tied, untied = plan(net, IDS, fsdp=2), plan(Transformer(), IDS, fsdp=2)

    assert untied.param_bytes - tied.param_bytes == 4 * 51 * 64


def test_a_network_in_another_dtype_takes_half_of_all_but_the_steps():
    full, half = (
        plan(Transformer(), IDS, fsdp=2, tp=2, dtype=dtype) for dtype in (None, torch.bfloat16)
    )

    parameters = len(list(Transformer().parameters()))
    assert (half.param_bytes, half.grad_bytes) == (full.param_bytes // 2, full.grad_bytes // 2)
    assert half.optimizer_bytes - 4 * parameters == (full.optimizer_bytes - 4 * parameters) // 2
    assert half.buffer_bytes == full.buffer_bytes // 2
    assert half.saved_bytes == pytest.approx(full.saved_bytes / 2, rel=0.1)  # ids stay int64


def test_without_an_optimizer_its_state_is_none_and_a_line_says_how_to_have_it():
    found = plan(Transformer(), IDS, fsdp=2, optimizer="")

    assert found.optimizer_bytes == 0
    assert "--optimizer adam" in " ".join(found.notes)


class Llama(nn.Module):
    """The feed-forward layers of a Llama, whose last one is registered second."""

    def __init__(self):
        super().__init__()
        self.w1 = nn.Linear(8, 32, bias=False)
        self.w2 = nn.Linear(32, 8, bias=False)
        self.w3 = nn.Linear(8, 32, bias=False)

    def forward(self, x):
        return self.w2(torch.nn.functional.silu(self.w1(x)) * self.w3(x))


class Packed(nn.Module):
    """An attention of two heads whose query, key and value are one layer's, as timm has it."""

    def __init__(self):
        super().__init__()
        self.num_heads = 2
        self.qkv = nn.Linear(8, 24)
        self.proj = nn.Linear(8, 8)

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, self.num_heads, 4).permute(2, 0, 3, 1, 4)
        x = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, length, -1))


class Grouped(nn.Module):
    """An attention of four heads with two of keys and values."""

    def __init__(self):
        super().__init__()
        self.heads, self.kv_heads = 4, 2
        self.q = nn.Linear(8, 8, bias=False)
        self.k, self.v = nn.Linear(8, 4, bias=False), nn.Linear(8, 4, bias=False)
        self.o = nn.Linear(8, 8, bias=False)

    def forward(self, x):
        q, k, v = (
            each(x).unflatten(-1, (-1, 2)).transpose(1, 2) for each in (self.q, self.k, self.v)
        )
        x = torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return self.o(x.transpose(1, 2).flatten(2))


class Residual(nn.Module):
    """Two layers with the whole input added between them, which cannot be cut."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.second(self.first(x) + x)


@pytest.mark.parametrize(
    ("make", "held"),
    [
        (Llama, 3 * 8 * 16),
        (Packed, 8 * 12 + 12 + 4 * 8 + 8),
        (Grouped, 2 * 8 * 4 + 2 * 8 * 2),
        (lambda: nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)), 8 * 3 + 3 + 3 * 3 + 3),
    ],
)
@pytest.mark.parametrize("lacking", ["", "no input found"])
def test_layers_are_cut_in_pairs_the_last_of_them_by_rows(make, held, lacking):
    net, x = make(), torch.rand(2, 5, 8)

    found = plan(net, x, tp=2, lacking=lacking)

    assert found.param_bytes == 4 * held
    assert (found.saved_bytes is None) == bool(lacking)


def test_what_cannot_be_cut_stays_whole_and_is_named():
    net = nn.Sequential(Residual(), Llama())

    with TestCase().assertNoLogs():  # torch logs what its fake tensors refuse
        found = plan(net, torch.rand(2, 8), tp=2)

    assert found.param_bytes == 4 * (2 * (8 * 8 + 8) + 3 * 8 * 16)
    assert any("Residual stays whole" in note for note in found.notes)
    assert any(
        "tp=2 cuts 3 layers" in note and "*.first.weight 256 B" in note for note in found.notes
    )


def test_the_networks_own_plan_comes_first():
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    net._tp_plan = {"2": "colwise_gather_output"}

    found = plan(net, torch.rand(5, 8), tp=2)

    assert found.param_bytes == 4 * (8 * 6 + 6 + 6 * 2 + 2)
    assert any("own _tp_plan" in note for note in found.notes)


def test_what_lacks_for_the_forward_is_a_line():
    found = plan(Transformer(), fsdp=2, lacking="no input found")

    assert (found.saved_bytes, found.total_bytes, found.fits(80)) == (None, None, None)
    assert found.fits(0.0001) is False
    assert "saved for backward unknown: no input found" in found.notes


def test_a_forward_that_fails_in_training_leaves_only_what_it_saves_unknown():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    found = plan(net, torch.rand(1, 4), own_input=True, fsdp=2)

    assert found.saved_bytes is None
    assert found.param_bytes == 4 * (2 * 4 + 2 + 2 + 2)
    assert any("fails in train mode in Sequential.1 (BatchNorm1d)" in note for note in found.notes)


class Reading(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return self.inner(x) if x.sum() > 0 else x


def test_code_that_reads_values_is_named_where_a_plan_has_none():
    found = plan(Reading(), torch.rand(2, 8), fsdp=2)

    assert (found.param_bytes, found.saved_bytes) == (4 * (4 * 8 + 4), None)
    assert any("x.sum() > 0" in note and "reads values" in note for note in found.notes)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return x * self.scale


def named(plan):
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    net._tp_plan = plan
    return net


def quantised():
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 8)), {nn.Linear})


@pytest.mark.parametrize(
    ("net", "sizes", "says"),
    [
        (Scaled(), {"fsdp": 2}, "fsdp=2 cannot cut scale, which has no axis"),
        (nn.LazyLinear(3), {"fsdp": 2}, "weight has no shape before the first run"),
        (nn.Linear(8, 8), {"tp": 2}, "no module has two Linear layers"),
        (Llama(), {"tp": 3}, "32 features"),
        (Packed(), {"tp": 4}, "2 num_heads"),
        (Residual(), {"tp": 2}, "tp=2 goes through no layer: "),
        (named({"0": "colwise"}), {"tp": 2}, "tp=2 does not go through Sequential.2 (Linear)"),
        (named({"0": "colwise"}), {"tp": 8}, "tp=8 cannot cut 0.weight, which is (6, 8)"),
        (named({"5": "colwise"}), {"tp": 2}, "names no layer"),
        (torch.jit.script(nn.Linear(8, 8)), {"fsdp": 2}, "a ScriptModule cannot be cut"),
        (quantised(), {"fsdp": 2}, "quantised layers hold packed weights"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_a_line(net, sizes, says):
    with pytest.raises(PlanError) as caught:
        plan(net, torch.rand(2, 5, 8), **sizes)

    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "styles", [{}, {"blocks.*.up": "colwise_gather_output", "head": "rowwise_split_input"}]
)
def test_nothing_of_the_network_or_the_session_is_changed(styles):
    net, state = Transformer(), torch.get_rng_state()
    net._tp_plan = styles
    before = {name: (id(each), each._version) for name, each in net.named_parameters()}
    attributes = [dict(vars(module)) for module in net.modules()]

    plan(net, IDS, fsdp=2, tp=2, dtype=torch.bfloat16)

    assert {n: (id(p), p._version) for n, p in net.named_parameters()} == before
    assert [dict(vars(module)) for module in net.modules()] == attributes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.distributed.is_initialized()


def test_a_process_group_of_the_users_own_stays(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        group = torch.distributed.group.WORLD

        plan(Transformer(), IDS, fsdp=8, tp=4)

        assert torch.distributed.group.WORLD is group
        assert torch.distributed.get_world_size() == 1
    finally:
        torch.distributed.destroy_process_group()


def test_a_network_that_is_sharded_already_is_refused(tmp_path):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        net = fully_shard(nn.Linear(4, 4), mesh=init_device_mesh("cpu", (1,)))

        with pytest.raises(PlanError, match="weight is cut over ranks already"):
            plan(net, torch.rand(2, 4), fsdp=2, lacking="not called")
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_405_billion_parameters_take_no_memory_to_plan():
    width, hidden, keys, blocks, vocabulary = 16384, 53248, 1024, 126, 128256
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=blocks,
        num_attention_heads=128,
        num_key_value_heads=8,
        vocab_size=vocabulary,
    )
    with torch.device("meta"):
        net = LlamaForCausalLM(config)
    ids = torch.zeros(1, 4096, dtype=torch.int64, device="meta")

    found = plan(net, ids, fsdp=8, tp=4, dtype=torch.bfloat16)

    cut = blocks * (2 * width * width + 2 * width * keys + 3 * width * hidden)
    cut += 2 * width * vocabulary
    whole = (2 * blocks + 1) * width
    parameters = len(list(net.parameters()))
    assert found.param_bytes == found.grad_bytes == 2 * (cut // 32 + whole // 8)
    assert found.optimizer_bytes == 2 * found.param_bytes + 4 * parameters
    assert found.saved_bytes > 126 * 2 * 4096 * width * 6  # six whole activations a block, at least
    assert found.fits(80) is False
