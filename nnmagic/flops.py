"""Floating-point operations, by the definition and the formulas of `torch.utils.flop_counter`.

Two for each multiply-add of matrix products, convolutions and attention; biases, activations and
normalisation are not counted.
"""

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

PRODUCTS_WITHOUT_FORMULA = (
    "_cdist",
    "_ctc",
    "_cudnn_rnn",
    "_fft",
    "_int_mm",
    "_native_multi_head",
    "_scaled_dot_product",
    "_sparse",
    "_thnn_fused",
    "_transformer_encoder",
    "_trilinear",
    "_weight_int",
    "addbmm",
    "addmv",
    "addr",
    "bilinear",
    "dot",
    "linalg_",
    "mkldnn_rnn",
    "mv",
    "vdot",
)
"""How the names of the torch operations begin that multiply and add but have no formula."""


class FlopCounter(TorchDispatchMode):
    """Counts while it is active.

    Attributes:
        total: floating-point operations so far.
        uncounted: operations with products in them for which there is no formula, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.uncounted = Counter[str]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        __tracebackhide__ = True
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        packet = func._overloadpacket
        formula = flop_registry.get(packet)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=output)
        elif func.namespace not in ("aten", "prim", "prims"):
            self.uncounted[f"{func.namespace}::{packet.__name__}"] += 1
        elif packet.__name__.startswith(PRODUCTS_WITHOUT_FORMULA):
            self.uncounted[packet.__name__] += 1
        return output
