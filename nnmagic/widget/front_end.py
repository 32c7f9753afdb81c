"""The front end as one ES module and one style sheet, squeezed to travel light."""

import re
from pathlib import Path

STATIC = Path(__file__).parent / "static"
MODULES = ("format", "rows", "colors", "pictures", "grid", "panel", "input", "widget")


def script() -> str:
    """Return the front end as one ES module: its modules in order, joined and squeezed.

    Each is a plain module that node and a browser can load as it is; only the lines that import
    one from another, and the word `export`, are left out.
    """
    texts = [(STATIC / f"{name}.js").read_text(encoding="utf-8") for name in MODULES]
    text = re.sub(r"^import .*\n", "", "\n".join(texts), flags=re.MULTILINE)
    return squeezed_script(re.sub(r"^export (?!default)", "", text, flags=re.MULTILINE))


def style() -> str:
    """Return the style sheet."""
    return squeezed_style((STATIC / "widget.css").read_text(encoding="utf-8"))


STRING = r"""("(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`)"""
PATTERN = r"""((?:(?<=[(,=:] )|(?<=[(,=:]))/(?![/*])(?:\\.|\[[^\]]*\]|[^/\\\n])+/[a-z]*)"""
COMMENT = r"(//[^\n]*|/\*.*?\*/)"
TOKEN = re.compile(f"{STRING}|{PATTERN}|{COMMENT}|(\\s+)", re.DOTALL)


def squeezed_script(script: str) -> str:
    """Return a script without comments and needless blanks; its lines still end where they did.

    Strings are in double quotes or backticks, none within another's braces, and a regular
    expression stands after a bracket, a comma, a colon or an equals sign.
    """

    def kept(match: re.Match[str]) -> str:
        string, pattern, comment, blank = match.groups()
        if string or pattern:
            return match[0]
        if comment:
            return ""
        if "\n" in blank:
            return "\n"
        before, after = script[match.start() - 1 : match.start()], script[match.end() :][:1]
        words = all(each.isalnum() or each in "_$" for each in (before, after))
        return " " if words or (before in "+-" and after in "+-") else ""

    return re.sub(r"([{,;(\[?:=|&+])?\n+", lambda m: m[1] or "\n", TOKEN.sub(kept, script))


def squeezed_style(style: str) -> str:
    """Return a style sheet without comments and needless blanks."""
    without = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)
    return re.sub(r"\s*([{};,>])\s*", r"\1", without).replace(": ", ":").strip()
