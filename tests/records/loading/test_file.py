"""Records saved and read again; files that are not as they were saved."""

import json
import os
import random
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from corpus import CASES
from hypothesis import settings
from rank_traces import job
from safetensors import safe_open
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from torch import nn

import nnmagic
from nnmagic.records.comparison.differences import Difference
from nnmagic.records.record import View
from nnmagic.records.saving.file import checksum
from nnmagic.structure.parameter_comparison import compare_parameters


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.fc.weight

    def forward(self, x, scale=None):
        hidden = self.fc(x)
        return {"log": hidden.log(), 3: (self.tied(hidden), None), "ids": hidden.argmax(-1)}


def failed():
    with pytest.raises(RuntimeError), nnmagic.tracing() as trace:
        nn.Sequential(nn.Linear(4, 8), nn.Linear(4, 2))(torch.ones(1, 4))
    return trace


def learned():
    net, x = nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 3)), torch.rand(6, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with nnmagic.tracing(grad=True, ops=True) as trace:
        for _ in range(4):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), torch.tensor([0, 1, 2, 0, 1, 2])).backward()
            optimizer.step()
    return trace


def parted():
    """Return two runs side by side: of other weights, shapes and dtypes, with calls of one side."""
    net, other = (nn.Sequential(nn.Linear(4, 300), nn.ReLU(), nn.Linear(300, 3)) for _ in "ab")
    other.append(nn.Softmax(1)).bfloat16()
    x = torch.rand(6, 4)
    return nnmagic.trace(net, x).compare(nnmagic.trace(other, x[:2].bfloat16()))


RECORDS = {
    "default": lambda: nnmagic.trace(nnmagic.default_network(), nnmagic.default_input()),
    "odd": lambda: nnmagic.trace(Odd(), torch.randn(2, 4)),
    "resnet18": lambda: nnmagic.trace(torchvision.models.resnet18(), torch.rand(2, 3, 64, 64)),
    "complex": lambda: nnmagic.trace(
        nn.Linear(40, 30, dtype=torch.complex64), torch.rand(50, 40, dtype=torch.complex64)
    ),
    "half": lambda: nnmagic.trace(nn.Linear(4, 4).bfloat16(), torch.rand(2, 4).bfloat16()),
    "recurrent": lambda: nnmagic.trace(nn.LSTM(3, 4), torch.rand(5, 2, 3)),
    "no axes": lambda: nnmagic.trace(nn.Identity(), torch.tensor(3.5)),
    "failed": failed,
    "learned": learned,
    "empty": lambda: nnmagic.trace(nn.Identity(), torch.zeros(0, 3)),
    "comparison": parted,
    "parameters": lambda: compare_parameters(
        nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)),
        {"0.weight": torch.rand(3, 4), "0.bias": torch.rand(2), "1.x": torch.ones(3)},
        titles=("a", "b"),
    ),
    "summary": lambda: nnmagic.summary(Odd(), torch.rand(2, 4)),
    "ranks": lambda: nnmagic.load(job(2, odd=[1])),
    "params": lambda: nnmagic.params(Odd()),
    "state": lambda: nnmagic.params({"a.b": torch.rand(3), "n": torch.tensor(float("nan"))}),
}


MUTATED = [
    *("default", "odd", "learned", "comparison", "parameters", "summary", "params", "ranks"),
]
"""Those of which broken files are made."""

FILES = 2 * settings.default.max_examples


@pytest.fixture(scope="module")
def records():
    return {name: make() for name, make in RECORDS.items()}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_equal_and_shows_the_same_after_the_trip(records, name, tmp_path):
    record = records[name]

    record.show(depth=2, classes=("a", "b")).save(tmp_path / "record.safetensors")
    found = nnmagic.load(tmp_path / "record.safetensors")

    assert type(found) is type(record)
    assert found == record
    assert (found.view.depth, found.view.classes) == (2, ("a", "b"))
    assert str(found.show(depth=None, classes=())) == str(record)
    assert found.to_frame().equals(record.to_frame())
    assert os.listdir(tmp_path) == ["record.safetensors"]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.slow])
def test_the_trace_of_every_case_is_equal_after_the_trip(name, tmp_path):
    case = CASES[name]
    found = case.make()
    with (
        case.context(),
        suppress(BaseException),
        nnmagic.tracing(grad=case.backward) as trace,
    ):
        eval(case.expression, {"torch": torch, "nn": nn, **found})

    trace.save(tmp_path / "trace.safetensors")

    assert nnmagic.load(tmp_path / "trace.safetensors") == trace


