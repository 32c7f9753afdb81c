"""Networks on several ranks of gloo: the trace changes nothing, and tells what each rank has."""

import pytest
from ranks import run_ranks

import nnmagic

pytestmark = pytest.mark.slow

WAYS = "ddp", "fsdp", "tensor_parallel", "pipeline"


def told_of(programs, world, folder):
    names = [f"ranks_programs:{name}" for name in programs]
    found = run_ranks(names, world, folder, seconds=300)
    return {name.partition(":")[2]: told for name, told in found.items()}


@pytest.fixture(scope="module", params=[2, 4])
def told(request, tmp_path_factory):
    programs = *WAYS, "shards", "unused"  # after which a group is broken
    return told_of(programs, request.param, tmp_path_factory.mktemp("ranks"))


def check_same(ranks):
    for each in ranks:
        assert each.get("error") is None
        assert each["same"] == [True, True, True]


@pytest.mark.parametrize("name", WAYS)
def test_losses_and_parameters_are_to_the_bit_those_of_an_untraced_run(told, name):
    check_same(told[name])


def test_what_dtensors_do_not_see_is_not_done_to_those_of_attention_and_loss(tmp_path):
    for ranks in told_of(["fsdp_attention", "parallel_loss"], 2, tmp_path).values():
        check_same(ranks)


def test_a_trace_knows_its_rank(told):
    world = len(told["ddp"])

    assert [each["rank"] for each in told["ddp"]] == [*range(world)]
    assert {each["world_size"] for each in told["ddp"]} == {world}
    assert all(each["digests"] for name in ("ddp", "fsdp", "pipeline") for each in told[name])


def held(told, name, kind):
    """By name, what each rank holds of a kind: shape, global shape, placements, mesh, digest."""
    return [{each[1]: each[2:] for each in one["held"] if each[0] == kind} for one in told[name]]


def test_what_ddp_has_reduced_is_equal_on_all_ranks(told):
    gradients, parameters = held(told, "ddp", "gradient"), held(told, "ddp", "parameter")

    assert gradients[0].keys() == parameters[0].keys()
    assert all(each == gradients[0] for each in gradients)
    assert all(each == parameters[0] for each in parameters)
    assert parameters[0]["module.0.weight"][:4] == [[16, 8], None, None, None]


def test_shards_of_fsdp_have_their_place_and_both_shapes(told):
    world = len(told["fsdp"])
    for kind in ("parameter", "gradient"):
        found = [each["0.weight"] for each in held(told, "fsdp", kind)]

        assert [each[0] for each in found] == [[16 // world, 8]] * world
        assert [each[1:3] for each in found] == [[[16, 8], ["Shard(0)"]]] * world
        assert [each[3] for each in found] == [[[rank, world]] for rank in range(world)]
        assert len({each[4] for each in found}) == world


def test_parameters_that_fsdp_has_gathered_are_not_said_to_have_changed(told):
    assert [each["after a forward"] for each in told["fsdp"]] == [[]] * len(told["fsdp"])


def test_a_part_that_a_layer_returns_is_measured_where_it_is(told):
    world = len(told["tensor_parallel"])
    for each in told["tensor_parallel"]:
        layers = {layer: rest for layer, *rest in each["layers"]}

        assert layers["0"] == [[[6, 16 // world]], [["Shard(1)"]], [""]]
        assert layers["2"] == [[[6, 4]], [None], [""]]


def test_the_stages_of_a_pipeline_are_networks_of_their_own(told):
    found = [each["networks"] for each in told["pipeline"]]

    assert found == [[f"Sequential (stage {rank})"] for rank in range(len(found))]


def test_one_rank_alone_can_record_a_distributed_tensor(told):
    one, world = told["shards"][0], len(told["shards"])
    rows = -(-6 // world)

    assert one["shape"] == [rows, 2]
    assert one["global_shape"] == [6, 2]
    assert one["placements"] == ["Shard(0)"]
    assert one["mesh"] == [[0, world]]
    assert one["values"] == [[2.0 * i, 2.0 * i + 1] for i in range(rows)]
    assert one["caption"] == f"({rows}, 2) of (6, 2) float32, Shard(0)"
    assert one["params"]["shape"] == "(6, 2)"
    assert one["params"]["count"] == "12"
    assert f"({rows}, 2) here, Shard(0)" in one["text"]


def test_a_parameter_without_a_gradient_on_one_rank_is_known(told):
    *others, last = told["unused"]

    assert all("module.other.weight" in each["gradients"] for each in others)
    assert last["gradients"] == ["module.used.weight", "module.used.bias"]
    assert any(each["said"] for each in told["unused"])  # DDP itself, or gloo's patience
    trace = nnmagic.load([each["path"] for each in told["unused"]])
    missing = [each for each in trace.findings if each.rule == "no gradient on some ranks"]
    assert [(each.layer, each.rank) for each in missing][:1] == [("module.other", len(others))]
