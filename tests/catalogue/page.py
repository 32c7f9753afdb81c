"""Writes docs/failures.md: `python tests/catalogue/page.py`."""

import sys
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from IPython.core.error import UsageError

from catalogue import networks, shapes, targets, values
from catalogue.case import GIVEN, Case

PAGE = Path(__file__).parents[2] / "docs" / "failures.md"

SECTIONS = {
    "Widths and axes": shapes.AXES,
    "Pictures": shapes.PICTURES,
    "Sequences, positions and masks": shapes.SEQUENCES,
    "Dtypes and devices": values.DTYPES,
    "Losses and targets": targets.TARGETS,
    "What is no tensor": values.VALUES,
    "How a network is written": networks.NETWORKS,
    "What is typed": networks.LINES,
    "What raises nothing": networks.SILENT,
}

HEAD = """\
# Failures, what nnmagic says of them, and what mends them

Each of these programs fails, or misleads. A test runs them all in IPython, compares what nnmagic
says with this page, and runs each again with its remedy, which works.
`python tests/catalogue/page.py` writes the page anew.

Before each program stands:

```python
{given}```

Where only layers and a forward are shown, they are of `class Net(nn.Module)`, and `net = Net()`.
"""


def run(session, program: str, line: str, name: str) -> BaseException | None:
    """Run a program and a line in a shell; return what it raised."""
    names = session.shell.user_ns
    for name in names.keys() - session.shell.user_ns_hidden.keys():
        if not name.startswith("_"):
            del names[name]  # a reset of the shell would collect garbage, half a second each time
    try:
        session.run(GIVEN + program)
    except Exception as error:
        raise RuntimeError(f"{name}: the program itself fails") from error
    try:
        session.result = session.run(line)
    except Exception as error:  # noqa: BLE001 - which one is what the page tells
        return error
    return None


def message(session, case: Case) -> str:
    """Return what nnmagic says of a case."""
    error = run(session, case.program, case.line, case.title)
    if isinstance(error, UsageError):
        return str(error)
    if error is not None:
        notes = [note.removeprefix("nnmagic: ") for note in getattr(error, "__notes__", [])]
        return f"{type(error).__name__}: {' '.join(notes)}"
    table = session.result.table()
    told = (*table.notes, *table.cells("flags"))
    return next((text for text in told if case.shows and case.shows in text), "")


def page(messages: dict[str, str]) -> str:
    """Return the page.

    Args:
        messages: what nnmagic says of each case, by its title.
    """
    lines = [HEAD.format(given=GIVEN)]
    for section, cases in SECTIONS.items():
        lines += [f"## {section}", "", "| | program | nnmagic says | remedy |", "|---|---|---|---|"]
        for case in cases:
            code = "<br>".join(map(_code, case.shown))
            said = _text(messages[case.title])
            lines.append(f"| {case.title} | {code} | {said} | {case.remedy}: {_mend(case)} |")
        lines.append("")
    return "\n".join(lines)


def _mend(case: Case) -> str:
    """Return what is put in place of what."""
    pairs = ((old.strip(), new.strip()) for old, new in case.mend)
    return ", ".join(
        f"{_code(new)} for {_code(old)}" if new else f"without {_code(old)}" for old, new in pairs
    )


def _code(line: str) -> str:
    shown = escape(line, quote=False).replace("|", "&#124;").replace("\n", "<br>")
    return f"<code>{shown.replace('    ', '&nbsp;&nbsp;&nbsp;&nbsp;')}</code>"


def _text(text: str) -> str:
    shown = escape(text, quote=False)
    for mark in "|*_`":
        shown = shown.replace(mark, f"&#{ord(mark)};")
    return shown


def messages(session) -> dict[str, str]:
    """Return what nnmagic says of each case, by its title."""
    return {case.title: message(session, case) for cases in SECTIONS.values() for case in cases}


if __name__ == "__main__":
    from conftest import shell_session

    with shell_session() as session:
        PAGE.write_text(page(messages(session)), encoding="utf-8")
