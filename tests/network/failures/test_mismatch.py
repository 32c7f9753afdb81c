import linecache

import pytest
import torch
import torch.nn.functional as F
from corpus.case import Net
from refusals import refusal
from torch import nn

import nnmagic

rand = torch.rand


def zeros(*shape, dtype=torch.int64):
    return torch.zeros(*shape, dtype=dtype)


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


x, y = rand(2, 5, 8), rand(3, 5, 8)

ATTENTION = [
    (
        (x, x, x),
        {"attn_mask": rand(4, 4)},
        "got attn_mask (4, 4): it must be (5, 5) or (4, 5, 5), that is "
        "(batch · heads, queries, keys)",
    ),
    (
        (x, x, x),
        {"attn_mask": rand(2, 5, 5)},
        "got attn_mask (2, 5, 5): it must be (5, 5) or (4, 5, 5), that is "
        "(batch · heads, queries, keys); repeat it, .repeat_interleave(2, 0)",
    ),
    (
        (x, x, x),
        {"key_padding_mask": zeros(5, 2, dtype=torch.bool)},
        "got key_padding_mask (5, 2): it must be (2, 5), that is (batch, keys); turn it, with .mT",
    ),
    (
        (x, x, x),
        {"attn_mask": zeros(5, 5)},
        "got attn_mask int64: it must be bool, true for what is left out; of a tokenizer's mask "
        "that is mask == 0",
    ),
    (
        (x, y, y),
        {},
        "got query (2, 5, 8), key (3, 5, 8), value (3, 5, 8): axis 0 is the batch and must be "
        "the same",
    ),
    (
        (rand(2, 5, 9), x, x),
        {},
        "got (2, 5, 9), embed_dim is 8: the last axis must be 8, it is 9; "
        "make the layer with embed_dim=9",
    ),
]


@pytest.mark.parametrize(("args", "kwargs", "says"), ATTENTION)
def test_an_attentions_refusal_is_explained(args, kwargs, says):
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    with pytest.raises(Exception):  # noqa: B017, PT011 - what torch raises is its own affair
        layer(*args, **kwargs)

    assert refusal(layer, *args, **kwargs) == says


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"mask": rand(4, 4)}, "(4, 4): it must be (5, 5) or (4, 5, 5)"),
        (
            {"src_key_padding_mask": zeros(5, 2, dtype=torch.bool)},
            "(5, 2): it must be (2, 5), that is (batch, keys)",
        ),
        ({"src_key_padding_mask": zeros(2, 5)}, "src_key_padding_mask int64: it must be bool"),
    ],
)
def test_an_encoders_masks_are_explained_on_its_fast_path_too(train, kwargs, says):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).train(train)

    with torch.set_grad_enabled(train):
        assert says in refusal(net, x, **kwargs)


STATES = [
    (
        nn.LSTM(3, 4, batch_first=True),
        (rand(1, 5, 4), rand(1, 5, 4)),
        "got a hidden state (1, 5, 4): it must be (1, 2, 4), that is (layers, batch, features)",
    ),
    (
        nn.LSTM(3, 4, batch_first=True),
        rand(1, 2, 4),
        "got the hidden state (1, 2, 4): it takes a pair of them, (h, c)",
    ),
    (
        nn.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True),
        rand(2, 2, 4),
        "got a hidden state (2, 2, 4): it must be (4, 2, 4), that is (layers, batch, features)",
    ),
    (
        nn.GRU(3, 4, batch_first=True),
        rand(1, 2, 4).double(),
        "got float64, its parameters are float32: convert the hidden state with .to(torch.float32)",
    ),
]


@pytest.mark.parametrize(("layer", "state", "says"), STATES)
def test_a_hidden_states_shape_is_explained(layer, state, says):
    assert refusal(layer, rand(2, 5, 3), state) == says


def test_a_cells_hidden_state_is_explained():
    says = "got a hidden state (3, 4): it must be (2, 4), that is (batch, features)"

    assert refusal(nn.LSTMCell(3, 4), rand(2, 3), (rand(3, 4), rand(3, 4))) == says


scores = rand(4, 10)

