"""See what a PyTorch network does: which layers run, on what shapes, with what values.

In IPython or a notebook type `%load_ext nnmagic`, then `%nntrace net(x)`. From Python: `trace`,
`tracing`, `summary`, `params`.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnmagic.networks import NeuralNetwork, default_input, default_network
    from nnmagic.parameters import params
    from nnmagic.params_records import Params
    from nnmagic.pictures import fashion_mnist
    from nnmagic.recording import trace, tracing
    from nnmagic.structure import summary
    from nnmagic.summary_records import Summary
    from nnmagic.trace_records import Trace
    from nnmagic.watching import watch

HOMES = {
    "NeuralNetwork": "networks",
    "Params": "params_records",
    "Summary": "summary_records",
    "Trace": "trace_records",
    "default_input": "networks",
    "default_network": "networks",
    "fashion_mnist": "pictures",
    "params": "parameters",
    "summary": "structure",
    "trace": "recording",
    "tracing": "recording",
    "watch": "watching",
}
"""The module of each public name; it is imported when the name is first used."""

__all__ = [
    "NeuralNetwork",
    "Params",
    "Summary",
    "Trace",
    "default_input",
    "default_network",
    "fashion_mnist",
    "params",
    "summary",
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
    from nnmagic.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics away; IPython calls this for `%unload_ext nnmagic`."""
    from nnmagic.extension import unload

    unload(shell)
