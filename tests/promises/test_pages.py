import re
import textwrap
import tomllib
from pathlib import Path

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.display.table import Column
from nnmagic.records import trace_table

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md")
FOLDERS = (".", "nnmagic", "nnmagic/widget", "nnmagic/widget/static")


def the_folders():
    return {path.parent.name for path in (ROOT / "nnmagic").glob("*/__init__.py")}


def test_the_architecture_names_the_packages_folders():
    assert set(re.findall(r"^\| `(\w+)/` \|", ARCHITECTURE, re.MULTILINE)) == the_folders()


def test_the_way_of_a_line_is_the_order_of_the_imports():
    (way,) = re.findall(r"^    (magics -> .*)$", ARCHITECTURE, re.MULTILINE)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["id"] == "layers"]

    order = [name for layer in layers for name in layer.split(" | ") if name in the_folders()]
    assert way.split(" -> ") == order


def test_every_word_of_the_glossary_is_explained_once():
    section = ARCHITECTURE.split("## Glossary")[1]
    words = [
        word
        for words in re.findall(r"^\| (?!word|-)(.+?) \|", section, re.MULTILINE)
        for word in words.split(", ")
    ]

    assert 20 <= len(words) == len(set(words))


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_a_page_names_are_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    names = re.findall(r"`([\w./-]+\.(?:py|js|css|mjs|md|toml|yaml|yml|ipynb)|[\w./-]+/)`", text)
    names += re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert names

    missing = [
        name for name in names if not any((ROOT / folder / name).exists() for folder in FOLDERS)
    ]
    assert missing == []


def test_the_column_that_contributing_adds_is_shown(monkeypatch):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (column,) = re.findall(r"```python\n( *Column\(.*?)```", text, re.DOTALL)
    (test,) = re.findall(r"```python\n( *def test_.*?)```", text, re.DOTALL)
    names = {"Column": Column, "nnmagic": nnmagic, "nn": nn, "torch": torch}
    (added,) = eval(column.strip(), names)
    monkeypatch.setattr(trace_table, "COLUMNS", (*trace_table.COLUMNS, added))
    monkeypatch.setenv("COLUMNS", "200")

    exec(textwrap.dedent(test), names)
    names["test_a_call_shows_the_norm_of_its_output"]()
