import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nnmagic


class Attending(nn.Module):
    """Calls the function with what it was made with."""

    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, **self.options)


def only_map(trace):
    (found,) = trace.log.attention.values()
    return found


def values_of(attention):
    return torch.tensor(attention.picture.sample.tolist())


PAIRS = torch.rand(2, 1, 5, 7) > 0.3
PAIRS[..., 0] = True


@pytest.mark.parametrize(
    ("options", "key_heads", "source"),
    [
        ({}, 4, "q and k"),
        ({"attn_mask": PAIRS}, 4, "q, k and mask"),
        ({"attn_mask": torch.randn(5, 7)}, 4, "q, k and mask"),
        ({"attn_mask": torch.randn(2, 4, 5, 7), "scale": 0.1}, 4, "q, k, mask and scale"),
        ({"is_causal": True}, 4, "q, k and is_causal"),
        ({"enable_gqa": True, "is_causal": True, "scale": 2.0}, 2, "q, k, is_causal and scale"),
    ],
)
def test_a_map_is_what_values_of_one_key_each_give(options, key_heads, source):
    q, k = torch.randn(2, 4, 5, 6), torch.randn(2, key_heads, 7, 6)
    v = torch.eye(7).expand(2, key_heads, 7, 7)

    with nnmagic.tracing(ops=True) as trace:
        weights = Attending(**options)(q, k, v)

    found = only_map(trace)
    torch.testing.assert_close(values_of(found), weights[0])
    assert (found.heads, found.queries, found.keys, found.items) == (4, 5, 7, 2)
    assert found.source == source


def test_entropy_and_the_largest_logit_are_of_all_queries_where_some_are_drawn():
    q, k = torch.randn(1, 2, 300, 6), torch.randn(1, 2, 300, 6)

    with nnmagic.tracing(ops=True) as trace:
        Attending()(q, k, k)

    logits = (q.double() @ k.double().mT)[0] / 6**0.5
    shares = torch.softmax(logits, -1)
    found = only_map(trace)
    assert found.picture.steps == (1, 3, 3)
    torch.testing.assert_close(values_of(found).double(), shares[:, ::3, ::3], rtol=1e-4, atol=1e-6)
    assert found.entropy == pytest.approx((-shares * shares.log()).sum(-1).mean(-1).tolist())
    assert found.largest_logit == pytest.approx(logits.amax((1, 2)).tolist())


SIZE = 1500
LOOKS = torch.rand(SIZE, SIZE) > 0.5
LOOKS[:, 0] = True
LOOKS[700] = False  # a query without keys
MASKS = {
    "nothing": {},
    "pairs": {"attn_mask": LOOKS},
    "pairs of each head": {"attn_mask": torch.randn(1, 3, SIZE, SIZE)},
    "keys alone": {"attn_mask": torch.randn(1, 1, 1, SIZE)},
    "the keys before": {"is_causal": True},
}


@pytest.mark.parametrize("name", MASKS)
def test_a_large_map_is_worked_out_in_blocks_and_its_numbers_are_of_all_queries(name, monkeypatch):
    options, most = MASKS[name], [0]
    q, k = torch.randn(1, 3, SIZE, 6) * 3, torch.randn(1, 3, SIZE, 6)
    softmax = torch.softmax
    with nnmagic.tracing(ops=True) as trace, monkeypatch.context() as patched:
        patched.setattr(
            torch, "softmax", lambda x, axis: (most.append(x.numel()), softmax(x, axis))[1]
        )
        Attending(**options)(q, k, k)

    logits, mask = (q.double() @ k.double().mT)[0] / 6**0.5, options.get("attn_mask")
    if options.get("is_causal"):
        mask = torch.ones(SIZE, SIZE).tril().bool()
    if mask is not None and mask.dtype is torch.bool:
        logits = logits.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        logits = logits + mask[0]
    shares = torch.softmax(logits, -1).nan_to_num(0)
    entropies = torch.special.entr(shares).sum(-1).sum(-1) / (shares.sum(-1) > 0).sum(-1)
    found = only_map(trace)
    assert found.picture.steps == (1, 12, 12)
    torch.testing.assert_close(
        values_of(found).double(), shares[:, ::12, ::12], rtol=1e-4, atol=1e-6
    )
    assert found.entropy == pytest.approx(entropies.tolist(), rel=1e-5)
    assert found.largest_logit == pytest.approx(logits.amax((1, 2)).tolist(), rel=1e-5)
    assert 0 < max(most) <= 1 << 20


def test_a_map_of_36_million_logits_has_its_numbers():
    q = torch.randn(1, 16, SIZE, 8)

    with nnmagic.tracing(ops=True) as trace, torch.no_grad():
        Attending()(q, q, q)

    logits = q[0, -1].double() @ q[0, -1].double().mT / 8**0.5
    found = only_map(trace)
    assert found.largest_logit[-1] == pytest.approx(float(logits.amax()), rel=1e-5)
    even = torch.special.entr(torch.softmax(logits, -1)).sum(-1).mean()
    assert found.entropy[-1] == pytest.approx(float(even), rel=1e-5)
    assert "no attention map" not in str(trace)


