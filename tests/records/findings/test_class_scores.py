"""An output is read as class scores only where that is likely."""

import pytest
import torch
import torchvision
from torch import nn

import nnmagic

X = torch.rand(3, 8)


class Net(nn.Module):
    """Ends in a Linear, and in a function of what it returned."""

    def __init__(self, function, last=None):
        super().__init__()
        self.fc, self.function, self.last = nn.Linear(8, 4), function, last or nn.Identity()

    def forward(self, x):
        return self.function(self.fc(x))


def read(trace):
    return [note for note in trace.table().notes if "read as class scores" in note]


OTHERS = {
    "where": lambda h: torch.where(h > 0, h, -h),
    "relu": torch.relu,
    "relu in place": lambda h: h.relu_(),
    "sqrt": lambda h: h.abs().sqrt(),
    "sigmoid": torch.sigmoid,
    "a part": lambda h: h[:, :2],
    "a sum": lambda h: h + 1,
    "integers": lambda h: h.argmax(1),
    "one value": lambda h: h[:, :1],
    "three axes": lambda h: h[None],
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_last_linear_did_not_return_is_not_read(name):
    assert read(nnmagic.trace(Net(OTHERS[name]), X)) == []


def test_what_the_last_linear_returned_is_read():
    assert len(read(nnmagic.trace(Net(lambda h: h), X))) == 3


def test_what_another_network_goes_on_with_is_not_read():
    gen, disc = (
        nn.Sequential(nn.Linear(8, n), nn.Linear(n, 8), nn.ReLU(), nn.Linear(8, n)) for n in (8, 1)
    )
    x = torch.rand(3, 8)

    with nnmagic.tracing() as trace:
        disc(gen(x))
    assert read(trace) == []
    assert len(read(nnmagic.trace(gen, x))) == 3


@pytest.mark.parametrize(("loss", "items"), [(nn.MSELoss(), 0), (nn.CrossEntropyLoss(), 3)])
def test_a_loss_tells_whether_there_are_classes(loss, items):
    net = Net(lambda h: h)

    with nnmagic.tracing() as trace:
        loss(net(X), torch.rand(3, 4).softmax(1))
    assert len(read(trace)) == items


@pytest.mark.parametrize(
    ("got", "gave", "items"), [(2, 3, 3), (8, 16, 0), (64, 64, 0), (64, 63, 3)]
)
def test_more_than_a_network_got_is_read_as_a_few_classes_only(got, gave, items):
    net = nn.Sequential(nn.Linear(got, 20), nn.ReLU(), nn.Linear(20, gave))

    assert len(read(nnmagic.trace(net, torch.rand(3, got)))) == items


def test_of_equal_scores_none_is_the_largest():
    net = Net(lambda h: h)
    nn.init.zeros_(net.fc.weight)
    nn.init.zeros_(net.fc.bias)

    notes = read(nnmagic.trace(net, X))

    assert len(notes) == 3
    for note in notes:
        assert "all 4 are equal (25.0 %" in note
        assert "largest" not in note


def test_names_of_classes_let_any_matrix_be_read():
    trace = nnmagic.trace(Net(OTHERS["a sum"]), X).show(classes=("a", "b", "c", "d"))

    assert len(read(trace)) == 3


def test_the_boxes_of_a_detector_are_not_read():
    torch.manual_seed(0)
    net = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, box_score_thresh=0.0
    ).eval()

    with torch.no_grad():
        trace = nnmagic.trace(net, [torch.rand(3, 64, 64)])

    (output,) = trace[""].output_shape
    assert output["boxes"][0] > 0
    assert read(trace) == []


def test_scores_are_read_after_the_layer_that_made_them():
    scores = torch.tensor([[1.0, 3.0, 2.0]])
    for last in (nn.Linear(3, 3), nn.Softmax(1), nn.LogSoftmax(1)):
        net = nn.Sequential(nn.Identity(), last)
        out = net(scores)
        chances = {"Softmax": out, "LogSoftmax": out.exp()}.get(type(last).__name__, out.softmax(1))
        best = int(chances.argmax())

        text = str(nnmagic.trace(net, scores))

        said = f"read as class scores: {best} is the largest of 3 ({100 * chances[0, best]:.1f} %"
        assert said in text


def test_scores_are_not_read_where_they_are_unlikely():
    for net, x in (
        (nn.Sequential(nn.Linear(3, 3), nn.ReLU()), torch.rand(1, 3)),
        (nn.Linear(3, 3), torch.rand(1, 3)),
        (nn.Sequential(nn.Linear(3, 1)), torch.rand(1, 3)),
        (nn.Sequential(nn.Linear(3, 3)), torch.rand(1, 2, 3)),
    ):
        assert "class scores" not in str(nnmagic.trace(net, x))


def test_class_names_stand_on_the_scores():
    net = nn.Sequential(nn.Softmax(1))

    text = str(nnmagic.trace(net, torch.tensor([[0.0, 9.0]])).show(classes=["cat", "dog"]))

    assert "dog is the largest of 2 (100.0 % as it is)" in text
    assert "2 class names for 3 scores" in str(
        nnmagic.trace(net, torch.rand(1, 3)).show(classes=["a", "b"])
    )


def test_scores_of_many_classes_are_kept_whole():
    net, x = nn.Sequential(nn.AdaptiveAvgPool1d(4), nn.Linear(4, 5000)), torch.rand(2, 6000)
    best = net(x).argmax(1).tolist()

    text = str(nnmagic.trace(net, x))

    assert f"item 1 read as class scores: {best[0]} is the largest of 5000" in text
