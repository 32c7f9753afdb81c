import re
import tomllib
from pathlib import Path

import pytest

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