LOSSES = [
    (
        nn.CrossEntropyLoss(),
        (scores, zeros(4, 1)),
        "got scores (4, 10) and targets (4, 1): the targets must be (4,), one class id for each "
        "item; type targets.squeeze(-1)",
    ),
    (
        nn.CrossEntropyLoss(),
        (scores, zeros(3)),
        "got scores (4, 10) and targets (3,): the targets must be (4,), one class id for each item",
    ),
    (
        nn.CrossEntropyLoss(),
        (rand(2, 5, 10), zeros(2, 5)),
        "got scores (2, 5, 10) and targets (2, 5): the targets must be (2, 10), one class id for "
        "each item; the classes stand last, move them with scores.movedim(-1, 1)",
    ),
    (
        nn.CrossEntropyLoss(),
        (scores, rand(4)),
        "got targets float32: class ids are int64, type targets.long()",
    ),
    (
        nn.CrossEntropyLoss(),
        (scores, zeros(4, 10)),
        "got scores (4, 10) and targets (4, 10) int64: make them class ids with .argmax(1)",
    ),
    *(
        (
            nn.CrossEntropyLoss(),
            (given, zeros(4)),
            f"got scores {tuple(given.shape)} int64: class ids, as .argmax gives them; "
            "the loss takes the scores themselves, type loss_fn(net(x), y)",
        )
        for given in (scores.argmax(1), scores.argmax(1, keepdim=True), scores.long())
    ),
    (
        nn.NLLLoss(),
        (scores.argmax(1), zeros(4)),
        "got scores (4,) int64: class ids, as .argmax gives them; "
        "the loss takes the scores themselves, type loss_fn(net(x), y)",
    ),
    (
        nn.CrossEntropyLoss(),
        (scores, torch.tensor([1, 2, 3, 10])),
        "got targets 1 … 10: the scores are of 10 classes, 0 … 9; type targets - 1, "
        "or give the network 11 outputs",
    ),
    (
        nn.NLLLoss(),
        (scores, torch.tensor([1, 2, 3, -1])),
        "got targets -1 … 3: the scores are of 10 classes, 0 … 9",
    ),
    (
        nn.BCELoss(),
        (torch.tensor([0.5, 3.0], requires_grad=True), rand(2)),
        "got 0.5 … 3: it takes probabilities in 0 … 1; nn.BCEWithLogitsLoss takes scores",
    ),
    (
        nn.BCEWithLogitsLoss(),
        (rand(4, 1), rand(4)),
        "got (4, 1) and targets (4,): they must have one shape; type targets.unsqueeze(-1)",
    ),
    (
        nn.BCEWithLogitsLoss(),
        (rand(4), zeros(4)),
        "got targets int64: they must be numbers, type targets.float()",
    ),
    (
        nn.MSELoss(),
        (rand(4, 3), rand(4)),
        "got (4, 3) and targets (4,): they must have one shape; for one value an item give the "
        "network 1 output, and .squeeze(-1) it",
    ),
    (
        nn.BCEWithLogitsLoss(),
        (rand(4, 3), zeros(4)),
        "got (4, 3) and targets (4,): they must have one shape; "
        "class ids go into nn.CrossEntropyLoss",
    ),
    (
        nn.CrossEntropyLoss(weight=rand(9)),
        (scores, zeros(4)),
        "its weight is (9,): the scores are of 10 classes, one each",
    ),
    (
        nn.CrossEntropyLoss(),
        (zeros(4), scores),
        "got scores (4,) and targets (4, 10): they are exchanged, the scores come first",
    ),
    (
        nn.NLLLoss(),
        (scores, rand(4, 10)),
        "got scores (4, 10) and targets (4, 10): the targets must be (4,), one class id for each "
        "item; type targets.argmax(1)",
    ),
    (
        nn.CrossEntropyLoss(),
        (rand(2, 5, 8, 8), zeros(2, 1, 8, 8)),
        "got scores (2, 5, 8, 8) and targets (2, 1, 8, 8): the targets must be (2, 8, 8), one "
        "class id for each item; type targets.squeeze(1)",
    ),
]


@pytest.mark.parametrize(("loss", "args", "says"), LOSSES)
def test_a_losss_refusal_is_explained(loss, args, says):
    with pytest.raises(Exception):  # noqa: B017, PT011 - what torch raises is its own affair
        loss(*args)

    assert refusal(loss, *args) == says


class Pair(nn.Module):
    def forward(self, x, mask, scale=1.0):
        return F.scaled_dot_product_attention(x, x, x, attn_mask=mask) * scale


