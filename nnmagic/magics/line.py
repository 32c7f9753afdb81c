"""A typed line cut into its options and the Python that is left."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from IPython.core.error import UsageError

OPENING, CLOSING = "([{", ")]}"
QUOTES = re.compile(r"""^(['"])(.*)\1$""", re.DOTALL)
UNKNOWN_OPTION = re.compile(r"--[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Line:
    """A line cut in two.

    Attributes:
        options: the words of the options, each value a word of its own, without its quotes.
        expression: the Python that is left, as it was typed.
        silenced: whether the line ends in a semicolon.
    """

    options: tuple[str, ...]
    expression: str
    silenced: bool = False


def split_line(line: str, takes_value: Mapping[str, bool]) -> Line:
    """Cut a line into the options before and after its expression, and the expression.

    A word is an option if it stands outside all brackets and quotes and is one of those that are
    known, or begins with `--` and a letter.

    Args:
        line: what was typed after the magic's name.
        takes_value: the options, each with whether a value follows it.

    Raises:
        UsageError: for an option that is unknown, lacks its value, or stands inside the expression.
    """
    text = without_comment(line).strip()
    silenced = is_silenced(line)
    if silenced:
        text = text[:-1].rstrip()
    words = iter(_words(text))
    options: list[str] = []
    python: list[tuple[int, int]] = []
    ended = False
    for start, end in words:
        word = text[start:end]
        name, equals, value = word.partition("=")
        if name not in takes_value:
            if UNKNOWN_OPTION.match(name):
                known = ", ".join(sorted(o for o in takes_value if o.startswith("--")))
                meant = get_close_matches(name, takes_value, n=1)
                hint = f"did you mean {meant[0]}? There" if meant else "there"
                raise UsageError(f"unknown option {name}; {hint} are {known}")
            if ended:
                raise UsageError(
                    f"options go before or after the expression, not inside it: "
                    f"{word!r} follows {options[-1]!r}"
                )
            python.append((start, end))
            continue
        ended = bool(python)
        if takes_value[name]:
            if not equals:
                following = next(words, None)
                if following is None:
                    raise UsageError(f"option {name} needs a value")
                value = text[slice(*following)]
            value = _unquoted(value)
            options += [f"{name}={value}"] if name.startswith("--") else [name, value]
        elif equals:
            raise UsageError(f"option {name} takes no value")
        else:
            options.append(name)
    expression = text[python[0][0] : python[-1][1]] if python else ""
    return Line(tuple(options), expression, silenced)


def is_silenced(line: str) -> bool:
    """Tell whether a line ends in a semicolon, a comment aside."""
    return without_comment(line).rstrip().endswith(";")


def without_comment(line: str) -> str:
    """Return the line without a trailing `# comment`; a `#` in quotes stays."""
    for i, depth in enumerate(_nesting(line)):
        if line[i] == "#" and depth is not None:
            return line[:i]
    return line


def _words(text: str) -> list[tuple[int, int]]:
    """Return where the words lie that spaces outside all brackets and quotes separate."""
    nesting = _nesting(text)
    spaces = [i for i, c in enumerate(text) if c.isspace() and nesting[i] == 0]
    bounds = zip([-1, *spaces], [*spaces, len(text)], strict=True)
    return [(before + 1, after) for before, after in bounds if after > before + 1]


def _nesting(text: str) -> list[int | None]:
    """Return for each character how many brackets are open around it; None within quotes.

    The standard `tokenize` cannot do this: a pattern such as `layer?.*` is no Python.
    """
    nesting: list[int | None] = []
    depth, quote = 0, ""
    while len(nesting) < len(text):
        rest = text[len(nesting) : len(nesting) + 3]
        c = rest[0]
        if quote:
            length = 2 if c == "\\" else len(quote) if rest.startswith(quote) else 1
            quote = "" if rest.startswith(quote) else quote
            nesting += [None] * length
        elif c in "\"'":
            quote = c * 3 if rest == c * 3 else c
            nesting += [None] * len(quote)
        else:
            depth = max(0, depth + (c in OPENING) - (c in CLOSING))
            nesting.append(depth)
    return nesting[: len(text)]


def _unquoted(value: str) -> str:
    quoted = QUOTES.match(value)
    return quoted[2] if quoted else value