def test_a_stranger_reads_the_file_with_safetensors_alone(records, tmp_path):
    trace = records["default"]
    trace.save(tmp_path / "trace.safetensors")

    with safe_open(tmp_path / "trace.safetensors", framework="np") as file:
        metadata, names = file.metadata(), file.keys()
        log = json.loads(metadata["content"])["log"]
        layers = [each["name"] for each in log["layers"]]
        last = file.get_tensor("log.layer").tolist().index(layers.index("linear_relu_stack.4"))
        (output,) = log["outputs"][last]
        values = file.get_tensor(log["tensors"]["samples"][output])
        statistics = file.get_tensor("tensor.statistics")[output]

    call = trace["linear_relu_stack.4"]
    assert metadata["record"] == "Trace"
    assert f"tensor.{output}" in names
    assert values.tolist() == call.outputs[0].values
    assert statistics[:4].tolist() == [call.min, call.max, call.mean, call.std]


def test_the_example_of_the_page_runs(records, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[3] / "docs" / "files.md").read_text()
    records["default"].save(tmp_path / "run.safetensors")
    monkeypatch.chdir(tmp_path)

    exec(page.split("```python\n")[1].split("```")[0], {})

    assert capsys.readouterr().out.startswith("linear_relu_stack.0 Linear [1, 512]")


def refusal(content, folder):
    """Return the text with which a file of this content is refused, None if it is read."""
    path = folder / "file.safetensors"
    path.write_bytes(content)
    try:
        record = nnmagic.load(path)
    except ValueError as refused:
        error = refused
    else:
        str(record), record._repr_html_(), record.to_frame()
        return None
    text = str(error)
    assert (type(error), error.__cause__) == (ValueError, None)
    assert "\n" not in text
    assert len(text) < 400
    return text


def header_of(content):
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def signed(content, arrays, **metadata):
    """Return a file whose checksum is right, whatever it holds."""
    total = checksum(content, arrays)
    own = {"nnmagic": "1", "record": "Trace", "content": content, "checksum": total} | metadata
    return save_arrays(arrays, own)


def broken_bytes(content, rng):
    """Return a file that was cut, changed, or lengthened."""
    match rng.randrange(6):
        case 0:
            return content[: rng.randrange(len(content))]
        case 1:
            place = rng.randrange(len(content))
            return (
                content[:place]
                + bytes([content[place] ^ 1 << rng.randrange(8)])
                + content[place + 1 :]
            )
        case 2:
            return content + rng.randbytes(rng.randrange(1, 40))
        case 3:
            return (
                struct.pack("<Q", rng.choice([0, 1, len(content), 2**31, 2**63, 2**64 - 1]))
                + content[8:]
            )
        case 4:
            first, last = sorted(rng.randrange(len(content)) for _ in "ab")
            return content[:first] + content[last + 1 :]
    header, data = header_of(content)
    if len(header) == 1:  # no arrays
        return with_header(header | {"a": {}}, data)
    name = rng.choice([each for each in header if each != "__metadata__"])
    entry = header[name]
    match rng.randrange(4):
        case 0:
            begin, end = entry["data_offsets"]
            entry["data_offsets"] = [begin + 1, end]
        case 1:
            entry["shape"] = [*entry["shape"], 2**40]
        case 2:
            others = {"F8_E4M3", "BF16", "I64", "U8", "BOOL", "X"} - {entry["dtype"]}
            entry["dtype"] = rng.choice(sorted(others))
        case 3:
            del header[name]
    return with_header(header, data)


