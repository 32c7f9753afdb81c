"""More networks written by hand: convolutions, a recurrent layer, speech."""

from itertools import pairwise

import timm
import torch
import torchvision
import transformers
from ports import PreNormBlock, SelfAttention, copied
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    def __init__(self, channels, out, stride):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.c2, self.b2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.skip = None
        if stride > 1:
            conv = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.skip = nn.Sequential(conv, nn.BatchNorm2d(out))

    def forward(self, x):
        y = self.b2(self.c2(F.relu(self.b1(self.c1(x)))))
        return F.relu(y + (x if self.skip is None else self.skip(x)))


class ResNet(nn.Module):
    """Activations are functions, not layers."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64))
        sizes = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        self.stages = nn.ModuleList(
            nn.Sequential(Residual(*each), Residual(each[1], each[1], 1)) for each in sizes
        )
        self.head = nn.Linear(512, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, 1)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))


def resnet():
    library = torchvision.models.resnet18(num_classes=10)
    layers = {"stem.0": "conv1", "stem.1": "bn1", "head": "fc"}
    for i in range(4):
        for j in range(2):
            names = {"c1": "conv1", "b1": "bn1", "c2": "conv2", "b2": "bn2"}
            if i and not j:
                names |= {"skip.0": "downsample.0", "skip.1": "downsample.1"}
            layers |= {f"stages.{i}.{j}.{a}": f"layer{i + 1}.{j}.{b}" for a, b in names.items()}
    return copied(ResNet(), library, (torch.rand(2, 3, 64, 64),), layers)


class ConvBlock(nn.Module):
    """Channels last, as in the paper's own code."""

    def __init__(self, width):
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm, self.gamma = nn.LayerNorm(width, 1e-6), nn.Parameter(torch.ones(width))
        self.pwconv1, self.act = nn.Linear(width, 4 * width), nn.GELU()
        self.pwconv2 = nn.Linear(4 * width, width)

    def forward(self, x):
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(self.act(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class ChannelNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self, widths=(8, 16, 32, 64)):
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, 4), ChannelNorm(widths[0], 1e-6))
        down = [
            nn.Sequential(ChannelNorm(a, 1e-6), nn.Conv2d(a, b, 2, 2)) for a, b in pairwise(widths)
        ]
        self.downsample_layers = nn.ModuleList([stem, *down])
        self.stages = nn.ModuleList(nn.Sequential(ConvBlock(w), ConvBlock(w)) for w in widths)
        self.norm, self.head = ChannelNorm(widths[-1], 1e-6), nn.Linear(widths[-1], 10)

    def forward(self, x):
        for down, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(down(x))
        return self.head(self.norm(x.mean((2, 3), keepdim=True)).flatten(1))


def convnext():
    library = timm.models.ConvNeXt(depths=(2,) * 4, dims=(8, 16, 32, 64), num_classes=10)
    mine = ConvNeXt()
    layers = {"downsample_layers.0.0": "stem.0", "downsample_layers.0.1": "stem.1"}
    layers |= {"norm": "head.norm", "head": "head.fc"}
    for i in range(4):
        if i:
            layers |= {f"downsample_layers.{i}.{j}": f"stages.{i}.downsample.{j}" for j in (0, 1)}
        for j in range(2):
            names = {
                "dwconv": "conv_dw",
                "norm": "norm",
                "pwconv1": "mlp.fc1",
                "pwconv2": "mlp.fc2",
            }
            layers |= {
                f"stages.{i}.{j}.{a}": f"stages.{i}.blocks.{j}.{b}" for a, b in names.items()
            }
            mine.stages[i][j].gamma.data = library.stages[i].blocks[j].gamma.data
    return copied(mine, library, (torch.rand(2, 3, 64, 64),), layers)


def double(first, second):
    def half(a, b):
        return nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(inplace=True)

    return nn.Sequential(*half(first, second), *half(second, second))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.ModuleList([double(3, 8), double(8, 16), double(16, 32)])
        self.ups = nn.ModuleList([nn.ConvTranspose2d(b, b // 2, 2, 2) for b in (32, 16)])
        self.dec, self.last = nn.ModuleList([double(32, 16), double(16, 8)]), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        kept = []
        for i, level in enumerate(self.enc):
            x = level(F.max_pool2d(x, 2) if i else x)
            kept.append(x)
        for up, level, skip in zip(self.ups, self.dec, kept[1::-1], strict=True):
            x = level(torch.cat([skip, up(x)], 1))
        return self.last(x)


class DoubleConv(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.double_conv = double(first, second)

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(first, second))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.up, self.conv = nn.ConvTranspose2d(first, second, 2, 2), DoubleConv(first, second)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], 1))


