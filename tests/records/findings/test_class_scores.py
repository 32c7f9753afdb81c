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
