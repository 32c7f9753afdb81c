import pytest
import torch
import torchvision
from torch import nn

from nnmagic.inputs import InputError, dtype_of, input_of_sizes, work_out_input


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc = nn.Linear(400, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv1(x), 2)
        x = nn.functional.max_pool2d(self.conv2(x), 2)
        return self.fc(x.flatten(1))


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


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), "torch.rand(1, 784)"),
        (LeNet(), "torch.rand(1, 1, 32, 32)"),
        (torchvision.models.resnet18(), "torch.rand(1, 3, 224, 224)"),
        (nn.Conv1d(2, 3, 5), "torch.rand(1, 2, 128)"),
        (nn.Conv3d(2, 3, 5), "torch.rand(1, 2, 16, 16, 16)"),
        (nn.ConvTranspose2d(100, 8, 4), "torch.rand(1, 100, 1, 1)"),
        (Classifier(), "torch.randint(0, 50, (1, 16))"),
        (nn.LSTM(8, 4), "torch.rand(16, 1, 8)"),
        (nn.LSTMCell(8, 4), "torch.rand(1, 8)"),
        (nn.TransformerEncoderLayer(8, 2, batch_first=True), "torch.rand(1, 16, 8)"),
        (nn.Transformer(8, 2, 1, 1, 8), "torch.rand(16, 1, 8), torch.rand(16, 1, 8)"),
        (
            nn.MultiheadAttention(8, 2, batch_first=True),
            "torch.rand(1, 16, 8), torch.rand(1, 16, 8), torch.rand(1, 16, 8)",
        ),
        (nn.Bilinear(3, 4, 5), "torch.rand(1, 3), torch.rand(1, 4)"),
        (Timed(), "torch.rand(1, 3, 224, 224), torch.randint(0, 100, (1,))"),
        (nn.Linear(6, 2).double(), "torch.rand(1, 6, dtype=torch.float64)"),
        (nn.LazyLinear(4), "torch.rand(1, 16)"),
        (nn.ReLU(), "torch.rand(1, 28, 28)"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_input_is_worked_out_and_goes_through(network, text):
    state = torch.get_rng_state()

    given = work_out_input(network)

    assert given.text == text
    assert torch.equal(torch.get_rng_state(), state)
    network.eval()(*given.args, **given.kwargs)


def test_the_same_network_always_gets_the_same_noise():
    first, second = (work_out_input(nn.Linear(6, 2)).args[0] for _ in range(2))

    assert torch.equal(first, second)


def test_what_the_network_declares_comes_first():
    for name, value, text in (
        ("example_input_array", torch.rand(2, 6), "its example_input_array"),
        ("dummy_inputs", {"x": torch.rand(2, 6)}, "its dummy_inputs"),
        ("default_cfg", {"input_size": (3, 6)}, "torch.rand(1, 3, 6)"),
    ):
        assert work_out_input(Declaring(**{name: value})).text == text


def test_a_declaration_that_the_network_refuses_falls_through():
    given = work_out_input(Declaring(example_input_array=torch.rand(2, 7)))

    assert given.text == "torch.rand(1, 6)"
    assert given.reason == "fc (Linear) takes 6 features"


def test_a_network_that_reads_values_gets_what_its_first_layer_takes():
    assert work_out_input(Reading()).text == "torch.rand(1, 6)"


def test_where_nothing_goes_through_the_refusal_names_the_layer():
    network = nn.Sequential(nn.Linear(6, 5), nn.Linear(4, 2))

    with pytest.raises(InputError) as caught:
        work_out_input(network)

    assert str(caught.value) == (
        "no input found: on torch.rand(1, 6), Sequential.1 (Linear) got (1, 5), weight is (2, 4): "
        "the last axis must be 4, it is 5; call the network on one, or give a size such as "
        "--input-size 1,6"
    )


def test_sizes_that_are_given_become_noise_of_the_networks_dtype():
    given = input_of_sizes(nn.Linear(6, 2).bfloat16(), [(3, 6)])

    assert (given.args[0].shape, given.args[0].dtype) == ((3, 6), torch.bfloat16)


def test_ids_are_made_where_the_network_takes_no_floats():
    given = input_of_sizes(Classifier(), [(2, 5)])

    assert given.args[0].dtype == torch.int64
    assert int(given.args[0].max()) < 50


def test_a_dtype_stands_for_one_input_or_for_all():
    network = Timed()

    given = input_of_sizes(network, [(2, 3, 8, 8), (2,)], [torch.float32, torch.int64])

    assert [tensor.dtype for tensor in given.args] == [torch.float32, torch.int64]
    with pytest.raises(InputError, match="2 sizes and 3 dtypes"):
        input_of_sizes(network, [(2, 3, 8, 8), (2,)], [torch.float32] * 3)


def test_a_size_that_the_network_refuses_says_where():
    with pytest.raises(InputError, match=r"the network refuses torch.rand\(1, 5\): .*must be 6"):
        input_of_sizes(nn.Linear(6, 2), [(1, 5)])


def test_a_networks_dtype_is_that_of_its_first_floating_parameter():
    assert dtype_of(nn.ReLU()) == torch.float32
    assert dtype_of(nn.Linear(2, 2).half()) == torch.float16
