"""Ten networks written by hand, each with the library's own under other names and the same weights.

Each function returns a `Port`. `layers` names every layer with parameters that is one on both
sides; what one side fuses (q, k and v in one matrix) has no partner.
"""

from typing import Any, NamedTuple

import timm
import torch
import torchvision
import transformers
from torch import nn
from torch.nn import functional as F


class Port(NamedTuple):
    """A network written anew, and the one that it is a port of."""

    mine: nn.Module
    library: nn.Module
    inputs: tuple[Any, ...]
    layers: dict[str, str]


def copied(mine, library, inputs, layers, fused=()):
    """Return a port, the library's weights copied into it.

    `fused` has triples: one layer on this side, a parameter prefix of the library, the rows of it.
    """
    found, source = dict(mine.named_modules()), dict(library.named_modules())
    with torch.no_grad():
        for name, other in layers.items():
            theirs = source[other].state_dict()
            for key, value in found[name].state_dict().items():
                new = theirs[key]
                turned = type(source[other]).__name__ == "Conv1D" and new.ndim == 2
                value.copy_((new.T if turned else new).reshape(value.shape))
        for name, values in fused:
            found[name].load_state_dict(values)
    return Port(mine.eval(), library.eval(), inputs, layers)


def rows(layer, part, parts=3):
    """Return the state dict of one of several layers that a library keeps in one."""
    return {key: value.chunk(parts)[part] for key, value in layer.state_dict().items()}


def attend(q, k, v, heads, *, causal=False):
    """Return attention of (batch, time, width) tensors, heads apart."""
    q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return out.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """q, k, v and an output, each a layer."""

    def __init__(self, width, heads, *, causal=False, key_bias=True):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=key_bias)

    def forward(self, x):
        q, k, v = self.query(x), self.key(x), self.value(x)
        return self.out(attend(q, k, v, self.heads, causal=self.causal))