def test_arguments_that_do_not_fit_the_forward_are_explained_by_its_signature():
    says = "takes (x, mask, scale=1.0): missing a required argument: 'mask'"

    assert refusal(Pair(), rand(2, 3)) == says
    assert refusal(nn.Linear(3, 2), x=rand(1, 3)) == ("takes (input): it has no 'x'")
    assert refusal(nn.Linear(3, 2), rand(1, 3), rand(1)) == (
        "takes (input): too many positional arguments"
    )


def test_a_forward_of_the_users_is_quoted_with_the_shapes_that_it_met():
    assert refusal(Pair(), rand(2, 5, 8), rand(4, 4).double()) == (
        "in “F.scaled_dot_product_attention(x, x, x, attn_mask=mask)” "
        "with x (2, 5, 8), mask (4, 4) float64"
    )


def test_a_batch_in_a_list_is_told_where_the_users_own_forward_trips_over_it():
    class Net(nn.Module):
        def forward(self, x):
            return x.flatten(1)

    says = "got a list of tensors, (4, 2), (4,): a DataLoader's batch? type net(batch[0])"

    assert refusal(Net(), [rand(4, 2), zeros(4)]) == says


def test_a_list_that_the_forward_takes_is_not_blamed():
    class Net(nn.Module):
        def forward(self, parts):
            return torch.cat(parts)

    assert refusal(Net(), [rand(4, 2), rand(4)]) == ""


def test_ids_that_reach_a_network_with_parameters_of_its_own_are_not_blamed():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(rand(4))

        def forward(self, ids):
            raise RuntimeError("something else")

    assert refusal(Net(), zeros(3)) == ""


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


def test_code_from_a_notebook_is_quoted_too():
    source = "def f(x, w):\n    return x @ w\n"
    linecache.cache["<cell>"] = (len(source), None, source.splitlines(True), "<cell>")
    space = {}
    exec(compile(source, "<cell>", "exec"), space)

    class Net(nn.Module):
        def forward(self, x):
            return space["f"](x, rand(4, 4))

    assert refusal(Net(), rand(2, 3)) == (
        "in “x @ w” with x (2, 3), w (4, 4): "
        "axis -1 of x is 3, axis -2 of w is 4: they must be the same"
    )


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


class Unready(nn.Module):
    def __init__(self):
        self.scale = 2

    def forward(self, x):
        return x * self.scale


SUPER = "lacks super().__init__() in its __init__: add that as the first line"


@pytest.mark.parametrize(
    "net",
    [
        Unready(),
        nn.Sequential(nn.Linear(3, 3), Unready()),
        Net(lambda net, x: net.inner(x), inner=nn.ModuleList([Unready()])[0]),
        Net(lambda net, x: Unready()(x)),
    ],
)
def test_a_network_without_its_init_fails_as_it_does_untraced(net):
    with pytest.raises(AttributeError) as plain:
        net(rand(2, 3))

    with pytest.raises(AttributeError) as traced:
        nnmagic.trace(net, rand(2, 3))
    with pytest.raises(AttributeError) as summarised:
        nnmagic.summary(net, rand(2, 3))

    assert str(traced.value) == str(summarised.value) == str(plain.value)
    for error in (traced.value, summarised.value):
        assert SUPER in error.__notes__[0]


class Misnamed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.fc = nn.Conv2d(1, 2, 3), nn.Linear(3, 2)

    def forwrad(self, x):
        return self.fc(x)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (lambda net, x: net.conv_1(x), "has no self.conv_1: did you mean self.conv1?"),
        (lambda net, x: net.head(x), "has no self.head: it holds conv1, fc"),
        (lambda net, x: fc(x), "has fc as its own: type self.fc"),  # noqa: F821
    ],
)
def test_a_name_that_a_network_lacks_is_told(run, says):
    assert refusal(Net(run, conv1=nn.Conv2d(1, 2, 3), fc=nn.Linear(3, 2)), rand(2, 3)) == says


@pytest.mark.parametrize("name", ["_init_", "__int__", "__init", "init"])
def test_an_init_that_is_misspelled_is_told(name):
    def make(self):
        self.fc = nn.Linear(3, 2)

    kind = type("Net", (nn.Module,), {name: make, "forward": lambda self, x: self.fc(x)})

    assert refusal(kind(), rand(2, 3)) == f"has no self.fc: rename its {name} to __init__"


