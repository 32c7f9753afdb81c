"""Small networks and calls, each with the truth about it worked out by hand."""

from importlib import import_module

from corpus.case import CASES, UNKNOWN

FILES = (
    "arguments",
    "calls",
    "modes",
    "modules",
    "sequences",
    "layers",
    "compiled",
    "hooks",
    "failures",
    "tensors",
    "nonfinite",
)

for name in FILES:
    import_module(f"corpus.{name}")

__all__ = ["CASES", "UNKNOWN"]
