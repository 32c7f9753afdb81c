import ast
from pathlib import Path

from importlinter.cli import lint_imports

import nnmagic

PACKAGE = Path(nnmagic.__file__).parent
ROOT = Path(__file__).parents[2]


def test_files_import_only_from_folders_below():
    """The contracts, and why there are such, stand in pyproject.toml."""
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_logo=True) == 0


def test_a_file_says_in_one_sentence_what_it_is():
    sentences = {
        path: (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        for path in PACKAGE.rglob("*.py")
    }

    assert len(sentences) > 200
    assert [path for path, text in sentences.items() if not text.endswith((".", ":"))] == []


def test_no_file_hides_a_public_function_of_its_name():
    assert {path.stem for path in PACKAGE.iterdir()} & set(nnmagic.__all__) == set()
