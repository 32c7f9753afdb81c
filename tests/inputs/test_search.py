import pytest
import torch
import torchvision
from input_networks import (
    RAN,
    Bag,
    ByName,
    Captioned,
    Classifier,
    Declaring,
    Graph,
    LeNet,
    Packed,
    Patches,
    PictureAndText,
    Pictures,
    Reading,
    ShortText,
    Table,
    Timed,
    Viewing,
    WordModel,
)
from torch import nn

from nnmagic.inputs.search import InputError, InputSearch, work_out_input
from nnmagic.network.layers import dtype_of


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
        (LeNet(3, side=47), "torch.rand(1, 3, 200, 200)"),
        (Viewing(), "torch.rand(1, 1, 32, 32)"),
        (Viewing(side=42), "torch.rand(1, 1, 180, 180)"),
        (
            nn.Sequential(nn.Conv1d(1, 4, 80, 16), nn.Flatten(), nn.Linear(4 * 1996, 5)),
            "torch.rand(1, 1, 32000)",
        ),
        (
            nn.Sequential(nn.Conv3d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 18**3, 5)),
            "torch.rand(1, 1, 20, 20, 20)",
        ),
        (Patches(), "torch.rand(1, 3, 200, 200)"),
        (ByName(), "x=torch.rand(1, 6), reverse=False"),
        (Bag(), "torch.randint(0, 50, (16,)), torch.full((1,), 0)"),
        (Graph(), "torch.rand(16, 7), torch.randint(0, 16, (2, 32))"),
        (Packed(), "torch.randint(0, 30, (1, 16)), torch.full((1,), 16)"),
        (
            WordModel(),
            "torch.randint(0, 30, (16, 1)), [torch.rand(2, 1, 4), torch.rand(2, 1, 4)]",
        ),
        (PictureAndText(), "torch.rand(1, 3, 224, 224), torch.randint(0, 40, (1, 16))"),
        (Pictures(), "[torch.rand(3, 224, 224)]"),
        (ShortText(), "torch.randint(0, 65, (1, 4))"),
        (
            Captioned(),
            "pixel_values=torch.rand(1, 4, 24, 24), input_ids=torch.randint(0, 60, (1, 16))",
        ),
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


def test_the_reason_tells_what_each_argument_means():
    given = work_out_input(Captioned())

    assert given.reason == (
        "pixel_values means a picture of 24 × 24 and input_ids means ids of tokens below 60"
    )


def test_ids_that_shapes_take_and_values_do_not_fall_through():
    RAN.clear()
    network = Table(dummy_inputs={"ids": torch.tensor([[2, 7]])})

    given = work_out_input(network)

    assert given.text == "torch.randint(0, 5, (1, 16))"
    assert RAN == [(1, 2), (1, 16)]


def test_an_input_for_shapes_is_found_without_a_run(session):
    RAN.clear()
    session.shell.user_ns["net"] = Table()

    summary = session.run("s = %nnsummary net\ns")

    assert (summary.title, RAN) == ("net on torch.randint(0, 5, (1, 16))", [])
    assert summary.rows[0].output_shape == (1, 16, 3)


def test_a_search_prints_nothing_and_leaves_nothing(capsys):
    class Talking(Reading):
        def forward(self, x):
            print("got", tuple(x.shape))  # noqa: T201 - as people do to see shapes
            self.last = x
            return super().forward(x)

    network = Talking().train()
    before = dict(vars(network))

    work_out_input(network)

    assert capsys.readouterr().out == ""
    assert vars(network) == before


def test_the_layer_that_came_furthest_is_the_one_that_refused():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.fc = nn.Embedding(9, 6), nn.Linear(4, 2)

        def forward(self, ids):
            return self.fc(self.words(ids))

    with pytest.raises(InputError, match=r"fc \(Linear\) got \(1, 16, 6\), weight is \(2, 4\)"):
        work_out_input(Deep())


def input_of_sizes(network, *given):
    return InputSearch(network, *given).input_on(None)


def test_sizes_go_to_arguments_that_are_given_by_name():
    class Named(nn.Linear):
        def forward(self, *, x):
            return super().forward(x)

    given = input_of_sizes(Named(6, 2), [(3, 6)])

    assert {name: tensor.shape for name, tensor in given.kwargs.items()} == {"x": (3, 6)}


def test_where_nothing_goes_through_the_refusal_names_the_layer():
    network = nn.Sequential(nn.Linear(6, 5), nn.Linear(4, 2))

    with pytest.raises(InputError) as caught:
        work_out_input(network)

    assert str(caught.value) == (
        "no input found: on torch.rand(1, 6), Sequential.1 (Linear) got (1, 5), weight is (2, 4): "
        "the last axis must be 4, it is 5; make the layer with in_features=5; "
        "call the network on one, or give the right size in place of --input-size 1,6"
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
