"""The front end as one ES module and one style sheet, without comments and spare spaces."""

import re
from collections.abc import Sequence
from pathlib import Path

STATIC = Path(__file__).parent / "static"
MODULES = (
    *("format", "dom", "session", "colors", "chart", "histogram", "curves", "written", "pictures"),
    *("lanes", "rows", "columns", "known", "row", "grid", "copying", "popup", "splitter"),
    *("panel", "input", "points", "iterations", "findings", "widget"),
)

TEXTS = re.compile(r"""("(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\\n])*`|/(?![/*\s])(?:\\.|[^/\\\n])+/)""")
"""The texts, templates and regular expressions of a script, in which each space counts."""


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
    return minified_script(re.sub(r"^export (?!default)", "", text, flags=re.MULTILINE))


def style() -> str:
    """Return the style sheet."""
    return minified_style((STATIC / "widget.css").read_text(encoding="utf-8"))


def minified_script(text: str) -> str:
    """Return a script without comments, indentation, and spaces and line ends around signs.

    A comment has lines of its own; no text in backticks goes over lines or holds another; a
    division has spaces around it, a regular expression has none after its first slash; a
    semicolon before a brace ends a statement that is not empty.
    """
    parts = TEXTS.split(_lines(text))
    signs = r" ?([=<>?:()[\]&|!]) ?| ?([;,{}])\s?|(?:(?<=[\w)\]]) |(?<=[)\]] ))([-+*/%]) (?=[\w(])"
    parts[::2] = [re.sub(signs, r"\1\2\3", part).replace(";}", "}") for part in parts[::2]]
    return "".join(parts)


def minified_style(text: str) -> str:
    """Return a style sheet without comments, indentation, and spaces and line ends around signs."""
    return re.sub(r" ?([{}>])\s?|([:;,])\s", r"\1\2", _lines(text))


def _lines(text: str) -> str:
    lines = map(str.strip, re.sub(r"^\s*/\*.*?\*/$", "", text, flags=re.DOTALL | re.M).splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))
