"""See what a PyTorch network does: which layers run, on what shapes, with what values.

In IPython or a notebook type `%load_ext nnmagic`, then `%nntrace net(x)`. From Python: `trace`,
`tracing`, `summary`, `summary_with`, `params`.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnmagic.api import against, compare, summary, summary_with, trace, tracing
    from nnmagic.records.comparison.comparison import Comparison
    from nnmagic.records.comparison.parameters import ParamsComparison
    from nnmagic.records.loading.file import load
    from nnmagic.records.params import Params
    from nnmagic.records.summary import Summary
    from nnmagic.records.trace import Trace
    from nnmagic.structure.parameters import params
    from nnmagic.tutorial import NeuralNetwork, default_input, default_network, fashion_mnist
    from nnmagic.widget.watching import watch

HOMES = {
    "Comparison": "records.comparison.comparison",
    "NeuralNetwork": "tutorial",
    "Params": "records.params",
    "ParamsComparison": "records.comparison.parameters",
    "Summary": "records.summary",
    "Trace": "records.trace",
    "against": "api",
    "compare": "api",
    "default_input": "tutorial",
    "default_network": "tutorial",
    "fashion_mnist": "tutorial",
    "load": "records.loading.file",
    "params": "structure.parameters",
    "summary": "api",
    "summary_with": "api",
    "trace": "api",
    "tracing": "api",
    "watch": "widget.watching",
}
"""The module of each public name; it is imported when the name is first used."""

__all__ = [
    "Comparison",
    "NeuralNetwork",
    "Params",
    "ParamsComparison",
    "Summary",
    "Trace",
    "against",
    "compare",
    "default_input",
    "default_network",
    "fashion_mnist",
    "load",
    "params",
    "summary",
    "summary_with",
    "trace",
    "tracing",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("nnmagic")
    if name not in HOMES:
        raise AttributeError(f"module 'nnmagic' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"nnmagic.{HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def load_ipython_extension(shell: Any) -> None:
    """Load the magics; IPython calls this for `%load_ext nnmagic`."""
    from nnmagic.magics.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics away; IPython calls this for `%unload_ext nnmagic`."""
    from nnmagic.magics.extension import unload

    unload(shell)
