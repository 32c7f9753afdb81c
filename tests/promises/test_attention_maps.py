"""Attention maps that are worked out, against those that the same network returns when asked."""

import copy

import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers
from torch import nn

import nnmagic

pytestmark = pytest.mark.slow

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = {"vocab_size": 64, "intermediate_size": 48, **SMALL}
CAUSAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **TEXT}
PICTURE = {"image_size": 32, "patch_size": 8, "intermediate_size": 48, **SMALL}
BOTH = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48}
BOTH |= {"decoder_ffn_dim": 48, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
SPECIAL = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

CONFIGS = {
    "BertModel": TEXT,
    "RobertaModel": CAUSAL,
    "DistilBertModel": {"vocab_size": 64, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    "GPT2Model": {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4},
    "LlamaModel": {**CAUSAL, "num_key_value_heads": 2},
    "Qwen2Model": {**CAUSAL, "num_key_value_heads": 2},
    "ViTModel": PICTURE,
    "CLIPVisionModel": PICTURE,
    "BartModel": {**BOTH, **SPECIAL},
    "WhisperModel": {**BOTH, **SPECIAL, "decoder_start_token_id": 1},
    "T5Model": {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2}
    | {"num_heads": 4},
}

WORDS = torch.arange(3 * 9).reshape(3, 9) % 60 + 3
PADDED = torch.ones(3, 9, dtype=torch.long).index_fill_(1, torch.tensor([7, 8]), 0)
PIXELS = {"pixel_values": torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)}


def inputs_of(name):
    if name in ("ViTModel", "CLIPVisionModel"):
        return PIXELS
    if name == "WhisperModel":
        heard = torch.linspace(-1, 1, 2 * 80 * 3000).reshape(2, 80, 3000)
        return {"input_features": heard, "decoder_input_ids": WORDS[:2]}
    if name in ("BartModel", "T5Model"):
        return {"input_ids": WORDS, "attention_mask": PADDED, "decoder_input_ids": WORDS[:, :5]}
    return {"input_ids": WORDS, "attention_mask": PADDED}


def maps_of(trace):
    """The maps in the order of the calls, as arrays, with the steps at which they were taken."""
    found = [trace.log.attention[call] for call in sorted(trace.log.attention)]
    return [(np.array(each.picture.sample.tolist()), each.picture.steps) for each in found]


def assert_equal(found, expected):
    assert len(found) == len(expected) > 0
    for (values, (_, *steps)), whole in zip(found, expected, strict=True):
        rows, columns = steps
        np.testing.assert_allclose(values, whole[:, ::rows, ::columns], atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_maps_are_those_of_eager_attention(name):
    kind = getattr(transformers, name)
    config = kind.config_class(**copy.deepcopy(CONFIGS[name]))
    network = kind._from_config(config, attn_implementation="sdpa").eval()
    eager = kind._from_config(copy.deepcopy(config), attn_implementation="eager").eval()
    eager.load_state_dict(network.state_dict())
    for parameter in eager.parameters():  # far from even shares
        parameter.data *= 2
    network.load_state_dict(eager.state_dict())
    inputs = inputs_of(name)

    with torch.no_grad(), nnmagic.tracing(network, ops=True) as trace:
        network(**inputs)

    with torch.no_grad():
        said = eager(**inputs, output_attentions=True)
    if "decoder_attentions" in said:
        decoder = zip(said.decoder_attentions, said.cross_attentions, strict=True)
        expected = [*said.encoder_attentions, *(each for both in decoder for each in both)]
    else:
        expected = said.attentions
    assert_equal(maps_of(trace), [each[0] for each in expected])


def weights_of(network, *inputs, **options):
    """The weights that each MultiheadAttention gives when it is asked for them."""
    found = []

    def ask(module, args, kwargs):
        return args, {**kwargs, "need_weights": True, "average_attn_weights": False}

    def note(module, args, output):
        found.append(output[1][0])

    for layer in network.modules():
        if isinstance(layer, nn.MultiheadAttention):
            layer.register_forward_pre_hook(ask, with_kwargs=True)
            layer.register_forward_hook(note)
    with torch.no_grad():
        network(*inputs, **options)
    return found


@pytest.mark.parametrize("fused", [False, True])
def test_the_maps_of_torchs_own_layers_are_the_weights_that_they_give(fused):
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 48, batch_first=True), 2)
    network = encoder.eval()
    x, padding = torch.randn(3, 9, 32), torch.zeros(3, 9, dtype=torch.bool)
    padding[:, 7:] = True
    expected = weights_of(copy.deepcopy(network), x, src_key_padding_mask=padding)

    with torch.set_grad_enabled(not fused), nnmagic.tracing(network, ops=True) as trace:
        network(x, src_key_padding_mask=padding)

    (whole, _), *_ = found = maps_of(trace)
    assert whole.shape == ((4, 7, 7) if fused else (4, 9, 9))  # fused, padding is cut off
    assert_equal([(values[:, :7, :7], steps) for values, steps in found], expected)


def test_the_maps_of_a_decoder_are_the_weights_that_it_gives():
    network = nn.TransformerDecoder(nn.TransformerDecoderLayer(32, 4, 48), 2).eval()
    x, memory = torch.randn(6, 3, 32), torch.randn(9, 3, 32)
    mask = nn.Transformer.generate_square_subsequent_mask(6)
    expected = weights_of(copy.deepcopy(network), x, memory, tgt_mask=mask, tgt_is_causal=True)

    with torch.no_grad(), nnmagic.tracing(network, ops=True) as trace:
        network(x, memory, tgt_mask=mask, tgt_is_causal=True)

    assert_equal(maps_of(trace), expected)


def test_the_maps_of_torchvisions_vit_are_the_weights_that_it_gives():
    network = torchvision.models.VisionTransformer(96, 8, 2, 4, 32, 48).eval()
    x = torch.randn(2, 3, 96, 96)
    expected = weights_of(copy.deepcopy(network), x)

    with torch.no_grad(), nnmagic.tracing(network, ops=True) as trace:
        network(x)

    assert maps_of(trace)[0][1] == (1, 2, 2)  # of 145 patches every second one
    assert_equal(maps_of(trace), expected)


def test_the_maps_of_timms_vit_are_what_its_softmax_gives():
    network = timm.create_model("test_vit").eval()
    eager, expected = copy.deepcopy(network), []
    for block in eager.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda *call: expected.append(call[2][0]))
    x = torch.randn(2, 3, 160, 160)

    with torch.no_grad(), nnmagic.tracing(network, ops=True) as trace:
        network(x)
        eager(x)

    assert_equal(maps_of(trace), expected)