class FusedAttention(nn.Module):
    """q, k and v in one layer."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = (
            heads,
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )

    def forward(self, x):
        return self.proj(attend(*self.qkv(x).chunk(3, -1), self.heads, causal=True))


class PreNormBlock(nn.Module):
    """A transformer layer as most write it today."""

    def __init__(self, width, attention, activation, eps=1e-5):
        super().__init__()
        self.ln1, self.attn = nn.LayerNorm(width, eps), attention
        self.ln2 = nn.LayerNorm(width, eps)
        self.mlp = nn.Sequential(nn.Linear(width, 48), activation, nn.Linear(48, width))

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok_emb, self.pos_emb = nn.Embedding(64, 32), nn.Embedding(16, 32)
        blocks = [PreNormBlock(32, FusedAttention(32, 2), nn.GELU("tanh")) for _ in range(3)]
        self.blocks, self.ln = nn.Sequential(*blocks), nn.LayerNorm(32)

    def forward(self, ids):
        x = self.tok_emb(ids) + self.pos_emb(torch.arange(ids.shape[1]))
        return self.ln(self.blocks(x))


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=64, n_positions=16, n_embd=32, n_layer=3, n_head=2, n_inner=48
    )
    layers = {"tok_emb": "wte", "pos_emb": "wpe", "ln": "ln_f"}
    for i in range(3):
        names = {"ln1": "ln_1", "attn.qkv": "attn.c_attn", "attn.proj": "attn.c_proj"}
        names |= {"ln2": "ln_2", "mlp.0": "mlp.c_fc", "mlp.2": "mlp.c_proj"}
        layers |= {f"blocks.{i}.{a}": f"h.{i}.{b}" for a, b in names.items()}
    return copied(GPT(), transformers.GPT2Model(config), (torch.arange(10)[None],), layers)


class ViT(nn.Module):
    def __init__(self, *, layers=2, eps=1e-6, norm="norm"):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.cls, self.positions = (nn.Parameter(torch.zeros(1, n, 32)) for n in (1, 17))
        self.layers = nn.ModuleList(
            PreNormBlock(32, SelfAttention(32, 2), nn.GELU(), eps) for _ in range(layers)
        )
        self.final, self.classifier = nn.LayerNorm(32, eps), nn.Linear(32, 10)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.classifier(self.final(x)[:, 0])


def vit_of_timm():
    library = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, mlp_ratio=1.5, num_classes=10
    )
    mine = ViT()
    mine.cls.data, mine.positions.data = library.cls_token.data, library.pos_embed.data
    layers = {"patches": "patch_embed.proj", "final": "norm", "classifier": "head"}
    fused = []
    for i in range(2):
        names = {"ln1": "norm1", "attn.out": "attn.proj", "ln2": "norm2"}
        names |= {"mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
        layers |= {f"layers.{i}.{a}": f"blocks.{i}.{b}" for a, b in names.items()}
        for part, name in enumerate(("query", "key", "value")):
            fused.append((f"layers.{i}.attn.{name}", rows(library.blocks[i].attn.qkv, part)))
    return copied(mine, library, (torch.rand(2, 3, 32, 32),), layers, fused)


def vit_of_torchvision():
    library = torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 48, num_classes=10)
    nn.init.normal_(library.heads.head.weight)
    mine = ViT()
    mine.cls.data, mine.positions.data = (
        library.class_token.data,
        library.encoder.pos_embedding.data,
    )
    layers = {"patches": "conv_proj", "final": "encoder.ln", "classifier": "heads.head"}
    fused = []
    for i, block in enumerate(library.encoder.layers):
        names = {"ln1": "ln_1", "ln2": "ln_2", "mlp.0": "mlp.0", "mlp.2": "mlp.3"}
        other = f"encoder.layers.encoder_layer_{i}"
        layers |= {f"layers.{i}.{a}": f"{other}.{b}" for a, b in names.items()}
        attention = block.self_attention
        weights = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
        for name, weight, bias in zip(("query", "key", "value"), *weights, strict=True):
            fused.append((f"layers.{i}.attn.{name}", {"weight": weight, "bias": bias}))
        fused.append((f"layers.{i}.attn.out", attention.out_proj.state_dict()))
    return copied(mine, library, (torch.rand(2, 3, 32, 32),), layers, fused)


class PostNormBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attention, self.norm1 = SelfAttention(width, 2), nn.LayerNorm(width, 1e-12)
        self.up, self.act, self.down = nn.Linear(width, 48), nn.GELU(), nn.Linear(48, width)
        self.norm2 = nn.LayerNorm(width, 1e-12)

    def forward(self, x):
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.down(self.act(self.up(x))))


class BERT(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.positions = nn.Embedding(64, 32), nn.Embedding(16, 32)
        self.segments, self.norm = nn.Embedding(2, 32), nn.LayerNorm(32, 1e-12)
        self.layers = nn.ModuleList(PostNormBlock(32) for _ in range(3))
        self.pool = nn.Linear(32, 32)

    def forward(self, ids):
        x = self.words(ids) + self.positions(torch.arange(ids.shape[1])[None])
        x = self.norm(x + self.segments(torch.zeros_like(ids)))
        for layer in self.layers:
            x = layer(x)
        return x, self.pool(x[:, 0]).tanh()


def bert():
    config = transformers.BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=16,
    )
    layers = {
        f"{a}s": f"embeddings.{b}_embeddings"
        for a, b in (("word", "word"), ("position", "position"), ("segment", "token_type"))
    }
    layers |= {"norm": "embeddings.LayerNorm", "pool": "pooler.dense"}
    for i in range(3):
        names = {f"attention.{a}": f"attention.self.{a}" for a in ("query", "key", "value")}
        names |= {"attention.out": "attention.output.dense", "up": "intermediate.dense"}
        names |= {"norm1": "attention.output.LayerNorm", "down": "output.dense"}
        names |= {"norm2": "output.LayerNorm"}
        layers |= {f"layers.{i}.{a}": f"encoder.layer.{i}.{b}" for a, b in names.items()}
    return copied(BERT(), transformers.BertModel(config), (torch.arange(10)[None],), layers)


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class GroupedAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.wq, self.wo = (nn.Linear(32, 32, bias=False) for _ in "qo")
        self.wk, self.wv = (nn.Linear(32, 16, bias=False) for _ in "kv")

    def forward(self, x):
        q, k, v = self.wq(x), self.wk(x), self.wv(x)
        q, k, v = (each.unflatten(-1, (-1, 8)).transpose(1, 2) for each in (q, k, v))
        angles = torch.arange(x.shape[1])[:, None] / 10000 ** (torch.arange(0, 8, 2) / 8)
        angles = torch.cat([angles, angles], -1)

        def turned(y):
            first, second = y.chunk(2, -1)
            return y * angles.cos() + torch.cat([-second, first], -1) * angles.sin()

        k, v = (each.repeat_interleave(2, 1) for each in (turned(k), v))
        out = F.scaled_dot_product_attention(turned(q), k, v, is_causal=True)
        return self.wo(out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1, self.w3 = (nn.Linear(32, 48, bias=False) for _ in "13")
        self.w2 = nn.Linear(48, 32, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class LlamaBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm, self.ffn_norm = RMSNorm(32), RMSNorm(32)
        self.attention, self.feed_forward = GroupedAttention(), FeedForward()

    def forward(self, x):
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class Llama(nn.Module):
    """With the names of Meta's own code."""

    def __init__(self):
        super().__init__()
        self.tok_embeddings = nn.Embedding(64, 32)
        self.layers = nn.ModuleList(LlamaBlock() for _ in range(3))
        self.norm, self.output = RMSNorm(32), nn.Linear(32, 64, bias=False)

    def forward(self, ids):
        x = self.tok_embeddings(ids)
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))


def llama():
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
    )
    layers = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}
    for i in range(3):
        names = {f"attention.w{a}": f"self_attn.{a}_proj" for a in "qkvo"}
        names |= {"attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
        names |= {
            f"feed_forward.w{a}": f"mlp.{b}_proj"
            for a, b in (("1", "gate"), ("2", "down"), ("3", "up"))
        }
        layers |= {f"layers.{i}.{a}": f"model.layers.{i}.{b}" for a, b in names.items()}
    library = transformers.LlamaForCausalLM(config)
    return copied(Llama(), library, (torch.arange(10)[None],), layers)
