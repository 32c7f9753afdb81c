import pytest
import torch
from corpus.case import Net
from refusals import refusal, zeros
from torch import nn, rand

LAYERS = [
    (
        nn.Linear(784, 20),
        rand(1, 20),
        "got (1, 20), weight is (20, 784): the last axis must be 784, it is 20; "
        "make the layer with in_features=20",
    ),
    (
        nn.Linear(784, 20),
        rand(2, 1, 28, 28),
        "got (2, 1, 28, 28), weight is (20, 784): the last axis must be 784, it is 28; "
        "flatten the input with .flatten(1)",
    ),
    (
        nn.Linear(8, 2),
        rand(2, 8, 5),
        "got (2, 8, 5), weight is (2, 8): the last axis must be 8, it is 5; "
        "the features stand second to last, move them with .mT",
    ),
    (
        nn.Linear(3, 2),
        torch.tensor(1.0),
        "got a single number, weight is (2, 3): give it an axis, with .reshape(1)",
    ),
    (
        nn.Linear(3, 2),
        rand(1, 3).double(),
        "got float64, its parameters are float32: convert the input with .to(torch.float32)",
    ),
    (
        nn.Linear(3, 2).half(),
        rand(1, 3),
        "got float32, its parameters are float16: convert the input with .to(torch.float16)",
    ),
    (
        nn.Linear(3, 2),
        zeros(1, 3),
        "got int64, its parameters are float32: convert the input with .to(torch.float32)",
    ),
    (
        nn.Linear(3, 2, device="meta"),
        rand(1, 3),
        "got a tensor on cpu, its parameters are on meta: give it values, "
        ".to_empty(device='cpu') and a state dict",
    ),
    (
        nn.BatchNorm1d(3),
        torch.empty(2, 3, device="meta"),
        "got a tensor on meta, its parameters are on cpu: the input has no values, make it on cpu",
    ),
    (
        nn.Conv2d(3, 8, 3),
        zeros(1, 3, 8, 8, dtype=torch.uint8),
        "got uint8, its parameters are float32: "
        "convert the input with .to(torch.float32) / 255 if it is a picture",
    ),
    (
        nn.Conv2d(3, 8, 3),
        rand(1, 32, 32, 3),
        "got (1, 32, 32, 3), weight is (8, 3, 3, 3): the channel axis must be 3, it is 32; "
        "the channels stand last, move them with .movedim(-1, 1)",
    ),
    (
        nn.Conv2d(3, 8, 3),
        zeros(64, 48, 3, dtype=torch.uint8),
        "got (64, 48, 3), weight is (8, 3, 3, 3): the channel axis must be 3, it is 64; "
        "the channels stand last, move them with .movedim(-1, 0); got uint8, its parameters are "
        "float32: convert the input with .to(torch.float32) / 255 if it is a picture",
    ),
    (
        nn.Conv2d(3, 8, 3),
        rand(1, 28, 28),
        "got (1, 28, 28), weight is (8, 3, 3, 3): the channel axis must be 3, it is 1; "
        "grey becomes colour with .repeat(3, 1, 1)",
    ),
    (
        nn.Conv2d(1, 8, 3),
        rand(3, 28, 28),
        "got (3, 28, 28), weight is (8, 1, 3, 3): the channel axis must be 1, it is 3; "
        "a batch without its channel axis gets one with .unsqueeze(1)",
    ),
    (
        nn.ConvTranspose2d(64, 8, 4),
        rand(8, 64),
        "got (8, 64), weight is (64, 8, 4, 4): it takes 4 axes, it got 2; "
        "make each channel a map of one value with [:, :, None, None]",
    ),
    (
        nn.Conv1d(4, 8, 3),
        rand(2, 9, 4, dtype=torch.float64),
        "got (2, 9, 4), weight is (8, 4, 3): the channel axis must be 4, it is 9; the channels "
        "stand last, move them with .movedim(-1, 1); got float64, its parameters are float32: "
        "convert the input with .to(torch.float32)",
    ),
    (
        nn.Conv2d(1, 8, 3),
        rand(64, 28, 28),
        "got (64, 28, 28), weight is (8, 1, 3, 3): the channel axis must be 1, it is 64; "
        "a batch without its channel axis gets one with .unsqueeze(1)",
    ),
    (
        nn.Conv2d(3, 8, 3),
        rand(1, 1, 28, 28),
        "got (1, 1, 28, 28), weight is (8, 3, 3, 3): the channel axis must be 3, it is 1; "
        "grey becomes colour with .repeat(1, 3, 1, 1)",
    ),
    (
        nn.Conv2d(3, 8, 3),
        rand(3, 32),
        "got (3, 32), weight is (8, 3, 3, 3): it takes (batch, channels, height, width), "
        "4 axes, it got 2; one grey picture gets both with [None, None]",
    ),
    (
        nn.Conv2d(1, 2, 5),
        rand(1, 1, 3, 3),
        "got (1, 1, 3, 3): the kernel reaches over (5, 5) (height, width), "
        "the padded input is only (3, 3); use a larger picture",
    ),
    (
        nn.ConvTranspose2d(4, 2, 3),
        rand(1, 3, 5, 5),
        "got (1, 3, 5, 5), weight is (4, 2, 3, 3): the channel axis must be 4, it is 3; "
        "make the layer with in_channels=3",
    ),
    (
        nn.MaxPool2d(2),
        rand(1, 1, 1, 1),
        "got (1, 1, 1, 1): its window is (2, 2), larger than that; use a larger picture",
    ),
    (
        nn.Embedding(10, 4),
        torch.tensor([1, 10]),
        "got ids 1 … 10, it has rows 0 … 9: make the layer with num_embeddings=11, or more",
    ),
    (
        nn.Embedding(4, 4),
        torch.arange(6)[None],
        "got ids 0 … 5, it has rows 0 … 3: these are positions; shorten the sequence to 4, "
        "or make more of them",
    ),
    (
        nn.Embedding(10, 4),
        torch.tensor([-1, 3]),
        "got ids -1 … 3, it has rows 0 … 9: ids begin with 0, replace the negative ones",
    ),
    (
        nn.EmbeddingBag(10, 4),
        torch.tensor([[1, 12]]),
        "got ids 1 … 12, it has rows 0 … 9: make the layer with num_embeddings=13, or more",
    ),
    (
        nn.Embedding(10, 4),
        rand(2),
        "got float32, it takes the ids of its 10 rows: integers, convert them with .long()",
    ),
    (
        nn.LSTM(3, 4),
        rand(2, 1, 5),
        "got (2, 1, 5), input_size is 3: the last axis must be 3, it is 5; make the layer with "
        "input_size=5",
    ),
    (
        nn.GRU(3, 4, batch_first=True),
        rand(2, 1, 5, 3),
        "got (2, 1, 5, 3): it takes (batch, time, features), it got 4 axes",
    ),
    (
        nn.BatchNorm1d(4).train(),
        rand(1, 4),
        "got (1, 4): in train mode it needs more than one value a channel; "
        "use a larger batch, or net.eval()",
    ),
    (
        nn.BatchNorm2d(3),
        rand(3, 4, 4),
        "got (3, 4, 4): it takes (batch, channels, height, width), 4 axes, it got 3; "
        "one item becomes a batch with .unsqueeze(0)",
    ),
    (
        nn.BatchNorm1d(3),
        rand(3),
        "got (3,): it takes (batch, 3, …); one item becomes a batch with .unsqueeze(0)",
    ),
    (
        nn.LayerNorm(4),
        rand(1, 5),
        "got (1, 5): the last axes must be (4,); make the layer with normalized_shape=(5,)",
    ),
    (
        nn.RMSNorm(4),
        rand(1, 5),
        "got (1, 5): the last axes must be (4,); make the layer with normalized_shape=(5,)",
    ),
    (
        nn.InstanceNorm2d(3, affine=True),
        rand(1, 4, 8, 8),
        "got (1, 4, 8, 8), num_features is 3: the channel axis must be 3, it is 4; "
        "make the layer with num_features=4",
    ),
    (
        nn.Linear(864, 10),
        rand(4, 6, 14, 14),
        "got (4, 6, 14, 14), weight is (10, 864): the last axis must be 864, it is 14; "
        "flatten the input with .flatten(1); make the layer with in_features=1176",
    ),
    (
        nn.GroupNorm(2, 4),
        rand(1, 6, 3, 3),
        "got (1, 6, 3, 3), num_channels is 4: the channel axis must be 4, it is 6; "
        "make the layer with num_channels=6",
    ),
    (
        nn.Conv2d(1, 1, 3),
        [rand(64, 1, 28, 28), zeros(64)],
        "got a list of tensors, (64, 1, 28, 28), (64,): a DataLoader's batch? type net(batch[0])",
    ),
    (
        nn.Flatten(),
        [rand(64, 1, 28, 28), zeros(64)],
        "got a list of tensors, (64, 1, 28, 28), (64,): a DataLoader's batch? type net(batch[0])",
    ),
]


