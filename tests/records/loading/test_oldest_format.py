"""Files that the first version of the format wrote are read by every later one.

`python tests/records/loading/test_oldest_format.py FOLDER` writes such files in today's format.
"""

import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

import nnmagic
from nnmagic.structure.parameter_comparison import compare_parameters

FOLDER = Path(__file__).parent / "format_1"


def records():
    """Return one record of each kind, of a network whose numbers can be worked out by hand."""
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    net.load_state_dict(
        {"0.weight": torch.tensor([[1.0, 1], [1, -1], [0, 1]]), "0.bias": torch.zeros(3)}
    )
    other = nn.Sequential(nn.Linear(2, 3), nn.Identity(), nn.ReLU())
    other.load_state_dict({"0.weight": net[0].weight + 1, "0.bias": net[0].bias})
    x = torch.tensor([[1.0, 2]])
    with torch.no_grad():
        trace = nnmagic.trace(net, x)
        comparison = trace.compare(nnmagic.trace(other, x))
    return {
        "trace": trace,
        "summary": nnmagic.summary(net, x),
        "params": nnmagic.params(net),
        "comparison": comparison,
        "paramscomparison": compare_parameters(net, other, titles=("net", "other")),
    }


@pytest.fixture(params=["trace", "summary", "params", "comparison", "paramscomparison"])
def name(request):
    return request.param


def test_a_file_of_the_first_version_is_read_and_shown(name):
    path = FOLDER / f"{name}.safetensors"

    record = nnmagic.load(path)

    with safe_open(path, framework="np") as file:
        assert file.metadata()["nnmagic"] == "1"
    assert type(record).__name__.lower() == name
    assert str(record)
    assert record._repr_html_()
    assert len(record.to_frame()) == {"params": 2, "paramscomparison": 2, "comparison": 4}.get(
        name, 3
    )


def test_what_the_files_say_is_what_was_saved():
    trace, summary, params, comparison, parameters = (
        nnmagic.load(FOLDER / f"{name}.safetensors")
        for name in ("trace", "summary", "params", "comparison", "paramscomparison")
    )

    assert trace["0"].outputs[0].values == [[3, -1, 2]]
    assert trace["1"].outputs[0].values == [[3, 0, 2]]
    assert (trace["1"].max, trace["1"].zeros) == (3, pytest.approx(1 / 3))
    assert summary.total_params == 9
    assert summary.total_flops == 12
    assert params["0.weight"].values == [[1, 1], [1, -1]]
    assert comparison.first_divergence.layer == "0"
    assert comparison.first_divergence.max_abs == 3
    assert [(row.name, row.verdict, row.max_abs) for row in parameters] == [
        ("0.weight", "changed", 1),
        ("0.bias", "equal", 0),
    ]
    assert [row.verdict for row in comparison][-1] == "only in the other"


if __name__ == "__main__":
    for kind, record in records().items():
        record.save(Path(sys.argv[1]) / f"{kind}.safetensors")
