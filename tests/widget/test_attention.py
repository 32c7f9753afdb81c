import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nnmagic
from nnmagic.widget.widget import NetworkWidget


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Other(nn.Module):
    """Attends by what its name does not tell."""

    def __init__(self):
        super().__init__()
        self.attend = Attention()

    def forward(self, x):
        return self.attend(x)


@pytest.fixture
def panel_of(page):
    def panel_of(trace, key):
        page.set(page.show(NetworkWidget(trace)), selected=key)
        message, buffers = page.told("panel")[-1]
        return message["panel"], buffers

    return panel_of


def drawn(panel, buffers):
    ((figure,),) = panel["figures"]
    picture = figure["picture"]
    return np.frombuffer(buffers[picture["buffer"]], "<f4").reshape(picture["shape"])


def test_a_layer_and_the_function_that_it_calls_show_the_map(panel_of):
    net, x = nn.Sequential(Attention()), torch.randn(3, 5, 8)
    with nnmagic.tracing(net, ops=True) as trace:
        net(x)

    inside, buffers = panel_of(trace, "0.scaled_dot_product_attention()")
    around, _ = panel_of(trace, "0")

    ((figure,),) = inside["figures"]
    assert figure["title"] == "attention"
    assert figure["picture"]["kind"] == "heads"
    assert figure["picture"]["axes"] == ["head", "query", "key"]
    assert figure["picture"]["low"] == 0
    assert figure["picture"]["high"] == pytest.approx(drawn(inside, buffers).max())
    assert "worked out from q and k, item 1 of 3; mean entropy" in figure["caption"]
    np.testing.assert_allclose(drawn(inside, buffers).sum(-1), 1, rtol=1e-5)
    assert [each["title"] for each in around["figures"][0]] == [
        "attention of scaled_dot_product_attention()"
    ]


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_map_of_a_fused_layer_is_worked_out_from_what_it_got(panel_of, norm_first):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first).eval()
    net, x, mask = nn.Sequential(layer), torch.randn(3, 5, 8), torch.ones(5, 5).triu(1).bool()
    with torch.no_grad():
        trace = nnmagic.trace(net, x)
        masked = nnmagic.trace(layer, x, src_mask=mask)

    source = layer.norm1(x) if norm_first else x
    for each, key, extra in ((trace, "0", None), (masked, "", mask)):
        weights = layer.self_attn(
            source, source, source, attn_mask=extra, average_attn_weights=False
        )[1]
        np.testing.assert_allclose(
            drawn(*panel_of(each, key)), weights[0].detach().numpy(), rtol=1e-4
        )


class Around(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        x = x + 1
        return self.layer(x, x, x)[0]


def test_a_map_that_is_not_that_of_the_run_is_refused_in_words(panel_of):
    layer = nn.MultiheadAttention(8, 2, batch_first=True, dropout=0.5)
    x = torch.randn(3, 5, 8)
    dropped = nnmagic.trace(layer, x, x, x)
    layer.eval()
    hooked = nnmagic.trace(layer, x, x, x)
    trace = nnmagic.trace(layer, x, x, x)
    around = Around(layer)
    large = nnmagic.trace(around, torch.randn(3, 5000, 8))

    assert drawn(*panel_of(trace, "")).shape == (2, 5, 5)
    handle = layer.out_proj.register_forward_hook(lambda *call: None)
    reasons = [panel_of(hooked, "")[0]["notes"][-1]]
    handle.remove()
    layer.in_proj_weight.data *= 2
    reasons += [panel_of(each, "")[0]["notes"][-1] for each in (dropped, trace)]
    reasons.append(panel_of(large, "layer")[0]["notes"][-1])

    assert all(reason.startswith("no attention maps: ") for reason in reasons)
    assert all("--ops" in reason for reason in reasons)
    assert "hooks" in reasons[0]
    assert "its dropout of 0.5 is another in each run" in reasons[1]
    assert "another output" in reasons[2]
    assert "only a sample was kept" in reasons[3]


class OwnForward(nn.MultiheadAttention):
    def forward(self, *args, **kwargs):
        CALLED.append(self)
        return super().forward(*args, **kwargs)


class OwnLayer(nn.TransformerEncoderLayer):
    def forward(self, *args, **kwargs):
        CALLED.append(self)
        return super().forward(*args, **kwargs)


class OwnInit(nn.MultiheadAttention):
    def __init__(self):
        super().__init__(8, 2, batch_first=True)


class Scaled(nn.Module):
    """A parametrization."""

    def forward(self, weight):
        return weight * 2


CALLED = []


def parametrized():
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    nn.utils.parametrize.register_parametrization(layer.out_proj, "weight", Scaled())
    return layer


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: OwnForward(8, 2, batch_first=True), "OwnForward"),
        (lambda: OwnLayer(8, 2, 16, batch_first=True), "OwnLayer"),
        (parametrized, "Scaled"),
    ],
)
def test_a_forward_of_the_users_own_is_not_run_for_a_map(panel_of, make, named):
    layer, x = make().eval(), torch.randn(3, 5, 8)
    with torch.no_grad():
        trace = nnmagic.trace(layer, *[x] * (1 if named == "OwnLayer" else 3))
    CALLED.clear()

    panel, _ = panel_of(trace, "")

    assert not CALLED
    assert not panel["figures"]
    assert panel["notes"] == [
        f"no attention maps: {named} has a forward of its own, which is not run again; if it calls "
        "scaled_dot_product_attention, %nntrace --ops works them out during the run"
    ]


def test_a_forward_that_an_instance_has_of_its_own_is_not_passed_over(panel_of):
    layer, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(3, 5, 8)
    layer.forward = lambda *args: nn.MultiheadAttention.forward(layer, *args)
    trace = nnmagic.trace(layer, x, x, x)

    assert "has a forward of its own" in panel_of(trace, "")[0]["notes"][-1]


def test_a_subclass_with_an_init_alone_has_its_map(panel_of):
    layer, x = OwnInit(), torch.randn(3, 5, 8)

    panel, buffers = panel_of(nnmagic.trace(layer, x, x, x), "")

    weights = layer(x, x, x, average_attn_weights=False)[1]
    np.testing.assert_allclose(drawn(panel, buffers), weights[0].detach().numpy(), rtol=1e-4)


def test_a_reason_is_never_the_bare_class_of_an_exception(panel_of, monkeypatch):
    layer, x = OwnInit(), torch.randn(3, 5, 8)
    trace = nnmagic.trace(layer, x, x, x)
    monkeypatch.setattr("nnmagic.widget.attention.own_run", lambda layer: 1 / 0)
    with_text = panel_of(trace, "")[0]["notes"][-1]

    def without_text(layer):
        raise AssertionError

    monkeypatch.setattr("nnmagic.widget.attention.own_run", without_text)
    reason = panel_of(trace, "")[0]["notes"][-1]

    assert "failed: ZeroDivisionError: division by zero; %nntrace" in with_text
    assert "failed: AssertionError, which says no more; %nntrace" in reason


def test_a_trace_without_ops_says_how_to_get_the_maps(panel_of):
    net = Other()
    trace = nnmagic.trace(net, torch.randn(3, 5, 8))

    attending, around, linear = (panel_of(trace, key)[0] for key in ("attend", "", "attend.qkv"))

    assert "attention maps: %nntrace --ops works them out during the run" in attending["notes"]
    assert "--ops" not in " ".join([*around["notes"], *linear["notes"]])
    del net
    gone = panel_of(nnmagic.trace(Other(), torch.randn(3, 5, 8)), "attend")[0]
    assert gone["notes"][-1].startswith("attention maps: if it calls scaled_dot_product_attention")
