"""Networks that each take an input of another kind, or declare one."""

from types import SimpleNamespace

import torch
from torch import nn


class LeNet(nn.Module):
    """Fits pictures of one size: 32 gives 16 maps of 5 × 5."""

    def __init__(self, channels=1, side=5):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc = nn.Linear(16 * side * side, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv1(x), 2)
        x = nn.functional.max_pool2d(self.conv2(x), 2)
        return self.fc(x.flatten(1))


class Viewing(LeNet):
    """Takes what is left of a picture that is too large for more items, as `view` does."""

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv1(x), 2)
        x = nn.functional.max_pool2d(self.conv2(x), 2)
        return self.fc(x.view(-1, self.fc.in_features))


class Patches(nn.Module):
    """Has a position for each of 25 × 25 patches, so that it fits 200 × 200 only."""

    def __init__(self):
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 3)
        self.position = nn.Parameter(torch.zeros(1, 625, 16))

    def forward(self, x):
        return self.head((self.patch(x).flatten(2).transpose(1, 2) + self.position).mean(1))


class ByName(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 2)

    def forward(self, *, x, reverse: bool):
        return self.fc(-x if reverse else x)


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.EmbeddingBag(50, 8)

    def forward(self, text, offsets):
        return self.words(text, offsets)


class Graph(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(7, 4)

    def forward(self, x, edge_index):
        h = self.fc(x)
        return torch.zeros_like(h).index_add(0, edge_index[1], h[edge_index[0]])


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.rnn = nn.Embedding(30, 8), nn.LSTM(8, 4, batch_first=True)

    def forward(self, x, lengths):
        pack = nn.utils.rnn.pack_padded_sequence
        return self.rnn(pack(self.words(x), lengths, batch_first=True))[1][0]


class WordModel(nn.Module):
    """Takes a state beside its ids, whose batch is their second axis."""

    def __init__(self):
        super().__init__()
        self.words, self.rnn = nn.Embedding(30, 8), nn.LSTM(8, 4, num_layers=2)

    def forward(self, input, hidden):
        return self.rnn(self.words(input), hidden)


class PictureAndText(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.conv = nn.Embedding(40, 8), nn.Conv2d(3, 8, 3)

    def forward(self, image, text):
        return self.conv(image).mean((2, 3)) + self.words(text).mean(1)


class Pictures(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, images: list[torch.Tensor]):
        return [self.conv(image) for image in images]


class ShortText(nn.Module):
    """Takes at most 8 ids, as it has no more positions."""

    def __init__(self):
        super().__init__()
        self.words, self.positions = nn.Embedding(65, 8), nn.Embedding(8, 8)

    def forward(self, ids):
        assert ids.shape[1] <= 8, "the text is too long"
        return self.words(ids) + self.positions(torch.arange(ids.shape[1]))


class Captioned(nn.Module):
    """Names its main input and its sizes as a network of transformers does."""

    main_input_name = "pixel_values"

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(
            text_config=SimpleNamespace(vocab_size=70, eos_token_id=60),
            vision_config=SimpleNamespace(image_size=24, num_channels=4),
        )
        self.words, self.patch = nn.Embedding(70, 8), nn.Conv2d(4, 8, 8, 8)
        self.position = nn.Parameter(torch.zeros(9, 8))

    def forward(self, input_ids=None, pixel_values=None, attention_mask=None):
        patches = self.patch(pixel_values).flatten(2).transpose(1, 2) + self.position
        return patches.mean(1) + self.words(input_ids).mean(1)


class Table(nn.Module):
    """Has fewer rows than its embedding has ids, which shapes alone do not tell."""

    def __init__(self, **declared):
        super().__init__()
        self.words = nn.Embedding(5, 3)
        self.register_buffer("rows", torch.rand(5, 3))
        for name, value in declared.items():
            setattr(self, name, value)

    def forward(self, ids):
        if not ids.is_meta:
            RAN.append(tuple(ids.shape))
        return self.rows[ids]


RAN = []


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(50, 8), nn.GRU(8, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, ids):
        return self.head(self.rnn(self.embedding(ids))[0][:, -1])


class Timed(nn.Module):
    """Takes a picture and a time step, as a diffusion network does."""

    def __init__(self):
        super().__init__()
        self.conv, self.steps = nn.Conv2d(3, 4, 3), nn.Embedding(100, 4)

    def forward(self, x, t):
        return self.conv(x) + self.steps(t)[:, :, None, None]


class Reading(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        return self.fc(x) if x.mean() > 0 else self.fc(-x)


class Declaring(nn.Module):
    def __init__(self, **declared):
        super().__init__()
        self.fc = nn.Linear(6, 2)
        for name, value in declared.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.fc(x)
