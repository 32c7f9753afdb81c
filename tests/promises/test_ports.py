"""Ports of known networks are set beside them, call by call, though the names are others."""

import ports
import ports_of_convolutions
import pytest
import torch

import nnmagic

PORTS = {
    function.__name__: function
    for function in (
        *(ports.gpt2, ports.vit_of_timm, ports.vit_of_torchvision, ports.bert, ports.llama),
        *(ports_of_convolutions.resnet, ports_of_convolutions.convnext),
        *(ports_of_convolutions.unet, ports_of_convolutions.tagger, ports_of_convolutions.whisper),
    )
}


def traces(name):
    torch.manual_seed(0)
    port = PORTS[name]()
    with torch.no_grad():
        return port, *(nnmagic.trace(net, *port.inputs) for net in (port.mine, port.library))


@pytest.mark.parametrize("name", PORTS)
def test_a_port_is_aligned_by_the_order_of_its_layers(name):
    port, mine, library = traces(name)

    comparison = mine.compare(library)

    found = {row.layer: row.other_layer for row in comparison}
    assert {layer: found[layer] for layer in port.layers} == port.layers
    assert comparison.first_divergence is None


def test_an_attention_that_is_one_layer_there_stands_beside_its_parts():
    _, mine, library = traces("vit_of_torchvision")

    found = {row.layer: row for row in mine.compare(library)}

    for i in range(2):
        attention = found[f"layers.{i}.attn"]
        assert attention.other_layer == f"encoder.layers.encoder_layer_{i}.self_attention"
        assert attention.verdict in ("equal", "within rounding")
        assert found[f"layers.{i}.attn.query"].verdict == "only here"


@pytest.mark.parametrize("name", PORTS)
def test_a_map_of_five_patterns_at_most_is_offered_and_aligns_the_port(name):
    port, mine, library = traces(name)
    by_order = mine.compare(library)

    rename = by_order.suggested_rename
    comparison = mine.compare(library, rename)

    assert 0 < len(rename) <= 5
    found = {row.layer: (row.other_layer, row.matched_by) for row in comparison}
    assert {layer: found[layer][0] for layer in port.layers} == port.layers
    assert [pair[:2] for pair in comparison.pairs] == [pair[:2] for pair in by_order.pairs]
    renamed = [layer for layer in port.layers if found[layer][1] == "rename"]
    assert len(renamed) >= len(port.layers) / 3


MAPS = {
    "gpt2": {
        "tok_emb": "wte",
        "blocks.*.ln*": "h.*.ln_*",
        "blocks.*.attn.qkv": "h.*.attn.c_attn",
        "blocks.*.mlp.0": "h.*.mlp.c_fc",
        "blocks.*": "h.*",
    },
    "vit_of_timm": {
        "layers.*.ln*": "blocks.*.norm*",
        "layers.*": "blocks.*",
        "patches": "patch_embed.proj",
    },
    "vit_of_torchvision": {"layers.*": "encoder.layers.encoder_layer_*", "final": "encoder.ln"},
}
"""What someone who wrote the port might type."""


@pytest.mark.parametrize("name", MAPS)
def test_a_map_that_says_a_part_leaves_the_rest_to_the_order(name):
    port, mine, library = traces(name)

    found = {row.layer: row.other_layer for row in mine.compare(library, MAPS[name])}

    assert {layer: found[layer] for layer in port.layers} == port.layers


@pytest.mark.parametrize("name", PORTS)
def test_a_fault_in_a_port_is_named(name):
    port, _, library = traces(name)
    layer = [*port.layers][len(port.layers) // 2]
    with torch.no_grad():
        for weight in port.mine.get_submodule(layer).parameters():
            weight.mul_(1.3).add_(0.1)
        comparison = nnmagic.trace(port.mine, *port.inputs).compare(library)

    assert comparison.first_divergence.layer == layer
    assert comparison.first_divergence.other_layer == port.layers[layer]
