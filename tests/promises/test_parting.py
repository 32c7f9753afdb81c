"""Where two runs part: at the layer with the fault, and nowhere where there is none."""

import copy

import pytest
import torch
from parting_corpus import FAULTS, IN_BFLOAT16, NETWORKS, made, own_error, planted

import nnmagic

LARGE = 20
"""A layer that errs by so many tolerances is named in each case."""

QUICK = {"regnet", "gpt2"}

CASES = [
    pytest.param(name, fault, marks=[] if name in QUICK else pytest.mark.slow)
    for name in NETWORKS
    for fault in FAULTS
    if (name, fault) != ("densenet", "missing_residual")  # it concatenates instead
]


@pytest.fixture(autouse=True)
def no_graph():
    with torch.no_grad():
        yield


def case(name, fault, **options):
    return planted(name, fault, seed=len(name) + len(fault), **options)


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_the_layer_with_a_fault_is_named(name, fault):
    net, args, kwargs, wrong, layer = case(name, fault)
    before = {key: value.clone() for key, value in net.state_dict().items()}

    comparison = nnmagic.against(wrong)(net, *args, **kwargs)

    row = comparison.first_divergence
    error = own_error(net, args, kwargs, wrong, layer)
    assert error > LARGE * row.tolerance, "the fault is too small for this test"
    assert row.layer == layer
    assert row.output_error == pytest.approx(error, rel=1e-3, abs=1e-7)
    assert layer in str(comparison.table().heading)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_it_is_named_in_bfloat16_too_where_each_layer_gets_the_same_input(name, fault):
    net, args, kwargs, wrong, layer = case(name, fault, **IN_BFLOAT16.get(fault, {}))

    comparison = nnmagic.against(wrong.bfloat16(), isolate=True)(net, *args, **kwargs)

    assert comparison.first_divergence.layer == layer
    assert comparison[layer].own_error > comparison[layer].tolerance


def channels_last(net, args, kwargs):
    return nnmagic.against(copy.deepcopy(net).to(memory_format=torch.channels_last))(
        net, *args, **kwargs
    )


def more_threads(net, args, kwargs):
    mine = nnmagic.trace(net, *args, **kwargs)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        return mine.compare(nnmagic.trace(net, *args, **kwargs))
    finally:
        torch.set_num_threads(threads)


def unfused(net, args, kwargs):
    mine = nnmagic.trace(net, *args, **kwargs)
    kernels = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with kernels:
            return mine.compare(nnmagic.trace(net, *args, **kwargs))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def without_onednn(net, args, kwargs):
    mine = nnmagic.trace(net, *args, **kwargs)
    with torch.backends.mkldnn.flags(enabled=False):
        return mine.compare(nnmagic.trace(net, *args, **kwargs))


def word(what, **options):
    def compared(net, args, kwargs):
        return nnmagic.against(what, **options)(net, *args, **kwargs)

    compared.__name__ = " ".join([what, *options])
    return compared


HARMLESS = (
    *(channels_last, more_threads, unfused, without_onednn),
    *map(word, ("float64", "bfloat16", "float16", "items", "eval")),
    word("bfloat16", isolate=True),
)


@pytest.mark.parametrize("how", HARMLESS, ids=lambda how: how.__name__)
@pytest.mark.parametrize(
    "name",
    [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in NETWORKS],
)
def test_a_harmless_difference_is_never_called_a_fault(name, how):
    comparison = how(*made(name))

    assert comparison.first_divergence is None
    assert set(comparison.to_frame().verdict) <= {"equal", "within rounding", "not compared"}
    comparison.raise_if_different()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vision transformer", "llama"])
def test_a_compiled_network_agrees_with_the_eager_one(name):
    net, args, kwargs = made(name)

    comparison = nnmagic.against("compiled")(net, *args, **kwargs)

    assert comparison.first_divergence is None
    assert len(comparison) == 1
    assert "only what it returns can be compared" in " ".join(comparison.notes)