def test_a_query_of_nan_between_the_drawn_ones_is_seen():
    q, k = torch.randn(1, 2, 300, 6), torch.randn(1, 2, 300, 6)
    q[0, 1, 31, 2] = torch.nan

    with nnmagic.tracing(ops=True) as trace:
        Attending()(q, k, k)

    drawn = values_of(only_map(trace)).isnan()
    assert drawn[1, 31 // 3].all()
    assert drawn.sum() == drawn.shape[-1]


def test_a_query_without_keys_attends_to_nothing_and_has_no_entropy():
    q = torch.zeros(1, 1, 2, 4)
    mask = torch.tensor([[True, True], [False, False]])

    with nnmagic.tracing(ops=True) as trace:
        Attending(attn_mask=mask)(q, q, q)

    found = only_map(trace)
    assert values_of(found).tolist() == [[[0.5, 0.5], [0.0, 0.0]]]
    assert found.entropy == pytest.approx([torch.tensor(2.0).log().item()])


LAYERS = {
    "plain": {},
    "batch first": {"batch_first": True},
    "without biases": {"bias": False},
    "keys of its own": {"kdim": 6, "vdim": 5},
    "a key of its own": {"add_bias_kv": True, "add_zero_attn": True},
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_map_is_the_weights_that_it_gives(name):
    options = LAYERS[name]
    layer = nn.MultiheadAttention(8, 2, **options).eval()
    q, k = torch.randn(5, 3, 8), torch.randn(7, 3, options.get("kdim", 8))
    v = torch.randn(7, 3, options.get("vdim", 8))
    if options.get("batch_first"):
        q, k, v = (each.transpose(0, 1) for each in (q, k, v))
    masks = {"attn_mask": torch.randn(6, 5, 7), "key_padding_mask": torch.zeros(3, 7)}
    masks["key_padding_mask"][0, 2] = -torch.inf

    with nnmagic.tracing(ops=True) as trace:
        layer(q, k, v, need_weights=False, **masks)

    weights = layer(q, k, v, average_attn_weights=False, **masks)[1][0]
    torch.testing.assert_close(values_of(only_map(trace)), weights.detach())


def test_a_map_changes_nothing_draws_nothing_and_keeps_nothing_alive():
    net = Attending(dropout_p=0.5)
    q = torch.randn(2, 4, 5, 6, requires_grad=True)
    torch.manual_seed(1)
    plain = net(q, q, q)
    plain.sum().backward()
    grad, state, q.grad = q.grad, torch.get_rng_state(), None
    torch.manual_seed(1)

    with nnmagic.tracing(ops=True) as trace:
        seen = net(q, q, q)
    seen.sum().backward()

    assert seen.equal(plain)
    assert q.grad.equal(grad)
    assert torch.get_rng_state().equal(state)
    assert only_map(trace).dropout == 0.5
    alive = weakref.ref(q)
    del q, seen, plain
    gc.collect()
    assert alive() is None


def test_what_cannot_be_worked_out_is_left_out():
    large = torch.zeros(1, 2, 9000, 1)

    with nnmagic.tracing(ops=True) as trace, torch.no_grad():
        Attending()(large, large, large)
        Attending()(torch.zeros(0, 2, 3, 4), torch.zeros(0, 2, 3, 4), torch.zeros(0, 2, 3, 4))

    assert trace.log.attention == {}
    assert "no attention map of scaled_dot_product_attention(): 2 heads of 9,000 x" in str(trace)


def test_only_the_maps_of_the_last_iteration_are_kept():
    net, q = Attending(), torch.randn(1, 2, 3, 4)

    with nnmagic.tracing(ops=True) as trace:
        for _ in range(3):
            net(q, q, q)

    assert [trace.log.step[call] for call in trace.log.attention] == [2]
    assert trace.log.layer_of(next(iter(trace.log.attention))).name.startswith("scaled_dot")


def test_the_maps_of_the_last_recorded_iteration_stay_while_later_ones_are_passed_over():
    net, q = Attending(), torch.randn(1, 2, 3, 4)

    with nnmagic.tracing(ops=True, every=2) as trace:
        for _ in range(4):
            net(q, q, q)

    assert [trace.log.step[call] for call in trace.log.attention] == [2]


def test_without_ops_no_map_is_worked_out():
    q = torch.randn(1, 2, 3, 4)

    assert nnmagic.trace(Attending(), q, q, q).log.attention == {}


def test_maps_and_tensors_are_drawn_within_one_budget():
    attending = Attending()

    class Net(nn.Module):
        def forward(self, x):
            for _ in range(12):
                x = attending(x, x, x)
            return x

    with nnmagic.tracing(ops=True) as trace, torch.no_grad():
        for _ in range(2):
            Net()(torch.rand(1, 64, 128, 16))

    tensors = trace.log.tensors
    drawn = [tensors.samples_of(i).picture for i in range(len(tensors))]
    maps = [each.picture for each in trace.log.attention.values()]
    sizes = [
        sum(len(each.sample.data) for each in side if each is not None) for side in (drawn, maps)
    ]
    assert min(sizes) > 0
    assert None in maps
    assert (32 << 20) / 2 < sum(sizes) <= 32 << 20
