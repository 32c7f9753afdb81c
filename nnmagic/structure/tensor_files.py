"""The tensors in a file: of safetensors, of `torch.save`, in shards, or of a saved record."""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from nnmagic.display.units import cut, listed, with_article
from nnmagic.records.loading.file import load
from nnmagic.records.params import Params
from nnmagic.structure.named_tensors import NamedTensors, tensors_of_mapping

BY_PICKLE = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
"""How files that `torch.save` wrote are called."""

IN_A_FOLDER = (
    *("model.safetensors.index.json", "model.safetensors"),
    *("pytorch_model.bin.index.json", "pytorch_model.bin"),
    *("diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model.safetensors"),
)
"""What a folder is read by, the first that is there."""

CODE = re.compile(r"GLOBAL (\S+)")
"""What torch names that a pickle would call."""

LONGEST_REASON = 200


def tensors_of_file(path: str | os.PathLike[str]) -> NamedTensors | Params:
    """Return the tensors in a file or a folder, each read when it is asked for.

    Args:
        path: a `.safetensors` file, one that `torch.save` wrote (no code in it is run), the index
            of several, a folder with one of those, or a file that `record.save` wrote.

    Raises:
        OSError: if there is no such file.
        ValueError: if it holds no tensors that can be read; the text says why in one line.
    """
    path = Path(path).expanduser()
    title, typed = str(path), repr(str(path))
    try:
        if path.is_dir():
            return tensors_of_file(_in_folder(path))
        with open(path, "rb") as file:  # the readers' own errors do not tell what is missing
            start = file.read(9)
        if path.suffix == ".json":
            return _of_index(path, title, typed)
        if path.suffix == ".safetensors" or (path.suffix not in BY_PICKLE and start[8:] == b"{"):
            return _of_safetensors(path, title, typed)
        return tensors_of_mapping(_unpickled(path), title, typed)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - a hostile file may break any step of it
        reason = cut(" ".join(str(error).split()), LONGEST_REASON) or type(error).__name__
        raise ValueError(f"{title} cannot be compared: {reason}") from None


def _in_folder(folder: Path) -> Path:
    for name in IN_A_FOLDER:
        if (folder / name).is_file():
            return folder / name
    endings = (".safetensors", *BY_PICKLE, ".safetensors.index.json", ".bin.index.json")
    found = sorted(each for each in folder.iterdir() if each.name.endswith(endings))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError("the folder holds no file of tensors, such as model.safetensors")
    raise ValueError(f"type one of the files in it: {listed([each.name for each in found])}")


def _of_safetensors(path: Path, title: str, typed: str) -> NamedTensors | Params:
    file = safe_open(path, framework="pt", device="cpu")
    if "nnmagic" in (file.metadata() or {}):
        record = load(path)
        if not isinstance(record, Params):
            kind = with_article(type(record).__name__)
            raise ValueError(f"it holds {kind}; type the file of a Params record, or of tensors")
        return record
    return NamedTensors(
        title=title,
        typed=typed,
        keys={name: name for name in file.keys()},  # noqa: SIM118 - the file is no mapping
        tensor=file.get_tensor,
    )


def _of_index(path: Path, title: str, typed: str) -> NamedTensors:
    """Return the tensors that an index spreads over several files."""
    content = json.loads(path.read_text(encoding="utf-8"))
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not all(isinstance(each, str) for each in places.values()):
        raise ValueError("it is no index of shards: it has no weight_map")
    shards: dict[str, NamedTensors] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name or name in ("", ".", "..") or name.endswith(".json"):
            raise ValueError(f"the shard {name!r} is no file beside the index")
        try:
            shard = tensors_of_file(path.with_name(name))
        except FileNotFoundError:
            raise ValueError(f"the shard {name} is missing") from None
        if not isinstance(shard, NamedTensors):
            raise ValueError(f"the shard {name} is a record")
        shards[name] = shard
    lacking = [name for name, place in places.items() if name not in shards[place].keys]
    if lacking:
        raise ValueError(f"its shards lack {listed(lacking)}")
    return NamedTensors(
        title=title,
        typed=typed,
        keys={name: (place, shards[place].keys[name]) for name, place in places.items()},
        tensor=lambda name: shards[places[name]].tensor(name),
    )


def _unpickled(path: Path) -> Mapping[Any, Any]:
    """Return what `torch.save` wrote, its values mapped into memory; no code is run.

    Raises:
        ValueError: if it holds more than tensors in plain containers, or no mapping.
    """
    try:
        with suppress(RuntimeError):  # an old file cannot be mapped
            return _mapping(torch.load(path, weights_only=True, map_location="cpu", mmap=True))
        return _mapping(torch.load(path, weights_only=True, map_location="cpu"))
    except Exception as error:  # noqa: BLE001 - a hostile file may break any step of it
        raise ValueError(_why_not_unpickled(path, error)) from None


def _mapping(value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"it holds {with_article(type(value).__name__)}, not names and tensors")
    return value


def _why_not_unpickled(path: Path, error: Exception) -> str:
    text = str(error)
    if isinstance(error, TypeError):
        return text
    if "TorchScript" in text:
        return f"it is a TorchScript archive; type torch.jit.load({str(path)!r})"
    found = CODE.search(text)
    if found:
        return (
            f"it would run code ({found[1]}), and was not loaded; if you trust who made it, type "
            f"torch.load({str(path)!r}, weights_only=False)"
        )
    return "it is cut short, or not written by torch.save"
