"""Floating-point operations, by the definition and the formulas of `torch.utils.flop_counter`.

Two for each multiply-add of matrix products, convolutions and attention; biases, activations and
normalisation are not counted.
"""

from collections import Counter
from collections.abc import Callable
from math import prod
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, shape_wrapper

PRODUCTS_WITHOUT_FORMULA = (
    "_cdist",
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
    "addr",
    "linalg_cholesky",
    "linalg_eig",
    "linalg_householder",
    "linalg_inv",
    "linalg_ldl",
    "linalg_lstsq",
    "linalg_lu",
    "linalg_matrix_exp",
    "linalg_qr",
    "linalg_solve",
    "linalg_svd",
    "mkldnn_rnn",
)
"""How the names of the torch operations begin that multiply and add but have no formula."""


def _matrix_vector(matrix: tuple[int, ...], *_: Any, **__: Any) -> int:
    return 2 * prod(matrix)


def _added_matrix_vector(_: Any, matrix: tuple[int, ...], *__: Any, **___: Any) -> int:
    return 2 * prod(matrix)


def _added_batched(_: Any, left: tuple[int, ...], right: tuple[int, ...], **__: Any) -> int:
    return 2 * prod(left) * right[-1]


FORMULAS = {
    name: shape_wrapper(formula)
    for name, formula in {
        "mv": _matrix_vector,
        "dot": _matrix_vector,
        "vdot": _matrix_vector,
        "addmv": _added_matrix_vector,
        "addbmm": _added_batched,
    }.items()
}
"""Products that torch's counter passes over, by the same definition."""


Kernels = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""Gives the result of an operation for plain tensors."""


class FlopCounter(TorchDispatchMode):
    """Counts while it is active.

    Args:
        kernels: gives the results of the operations; None leaves them to torch.

    Attributes:
        total: floating-point operations so far.
        uncounted: operations with products in them for which there is no formula, by name.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the default imports torch._dynamo, which takes a second

    def __init__(self, kernels: Kernels | None = None) -> None:
        super().__init__()
        self.kernels = kernels
        self.total = 0
        self.uncounted = Counter[str]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        __tracebackhide__ = True
        kwargs = kwargs or {}
        if self.kernels is None or types:
            output = func(*args, **kwargs)
        else:
            output = self.kernels(func, args, kwargs)
        packet = func._overloadpacket
        formula = flop_registry.get(packet) or FORMULAS.get(packet.__name__)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=output)
        elif func.namespace not in ("aten", "prim", "prims"):
            self.uncounted[f"{func.namespace}::{packet.__name__}"] += 1
        elif packet.__name__.startswith(PRODUCTS_WITHOUT_FORMULA):
            self.uncounted[packet.__name__] += 1
        return output
