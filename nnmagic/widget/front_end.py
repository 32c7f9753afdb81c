"""The front end as one ES module and one style sheet, without comments and indentation."""

import re
from collections.abc import Sequence
from pathlib import Path

STATIC = Path(__file__).parent / "static"
MODULES = (
    *("format", "rows", "dom", "session", "colors", "chart", "histogram", "curves", "written"),
    *("pictures", "lanes", "columns", "known", "row", "grid", "copying", "popup", "splitter"),
    *("panel", "input", "points", "iterations", "findings", "widget"),
)


def script() -> str:
    """Return the front end as one ES module: its modules in order, joined.

    Each is a plain module that node and a browser can load as it is; only the lines that import
    one from another, and the word `export`, are left out.
    """
    return _joined(MODULES)


def page_script() -> str:
    """Return the same, and what stands in for a kernel in a page of its own."""
    return _joined((*MODULES, "page"))


def _joined(modules: Sequence[str]) -> str:
    texts = [(STATIC / f"{name}.js").read_text(encoding="utf-8") for name in modules]
    text = re.sub(r"^import .*\n", "", "\n".join(texts), flags=re.MULTILINE)
    return minified(re.sub(r"^export (?!default)", "", text, flags=re.MULTILINE))


def style() -> str:
    """Return the style sheet."""
    return minified((STATIC / "widget.css").read_text(encoding="utf-8"))


def minified(text: str) -> str:
    """Return a script or a style sheet without indentation, blank lines and lines of comment.

    A comment has lines of its own, and no text in backticks goes over lines.
    """
    lines = map(str.strip, re.sub(r"^\s*/\*.*?\*/$", "", text, flags=re.DOTALL | re.M).splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))