def test_a_forward_that_is_misspelled_is_told():
    assert refusal(Misnamed(), rand(2, 3)) == "has no forward: rename forwrad to forward"


def outside(function, *args):
    """Return the note on what fails outside all layers, after a call of a network."""
    net = nn.Linear(3, 2)
    with pytest.raises(Exception) as caught, nnmagic.tracing():  # noqa: PT011
        function(net(rand(4, 3)), *args)
    return caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (lambda h: h.backward(), "with h (4, 2): it starts from one number: a loss, or .sum()"),
        (
            lambda h: F.cross_entropy(h, torch.zeros(5).long()),
            "got scores (4, 2) and targets (5,): the targets must be (4,)",
        ),
        (
            lambda h: F.nll_loss(h, torch.zeros(4).long() + 7),
            "torch.zeros(4).long() + 7 (4,) int64",
        ),
        (lambda h: nn.MSELoss(h, h), "nn.MSELoss(…) makes a layer; F.mse_loss(…) or"),
        (lambda h: h @ rand(3, 4), "axis -1 of h is 2, axis -2 of rand(3, 4) is 3"),
        (lambda h: h[:, 2], "in “h[:, 2]” with h (4, 2)"),
    ],
)
def test_what_fails_outside_the_layers_is_told_too(run, says):
    assert says in outside(run)
    assert outside(run).startswith("nnmagic: raised outside the layers, in “")


def test_the_range_of_targets_is_told_outside_the_layers():
    y = torch.tensor([0, 1, 2, 5])

    assert "got targets 0 … 5: the scores are of 2 classes, 0 … 1" in outside(
        lambda h: F.cross_entropy(h, y)
    )


@pytest.mark.parametrize(
    ("call", "note"),
    [
        (lambda: nn.Linear(3, 2)(rand(4, 5)), "raised in Linear, called at"),
        (lambda: Net(lambda net, x: nn.Softmax(1)(x))(rand(3)), "raised in Softmax, called at"),
        (
            lambda: nn.Sequential(nn.ReLU(), nn.Linear(3, 2))(rand(4, 5)),
            "raised in Sequential.1 (Linear), called at",
        ),
    ],
)
def test_a_layer_without_a_name_is_called_by_its_class_once(call, note):
    with pytest.raises((RuntimeError, IndexError)) as caught, nnmagic.tracing():
        call()

    assert caught.value.__notes__[0].startswith(f"nnmagic: {note}")


class Turning(nn.Module):
    def forward(self, x):
        return self(x)


def test_a_network_that_calls_itself_is_told(session):
    session.shell.user_ns.update(net=Turning(), x=rand(2))
    with pytest.raises(RecursionError) as caught:
        session.run("%nntrace net(x)")

    assert caught.value.__notes__[0].endswith(": calls itself without end")


def test_a_list_that_a_loss_takes_is_not_blamed():
    loss = nn.CTCLoss()

    assert refusal(loss, rand(5, 2, 4), torch.ones(2, 3).long(), [5, 5], [3, 4]) == ""


def test_what_a_layer_got_is_told_where_nothing_more_is_known():
    with pytest.raises(RuntimeError) as caught, nnmagic.tracing():
        nn.Bilinear(4, 5, 3)(rand(2, 4), rand(2, 6))

    assert caught.value.__notes__[0].endswith(": got ((2, 4), (2, 6))")


def test_a_real_summary_tells_what_fails_outside_the_layers_too(session):
    session.shell.user_ns.update(net=nn.Linear(3, 2), x=rand(4, 3), F=F)
    with pytest.raises(ValueError, match="batch_size") as caught:
        session.run("%nnsummary --real F.cross_entropy(net(x), torch.zeros(5).long())")

    assert "raised outside the layers, in “F.cross_entropy(net(x)" in caught.value.__notes__[0]


def test_a_layer_that_double_passes_over_is_told_as_not_registered():
    net = Net(lambda net, x: net.layers[0](x))
    net.layers = [nn.Linear(3, 2)]

    assert refusal(net.double(), rand(4, 3).double()).endswith(
        "; it is not registered, so .to() passes it over: keep it in an nn.ModuleList"
    )