class WidelyUsedUNet(nn.Module):
    """With the names of the implementation that most copy."""

    def __init__(self):
        super().__init__()
        self.inc, self.down1, self.down2 = DoubleConv(3, 8), Down(8, 16), Down(16, 32)
        self.up1, self.up2, self.outc = Up(32, 16), Up(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        first = self.inc(x)
        second = self.down1(first)
        return self.outc(self.up2(self.up1(self.down2(second), second), first))


def unet():
    layers = {"ups.0": "up1.up", "ups.1": "up2.up", "last": "outc"}
    blocks = {"enc.0": "inc", "dec.0": "up1.conv", "dec.1": "up2.conv"}
    blocks |= {f"enc.{i}": f"down{i}.maxpool_conv.1" for i in (1, 2)}
    for a, b in blocks.items():
        layers |= {f"{a}.{i}": f"{b}.double_conv.{i}" for i in (0, 1, 3, 4)}
    return copied(UNet(), WidelyUsedUNet(), (torch.rand(1, 3, 16, 16),), layers)


class Tagger(nn.Module):
    def __init__(self, names):
        super().__init__()
        self.names = names
        parts = nn.Embedding(50, 8), nn.LSTM(8, 12, 2, batch_first=True), nn.Linear(12, 5)
        for name, part in zip(names, parts, strict=True):
            self.add_module(name, part)

    def forward(self, ids):
        embed, recur, score = (getattr(self, name) for name in self.names)
        return score(recur(embed(ids))[0]).log_softmax(-1)


def tagger():
    names = ["emb", "rnn", "out"], ["word_embeddings", "lstm", "hidden2tag"]
    ids = torch.randint(50, (2, 7))
    return copied(*map(Tagger, names), (ids,), dict(zip(*names, strict=True)))


class Block(PreNormBlock):
    """A layer of Whisper, with the names of OpenAI's own code."""

    def __init__(self):
        nn.Module.__init__(self)
        self.attn, self.attn_ln = SelfAttention(32, 2, key_bias=False), nn.LayerNorm(32)
        self.mlp = nn.Sequential(nn.Linear(32, 48), nn.GELU(), nn.Linear(48, 32))
        self.mlp_ln = nn.LayerNorm(32)

    def forward(self, x):
        x = x + self.attn(self.attn_ln(x))
        return x + self.mlp(self.mlp_ln(x))


class AudioEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(16, 32, 3, padding=1), nn.Conv1d(32, 32, 3, 2, 1)
        self.blocks, self.ln_post = nn.ModuleList(Block() for _ in range(3)), nn.LayerNorm(32)
        self.register_buffer("positions", torch.zeros(10, 32))

    def forward(self, mel):
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.ln_post(x)


def whisper():
    config = transformers.WhisperConfig(
        d_model=32,
        encoder_layers=3,
        encoder_attention_heads=2,
        encoder_ffn_dim=48,
        num_mel_bins=16,
        max_source_positions=10,
    )
    library = transformers.models.whisper.modeling_whisper.WhisperEncoder(config)
    mine = AudioEncoder()
    mine.positions = library.embed_positions.weight.data
    layers = {"conv1": "conv1", "conv2": "conv2", "ln_post": "layer_norm"}
    for i in range(3):
        names = {f"attn.{a}": f"self_attn.{a[0]}_proj" for a in ("query", "key", "value")}
        names |= {"attn.out": "self_attn.out_proj", "attn_ln": "self_attn_layer_norm"}
        names |= {"mlp_ln": "final_layer_norm", "mlp.0": "fc1", "mlp.2": "fc2"}
        layers |= {f"blocks.{i}.{a}": f"layers.{i}.{b}" for a, b in names.items()}
    return copied(mine, library, (torch.rand(1, 16, 20),), layers)