@pytest.mark.parametrize(("layer", "got", "says"), LAYERS)
def test_a_layers_refusal_is_explained(layer, got, says):
    with pytest.raises(Exception):  # noqa: B017, PT011 - what torch raises is its own affair
        layer(got)

    assert refusal(layer, got) == says


def raising(layer, *args):
    """Return what is said of a layer that a hook of the user's lets fail."""

    def fail(module, got):
        raise RuntimeError("for another reason")

    layer.register_forward_pre_hook(fail)
    return refusal(layer, *args)


@pytest.mark.parametrize("layer", [nn.Linear(3, 2), nn.ReLU(), nn.BatchNorm1d(3).eval()])
def test_what_fits_is_not_explained(layer):
    assert raising(layer, rand(1, 3)) == ""


def test_a_hidden_state_beside_a_packed_sequence_is_not_taken_for_the_input():
    packed = nn.utils.rnn.pack_padded_sequence(rand(2, 5, 3), [5, 2], batch_first=True)

    assert raising(nn.LSTM(3, 4), packed, (rand(1, 2, 4), rand(1, 2, 4))) == ""


def test_autocast_converts_so_that_a_dtype_is_not_to_blame():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert raising(nn.Linear(3, 2), rand(1, 3).bfloat16()) == ""


def test_features_of_pictures_of_another_size_are_told_as_such():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 10))

    assert refusal(net, rand(4, 1, 14, 14)) == (
        "got (4, 288), weight is (10, 1352): the last axis must be 1352, it is 288; "
        "flattened from (4, 2, 12, 12), so resize the pictures, or make the layer with "
        "in_features=288"
    )


def test_features_that_a_forward_flattened_itself_are_too():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 2, 3), nn.Linear(1352, 10)

        def forward(self, x):
            return self.fc(self.conv(x).flatten(1))

    assert "flattened from (4, 2, 12, 12), so" in refusal(Net(), rand(4, 1, 14, 14))


def test_a_layer_that_double_passes_over_is_told_as_not_registered():
    net = Net(lambda net, x: net.layers[0](x))
    net.layers = [nn.Linear(3, 2)]

    assert refusal(net.double(), rand(4, 3).double()).endswith(
        "; it is not registered, so .to() passes it over: keep it in an nn.ModuleList"
    )