def leaves(value, path=()):
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, each in items:
        yield from leaves(each, (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


STRANGE = [
    *(None, True, -1, 0, 1, 7, 10**6, 2**40, 2**63, 10**400, 0.5, -1e308, "", "nan", "x" * 1000),
    *(
        [],
        {},
        [[]],
        {"pairs": []},
        {"pairs": [[0, 0]]},
        "log.layer",
        "tensor.0",
        "tensor.statistics",
        "mine.tensor.0",
    ),
]


def broken_content(content, rng):
    """Return a file with a right checksum and something strange in it."""
    header, _ = header_of(content)
    arrays = load_arrays(content)
    metadata = header["__metadata__"]
    inside = json.loads(metadata["content"])
    for _ in range(rng.choice([1, 1, 2, 5])):
        if arrays and rng.random() < 0.3:
            name = rng.choice(sorted(arrays))
            values = arrays[name].copy()
            flat = values.reshape(-1)
            if flat.size:
                new = np.array(rng.choice([-1, 0, 1, 100])).astype(flat.dtype)
                flat[rng.randrange(flat.size)] = new
            arrays[name] = rng.choice([values, flat[:-1], values.astype(np.float32), flat])
        else:
            paths = list(leaves(inside))
            inside = replaced(inside, rng.choice(paths), rng.choice(STRANGE))
    return signed(json.dumps(inside), arrays, record=metadata["record"])


@pytest.mark.parametrize("name", MUTATED)
def test_a_broken_file_is_refused_in_one_line(records, name, tmp_path):
    records[name].save(tmp_path / "record.safetensors")
    content = (tmp_path / "record.safetensors").read_bytes()
    rng = random.Random(name)

    for _ in range(FILES):
        assert refusal(broken_bytes(content, rng), tmp_path)


@pytest.mark.parametrize("name", MUTATED)
def test_a_hostile_file_is_refused_in_one_line_or_can_be_shown(records, name, tmp_path):
    records[name].save(tmp_path / "record.safetensors")
    content = (tmp_path / "record.safetensors").read_bytes()
    rng = random.Random(name)

    refused = [refusal(broken_content(content, rng), tmp_path) for _ in range(FILES)]

    assert sum(each is not None for each in refused) > FILES / 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda content: b"", "no record"),
        (lambda content: save_arrays({"a": np.zeros(3)}), "nnmagic did not save it"),
        (lambda content: signed("{}", {}, nnmagic="2"), "a newer nnmagic saved it"),
        (lambda content: signed("{}", {}, record="Listener"), "Listener"),
        (lambda content: signed("[" * 100_000, {}), "no record"),
        (lambda content: signed('{"log":' * 900 + "1" + "}" * 900, {}), "no record"),
        (lambda content: with_header(b"{" + b" " * 10**6, b""), "no record"),
        (lambda content: struct.pack("<Q", 10**9) + b"{" * 100, "no record"),
        (lambda content: b"PK\x03\x04" + content, "no record"),
        (lambda content: content.replace(b"flatten", b"flattem", 1), "its checksum differs"),
    ],
)
def test_a_foreign_file_is_refused_in_words(records, make, said, tmp_path):
    records["default"].save(tmp_path / "record.safetensors")

    text = refusal(make((tmp_path / "record.safetensors").read_bytes()), tmp_path)

    assert said in text
    assert "file.safetensors" in text


@pytest.mark.parametrize("side", ["inputs", "output", "own", "gradient", "float64"])
def test_a_comparison_with_an_error_below_0_is_refused(records, side, tmp_path):
    error = -1e308 if side == "float64" else Difference(-1e308, 0.0)
    first, *others = records["comparison"].measured
    wrong = replace(records["comparison"], measured=(replace(first, **{side: error}), *others))
    wrong.save(tmp_path / "record.safetensors")

    assert "below 0" in refusal((tmp_path / "record.safetensors").read_bytes(), tmp_path)


def test_a_record_sorted_by_no_column_of_its_own_is_refused(records, tmp_path):
    wrong = replace(records["summary"], view=View(sort="tensor.0"))
    wrong.save(tmp_path / "record.safetensors")

    assert "sort" in refusal((tmp_path / "record.safetensors").read_bytes(), tmp_path)


def test_a_range_with_one_end_is_refused(records, tmp_path):
    first, *others = records["params"].rows
    first = replace(first, tensor=replace(first.tensor, max=None))
    replace(records["params"], rows=(first, *others)).save(tmp_path / "record.safetensors")

    assert "range" in refusal((tmp_path / "record.safetensors").read_bytes(), tmp_path)


def test_the_run_of_each_rank_is_looked_through(records, tmp_path):
    ranks = records["ranks"].ranks
    for place in range(len(ranks)):
        log = replace(ranks[place].log, step=ranks[place].log.step[:-1])
        wrong = [*ranks[:place], replace(ranks[place], log=log), *ranks[place + 1 :]]
        records["ranks"].__class__(ranks=tuple(wrong)).save(tmp_path / "record.safetensors")

        assert "length" in refusal((tmp_path / "record.safetensors").read_bytes(), tmp_path)


def test_a_file_that_is_not_there_is_told_as_python_tells_it(records, tmp_path):
    with pytest.raises(FileNotFoundError):
        nnmagic.load(tmp_path / "nothing.safetensors")
    with pytest.raises(OSError, match=r"no_folder"):
        records["default"].save(tmp_path / "no_folder" / "record.safetensors")


def test_a_saved_run_is_compared_by_its_path(records, tmp_path):
    trace, path = records["odd"], tmp_path / "run.safetensors"
    trace.save(path)

    expected = trace.compare(trace)

    assert trace.compare(path) == nnmagic.compare(str(path), trace) == expected
    records["params"].save(path)
    with pytest.raises(ValueError, match=r"run\.safetensors holds a Params, no Trace"):
        trace.compare(path)
