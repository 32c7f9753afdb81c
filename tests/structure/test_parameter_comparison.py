"""Parameters of two sides, held against torch itself."""

import copy
import json
import math
import os
import pickle

import pytest
import safetensors.torch
import torch
from torch import nn

import nnmagic
from nnmagic.display.table import State


class Tied(nn.Module):
    """An embedding whose weight is the head's, a batch norm, and a buffer that is not saved."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(50, 8)
        self.body = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 8))
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.emb.weight
        self.register_buffer("cache", torch.zeros(3), persistent=False)


def network():
    torch.manual_seed(0)
    return Tied()


def changed(amount=0.4):
    other = network()
    with torch.no_grad():
        other.body[0].weight[3, 4] += amount
    return other


def verdicts(comparison):
    frame = comparison.to_frame()
    return dict(zip(frame.name, frame.verdict, strict=True))


def relative(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def differing_state():
    """A state dict that lacks, adds, reshapes and changes one tensor each."""
    state = changed().state_dict()
    del state["body.1.weight"]
    state["new.weight"] = torch.ones(3)
    state["body.2.bias"] = torch.ones(9)
    return state


DIFFERING = {
    "body.1.weight": "unexpected",
    "new.weight": "missing",
    "body.2.bias": "other shape",
    "body.0.weight": "changed",
}


def written(folder):
    """Write the same tensors in every way in which files hold them."""
    state = differing_state()
    del state["head.weight"]  # safetensors refuses shared tensors
    torch.save(state, folder / "new.pt")
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": state}, folder / "nested.ckpt")
    torch.save({"model": state, "optimizer": {"state": {0: torch.ones(2)}}}, folder / "model.bin")
    safetensors.torch.save_file(state, folder / "whole.safetensors")
    shards = folder / "shards"
    shards.mkdir()
    places = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(state)}
    for place in set(places.values()):
        part = {name: state[name] for name in state if places[name] == place}
        safetensors.torch.save_file(part, shards / place)
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return {
        "state": state,
        **{name: folder / name for name in os.listdir(folder)},
        "index": shards / "model.safetensors.index.json",
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return written(tmp_path_factory.mktemp("sources"))


SOURCES = "state new.pt old.pth nested.ckpt model.bin whole.safetensors shards index"


@pytest.mark.parametrize("source", SOURCES.split())
def test_every_kind_of_file_gives_what_its_tensors_say(sources, source):
    net = network()

    comparison = nnmagic.compare(net, sources[source])

    found = verdicts(comparison)
    assert {name: found[name] for name in DIFFERING} == DIFFERING
    assert {found[name] for name in found.keys() - DIFFERING.keys()} == {"equal"}
    expected = {*net.state_dict(), "new.weight"} - {"head.weight"}  # tied: it counts once
    assert set(found) == expected
    row = comparison["body.0.weight"]
    mine, other = net.body[0].weight, changed().body[0].weight
    assert row.error == pytest.approx(relative(mine, other), rel=1e-12)
    assert row.max_abs == pytest.approx((mine - other).abs().max().item(), rel=1e-6)
    assert row.max_at == (3, 4)
    cosine = nn.functional.cosine_similarity(mine.double().ravel(), other.double().ravel(), dim=0)
    assert row.cosine == pytest.approx(cosine.item(), rel=1e-12)
    assert comparison["head.weight"] is comparison["emb.weight"]
    assert comparison.counts == {
        "missing": 1, "unexpected": 1, "other shape": 1, "changed": 1, "equal": len(expected) - 4
    }  # fmt: skip
    assert "1 changed (most in body.0.weight, by 0.17)" in comparison.heading


def test_a_checkpoint_says_what_of_it_was_compared(sources):
    assert "['state_dict']" in str(nnmagic.compare(network(), sources["nested.ckpt"]))
    assert "['model']" in str(nnmagic.compare(network(), sources["model.bin"]))


def test_missing_and_unexpected_are_those_of_load_state_dict():
    net, state = network(), differing_state()
    del state["body.2.bias"]

    found = verdicts(nnmagic.compare(net, state))

    keys = net.load_state_dict(state, strict=False)
    assert [name for name in found if found[name] == "missing"] == keys.unexpected_keys
    assert [name for name in found if found[name] == "unexpected"] == keys.missing_keys


def test_equal_networks_are_equal():
    comparison = nnmagic.compare(network(), network())

    assert set(verdicts(comparison).values()) == {"equal"}
    assert comparison.first_difference is None
    comparison.raise_if_different()


def test_what_differs_is_named():
    comparison = nnmagic.compare(network(), differing_state())

    assert comparison.first_difference.name == "body.0.weight"
    with pytest.raises(AssertionError) as raised:
        comparison.raise_if_different()
    parts = ("missing: new.weight", "unexpected: body.1.weight", "changed: body.0.weight by 0.17")
    for part in (*parts, "body.2.bias (8,) against (9,)"):
        assert part in str(raised.value)


PREFIXES = {"module.": nn.DataParallel, "_orig_mod.": torch.compile}


@pytest.mark.parametrize("prefix", [*PREFIXES, "model.", "base_model.model."])
def test_a_prefix_by_which_all_names_miss_is_told_with_what_to_type(prefix):
    net = network()
    state = {prefix + name: each for name, each in net.state_dict().items()}
    if prefix in PREFIXES:
        assert set(state) == set(PREFIXES[prefix](net).state_dict())

    missed, turned = nnmagic.compare(net, state), nnmagic.compare(state, net)

    assert set(verdicts(missed).values()) == {"missing", "unexpected"}
    assert f'rename={{"*": "{prefix}*"}}' in missed.notes[0]
    assert f'rename={{"{prefix}*": "*"}}' in turned.notes[0]
    renamed = nnmagic.compare(net, state, rename={"*": f"{prefix}*"})
    assert set(verdicts(renamed).values()) == {"equal"}
    assert renamed["emb.weight"].other_name == f"{prefix}emb.weight"
    assert set(verdicts(nnmagic.compare(state, net, {f"{prefix}*": "*"})).values()) == {"equal"}


def test_weights_that_only_one_side_ties_are_held_against_each_other():
    net, state = network(), {k: v.clone() for k, v in network().state_dict().items()}
    state["head.weight"][0, 0] += 1

    found = verdicts(nnmagic.compare(net, state))

    assert found["emb.weight"] == "equal"
    assert found["head.weight"] == "changed"


NAN = float("nan")


@pytest.mark.parametrize(
    ("a", "b", "verdict", "error", "max_abs"),
    [
        (torch.tensor(2.5), torch.tensor(2.5), "equal", 0, 0),
        (torch.tensor([3.0]), torch.tensor([2.0]), "changed", 0.5, 1),
        (torch.empty(0, 3), torch.empty(0, 3), "equal", 0, 0),
        (torch.empty(0, 3), torch.empty(3, 0), "other shape", None, None),
        (torch.tensor([NAN, 1.0]), torch.tensor([NAN, 1.0]), "equal", 0, 0),
        (torch.tensor([NAN, 1.0]), torch.tensor([2.0, 1.0]), "changed", math.inf, math.inf),
        (torch.tensor([math.inf]), torch.tensor([math.inf]), "equal", 0, 0),
        (torch.tensor([math.inf]), torch.tensor([-math.inf]), "changed", math.inf, math.inf),
        (torch.tensor([0.0, -0.0]), torch.tensor([-0.0, 0.0]), "equal", 0, 0),
        (torch.tensor([1.0]), torch.tensor([0.0]), "changed", math.inf, 1),
        (torch.tensor([2**62 + 1]), torch.tensor([2**62]), "changed", 2.0**-62, 1),
        (torch.tensor([-(2**63)]), torch.tensor([2**63 - 1]), "changed", 2, 2.0**64),
        (torch.tensor([True]), torch.tensor([False]), "changed", math.inf, 1),
        (torch.tensor([3 + 4j]), torch.tensor([3 - 4j]), "changed", 1.6, 8),
        (torch.tensor([3e200], dtype=torch.float64), torch.tensor([1e200], dtype=torch.float64),
         "changed", 2, 2e200),
        (torch.tensor([3e-200], dtype=torch.float64), torch.tensor([1e-200], dtype=torch.float64),
         "changed", 2, 2e-200),
        (torch.tensor([3.0]).to(torch.float8_e4m3fn), torch.tensor([2.0]).to(torch.float8_e4m3fn),
         "changed", 0.5, 1),
        (torch.tensor([2.0]).bfloat16(), torch.tensor([2.0]), "equal", 0, 0),
        (torch.quantize_per_tensor(torch.tensor([3.0]), 0.5, 0, torch.qint8),
         torch.quantize_per_tensor(torch.tensor([2.0]), 0.5, 0, torch.qint8), "changed", 0.5, 1),
        (torch.tensor([[0.0, 3.0]]).to_sparse(), torch.tensor([[0.0, 2.0]]), "changed", 0.5, 1),
        (torch.tensor([[1.0, 2.0], [3.0, 4.0]]).T, torch.tensor([[1.0, 3.0], [2.0, 4.0]]), "equal",
         0, 0),
        (torch.ones(1).expand(10**6), torch.ones(1).expand(10**6), "equal", 0, 0),
    ],
)  # fmt: skip
def test_values_of_every_kind(a, b, verdict, error, max_abs):
    row = nnmagic.compare({"w": a}, {"w": b})["w"]

    assert row.verdict == verdict
    assert row.error == (None if error is None else pytest.approx(error, rel=1e-12))
    assert row.max_abs == max_abs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64, torch.int16])
@pytest.mark.parametrize("turned", [False, True])
def test_large_tensors_are_compared_in_pieces_to_the_last_value(dtype, turned):
    generator = torch.Generator().manual_seed(0)
    a = (100 * torch.randn(3, 70_001, 2, generator=generator)).to(dtype)
    b = a.clone()
    b[2, 70_000, 1] += 7
    if turned:
        a, b = a.transpose(0, 1), b.transpose(0, 1)
    exact = torch.complex128 if dtype.is_complex else torch.float64

    row = nnmagic.compare({"w": a}, {"w": b})["w"]

    apart = (a.to(exact) - b.to(exact)).abs()
    assert row.max_at == ((70_000, 2, 1) if turned else (2, 70_000, 1))
    assert row.max_abs == apart.max().item()
    assert row.error == pytest.approx((apart.norm() / b.to(exact).norm()).item(), rel=1e-12)
    assert row.compared == a.numel()


def test_a_cast_is_told_from_another_change(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    net = network()
    half = copy.deepcopy(net).bfloat16()

    comparison = nnmagic.compare(net, half)

    rows = [row for row in comparison if row.verdict == "changed"]
    assert rows
    assert all(row.rounded and row.other_dtype == "bfloat16" for row in rows)
    assert comparison["body.1.weight"].verdict == "equal"  # all ones
    assert any("by rounding alone" in note for note in comparison.notes)
    assert "changed by rounding alone, float32 here, bfloat16 there" in str(comparison)
    assert not any(row.state & State.FLAGGED for row in comparison.table().rows)
    with torch.no_grad():
        half.emb.weight[0, 0] += 1
    assert not nnmagic.compare(net, half)["emb.weight"].rounded


def test_what_has_no_values_is_compared_by_its_shape():
    with torch.device("meta"):
        on_meta = Tied()
    lazy = nn.Sequential(nn.LazyLinear(3))

    found = verdicts(nnmagic.compare(on_meta, differing_state()))
    row = nnmagic.compare(lazy, nn.Sequential(nn.Linear(2, 3)))["0.weight"]

    assert found["body.2.bias"] == "other shape"
    assert found["new.weight"] == "missing"
    assert found["body.0.weight"] == "not compared"
    assert row.verdict == "not compared"
    assert row.shape is None
    assert "not initialized" in row.unknown


def test_a_quantised_network_is_its_state_dict():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    quantised = torch.ao.quantization.quantize_dynamic(net, {nn.Linear})

    comparison = nnmagic.compare(quantised, copy.deepcopy(quantised).state_dict())

    assert "0._packed_params._packed_params.0" in verdicts(comparison)
    assert set(verdicts(comparison).values()) == {"equal"}


def test_a_record_is_compared_by_what_it_kept_and_says_so(tmp_path):
    net = nn.Sequential(nn.Linear(100, 100), nn.BatchNorm1d(100))
    record = nnmagic.params(copy.deepcopy(net))
    record.save(tmp_path / "params.safetensors")
    same = nnmagic.compare(net, record)
    with torch.no_grad():
        net[0].weight[50, 50] += 1  # no value that is kept
        net[0].bias[7] += 1

    for other in (record, tmp_path / "params.safetensors"):
        comparison = nnmagic.compare(net, other)
        found = verdicts(comparison)
        assert found == {
            "0.weight": "changed", "0.bias": "changed", "1.weight": "equal", "1.bias": "equal"
        }  # fmt: skip
        assert comparison["0.weight"].error is None  # the statistics alone tell
        assert comparison["0.bias"].max_at == (7,)
        assert any("kept values" in note and "10,000" in note for note in comparison.notes)
        assert any("buffers" in note for note in comparison.notes)
    assert set(verdicts(same).values()) == {"equal"}
    assert verdicts(nnmagic.params(net).compare(record)) == found
    assert verdicts(nnmagic.compare(record, net)) == found


def test_the_record_travels(tmp_path):
    comparison = nnmagic.compare(network(), differing_state())

    comparison.save(tmp_path / "compared.safetensors")

    assert nnmagic.load(tmp_path / "compared.safetensors") == comparison
    assert pickle.loads(pickle.dumps(comparison)) == comparison
    assert "<script>" not in nnmagic.compare({"<script>": torch.ones(1)}, {})._repr_html_()


def test_display_options_change_what_is_shown():
    comparison = nnmagic.compare(network(), differing_state())

    by_error = str(comparison.show(sort="error", top=1))
    assert "body.0.weight" in by_error
    assert "body.0.bias" not in by_error
    matching = str(comparison.show(layers="*.bias"))
    assert "body.2.bias" in matching
    assert "new.weight" not in matching
    assert "most at (3, 4)" in str(comparison.show(values=1))
    with pytest.raises(ValueError, match="error"):
        comparison.show(sort="nothing")


def test_neither_side_is_changed():
    net, state = network(), network().state_dict()
    before = {name: (each.clone(), each._version) for name, each in net.state_dict().items()}

    nnmagic.compare(net, state)

    for name, each in net.state_dict().items():
        assert torch.equal(each, before[name][0])
        assert each._version == before[name][1]
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("other", [3, None, [torch.ones(2)]])
def test_what_has_no_parameters_is_refused(other):
    with pytest.raises(TypeError, match="give a network"):
        nnmagic.compare(network(), other)
    with pytest.raises(TypeError, match="trace"):
        nnmagic.compare(nnmagic.trace(nn.Identity(), torch.ones(1)), network())


def test_files_of_traces_are_compared_as_runs(tmp_path):
    trace = nnmagic.trace(nn.Identity(), torch.ones(1))
    trace.save(tmp_path / "run.safetensors")

    comparison = nnmagic.compare(tmp_path / "run.safetensors", tmp_path / "run.safetensors")

    assert type(comparison) is nnmagic.Comparison
    with pytest.raises(TypeError, match="give two traces"):
        nnmagic.compare(tmp_path / "run.safetensors", network())


def test_the_display_says_what_missing_means_and_shows_no_difference_as_0():
    comparison = nnmagic.compare(nnmagic.params(network()), nnmagic.params(differing_state()))
    table = comparison.table()

    mine, other = comparison.titles
    assert table.notes[0] == (
        f"missing: in {other}, not in {mine}; unexpected: in {mine}, not in {other}"
    )
    line = next(line for line in str(comparison).splitlines() if "body.2.weight" in line)
    assert "0.000" not in line
    assert " 0 " in line
    assert "missing" not in " ".join(nnmagic.compare(network(), changed()).table().notes)
