"""Files of tensors that are broken, foreign, or made to do harm."""

import json
import os
import pickle

import pytest
import safetensors.torch
import torch
from torch import nn

import nnmagic


class RunsCode:
    """What a pickle can do."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def refusal(path):
    """Return why a file is refused: one line that names it."""
    with pytest.raises(ValueError, match="cannot be compared") as raised:
        nnmagic.compare(network(), path)
    text = str(raised.value)
    assert str(path) in text
    assert "\n" not in text
    assert len(text) < 500
    return text


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path):
    torch.save({"a": torch.ones(2), "b": RunsCode(tmp_path / "ran")}, tmp_path / "evil.pt")
    with open(tmp_path / "plain.pt", "wb") as file:
        pickle.dump({"a": RunsCode(tmp_path / "ran")}, file, protocol=2)

    text = refusal(tmp_path / "evil.pt")
    refusal(tmp_path / "plain.pt")

    assert "would run code (posix.mkdir)" in text
    assert "weights_only=False" in text
    assert not (tmp_path / "ran").exists()


def test_a_whole_network_is_refused_with_what_to_type(tmp_path):
    torch.save(network(), tmp_path / "net.pt")
    torch.jit.script(network()).save(tmp_path / "script.pt")

    assert "torch.load(" in refusal(tmp_path / "net.pt")
    assert "torch.jit.load(" in refusal(tmp_path / "script.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".bin", ""])
def test_what_is_cut_short_changed_or_foreign_is_refused(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(network().state_dict(), path)
    else:
        torch.save(network().state_dict(), path)
    whole = path.read_bytes()
    contents = [b"", b"x", b"hello world, this is no file of tensors", b"{" * 100, whole[:-5],
                whole[: len(whole) // 2], whole[5:], (1 << 40).to_bytes(8, "little") + whole[8:],
                (1 << 60).to_bytes(8, "little") + b"{}"]  # fmt: skip

    for content in contents:
        path.write_bytes(content)
        refusal(path)


@pytest.mark.parametrize("value", [torch.ones(3), [torch.ones(3)], {"epoch": 3}, 7])
def test_what_holds_no_names_and_tensors_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "value.pt")

    refusal(tmp_path / "value.pt")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"weight_map": {"a": "../whole.safetensors"}}, "no file beside"),
        ({"weight_map": {"a": "/etc/passwd"}}, "no file beside"),
        ({"weight_map": {"a": "index.json"}}, "no file beside"),
        ({"weight_map": {"a": "other.safetensors"}}, "missing"),
        ({"weight_map": {"a": "whole.safetensors"}}, "lack a"),
        ({"weight_map": {"a": 3}}, "no weight_map"),
        ([], "no weight_map"),
    ],
)
def test_an_index_stays_in_its_folder_and_has_all_that_it_names(tmp_path, content, reason):
    safetensors.torch.save_file({"b": torch.ones(1)}, tmp_path / "whole.safetensors")
    (tmp_path / "index.json").write_text(json.dumps(content))

    assert reason in refusal(tmp_path / "index.json")


def test_deep_json_is_refused(tmp_path):
    (tmp_path / "index.json").write_text("[" * 100_000)

    refusal(tmp_path / "index.json")


def test_a_folder_is_read_by_what_is_in_it(tmp_path):
    net = network()
    refusal(tmp_path)
    torch.save(net.state_dict(), tmp_path / "a.pt")
    assert nnmagic.compare(net, tmp_path).counts == {"equal": 7}
    torch.save(net.state_dict(), tmp_path / "b.pt")

    assert "a.pt, b.pt" in refusal(tmp_path)


def test_a_record_of_another_kind_is_refused(tmp_path):
    nnmagic.summary(network(), torch.rand(2, 3)).save(tmp_path / "summary.safetensors")

    assert "a Summary" in refusal(tmp_path / "summary.safetensors")


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        nnmagic.compare(network(), tmp_path / "nothing.pt")
