"""Quantities as text: counts, bytes, shapes, percentages, measured numbers."""

from collections.abc import Sequence
from typing import Any

BINARY_PREFIXES = (" B", " KiB", " MiB", " GiB", " TiB", " PiB")
DECIMAL_PREFIXES = ("", " k", " M", " G", " T", " P")

UNKNOWN = "unknown"

Shape = tuple[Any, ...] | dict[Any, Any] | None
"""A tensor's shape, or shapes nested as the tensors are, in tuples and dicts."""


def printable(text: str) -> str:
    """Return the text with everything that a terminal would obey or hide written as an escape."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )


def cut(text: str, longest: int) -> str:
    """Return the beginning of a text that is too long for a display, which says how long it is."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… ({len(text):,} characters)"


def count(number: int | None) -> str:
    """Return a count in full up to a million and in three digits with a decimal prefix beyond."""
    if number is None:
        return UNKNOWN
    if abs(number) < 1_000_000:
        return f"{number:,}"
    return _prefixed(number, 1000, DECIMAL_PREFIXES)


def size(size_bytes: int | None) -> str:
    """Return a number of bytes in binary units (factor 1024)."""
    if size_bytes is None:
        return UNKNOWN
    return f"{size_bytes} B" if size_bytes < 1024 else _prefixed(size_bytes, 1024, BINARY_PREFIXES)


def _prefixed(number: float, factor: int, prefixes: Sequence[str]) -> str:
    """Return a number in three digits with the prefix that suits it."""
    prefix = 0
    while abs(number) >= factor - 0.5 and prefix < len(prefixes) - 1:
        number, prefix = number / factor, prefix + 1
    return f"{number:.{max(0, 3 - len(str(int(abs(number)))))}f}{prefixes[prefix]}"


def percent(fraction: float | None) -> str:
    """Return a fraction in 0..1 as a percentage; what is not exactly 0 or 1 never reads as such."""
    if fraction is None:
        return ""
    if 0 < fraction < 0.005:
        return "<1 %"
    if 0.995 <= fraction < 1:
        return ">99 %"
    return f"{100 * fraction:.0f} %"


def numbers(*values: float | None) -> tuple[str, ...]:
    """Return measured numbers in one common format, so that they can be compared at a glance.

    Three decimals where the largest is in 0.01 .. 1,000, one decimal up to 100,000, powers of ten
    elsewhere. An unknown number is an empty text.
    """
    scale = max((abs(value) for value in values if value is not None), default=0.0)
    if scale == 0 or 0.01 <= scale < 1000:
        digits = ".3f"
    else:
        digits = ".1f" if 1000 <= scale < 100_000 else ".2e"
    return tuple("" if value is None else _number(value, digits) for value in values)


def pair(first: float | None, second: float | None) -> tuple[str, ...]:
    """Return two measured numbers in one common format, integers in full."""
    if isinstance(first, int) and isinstance(second, int):
        return f"{first:,}", f"{second:,}"
    return numbers(first, second)


def error(number: float) -> str:
    """Return a relative error in few digits: ``0.400``, ``2.0e-07``, and ``0`` for none."""
    if not number:
        return "0"
    return f"{number:.1e}" if number < 0.01 else numbers(number)[0]


def _number(value: float, digits: str) -> str:
    text = f"{value:{digits}}"
    return text[1:] if text.startswith("-") and float(text) == 0 else text  # no negative zero


def shape(shape: Shape) -> str:
    """Return a shape, or nested shapes, as Python would write them with bare keys.

    ``{"logits": (1, 10)}`` becomes ``{logits: (1, 10)}``; no tensor at all is an empty text.
    """
    return "" if shape is None else _nested_shape(shape)


def _nested_shape(value: Any) -> str:
    if isinstance(value, dict):
        named = (f"{printable(str(key))}: {_nested_shape(each)}" for key, each in value.items())
        return f"{{{', '.join(named)}}}"
    kinds = {*map(type, value)} if isinstance(value, tuple) else ()
    if not any(issubclass(kind, tuple | dict) for kind in kinds):
        return str(value)
    inside = ", ".join(map(shape, value))
    return f"({inside},)" if len(value) == 1 else f"({inside})"


def told_apart(mine: str, other: str) -> tuple[str, str]:
    """Return what two sides are called, with a letter where both have one name."""
    return (mine, other) if mine != other else (f"{mine} (a)", f"{other} (b)")


def layer_name(network: str, layer: str) -> str:
    """Return what a sentence calls a layer; the network and bare numbers get the network's name."""
    if not layer:
        return network
    return f"{network}.{layer}" if layer[0].isdecimal() else layer


def layer_with_type(name: str, type_name: str) -> str:
    """Return ``fc (Linear)``, and ``Linear`` for a layer that has no name but its class's."""
    if name in (type_name, f"({type_name})"):
        return type_name
    return name if name.endswith(f"({type_name})") else f"{name} ({type_name})"


def plural(number: int, noun: str) -> str:
    """Return ``1 call`` or ``8 calls``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first names with commas, and how many there are besides: ``a, b and 3 more``."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def with_article(noun: str) -> str:
    """Return a class name after its article: ``a Tensor``, ``an Int8Tensor``, ``an LSTM``."""
    spelled = noun[:2].isupper()  # its first letter is spoken by name
    return f"{'an' if noun[:1] in ('AEFHILMNORSX' if spelled else 'AEIOaeio') else 'a'} {noun}"
