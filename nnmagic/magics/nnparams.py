"""What `%nnparams` is answered with: parameters, or with `--against` those of two sides."""

import os
from collections.abc import Mapping
from typing import Any

from IPython.core.error import UsageError
from torch import nn

from nnmagic.magics.against import other_side
from nnmagic.magics.remedies import described, remedy, require_init
from nnmagic.magics.request import Request
from nnmagic.network.calls import CallCounter, observed
from nnmagic.records.comparison.parameters import ParamsComparison
from nnmagic.records.params import Params
from nnmagic.records.record import VALUES_SHOWN
from nnmagic.structure.parameter_comparison import compare_parameters
from nnmagic.structure.parameters import params

WANTED = "a network, a state dict, a record of %nnparams, or the path of a file"


def params_of(request: Request) -> Params | ParamsComparison:
    """Return the parameters that a line asks for, beside others where it asks for that."""
    __tracebackhide__ = True
    if request.options.against is not None:
        return _compared_with(request, _params_subject(request))
    values = VALUES_SHOWN if request.options.values is None else request.options.values
    grad = request.options.grad
    value = _params_subject(request)
    try:
        return params(value, values=values, grad=grad, title=request.expression or "NeuralNetwork")
    except TypeError as error:
        raise UsageError(
            f"{request.expression!r}: {error}; type a network or a state dict"
        ) from None


def _params_subject(request: Request) -> nn.Module | Mapping[str, Any]:
    """Return the network or the state dict of a line, the default network where it names none."""
    __tracebackhide__ = True
    if not request.expression:
        return request.default_network()
    expression = request.python()
    call = expression.parts()
    if call is not None and isinstance(call.function, nn.Module):
        function = request.expression.partition("(")[0]
        raise UsageError(f"{request.expression!r} is a call; type the network alone: {function}")
    counter = CallCounter()
    with observed(counter):
        value = expression.value() if call is None else call()
    if counter.calls or not isinstance(value, nn.Module | Mapping):
        wanted = remedy(request.expression, value, "a network or a state dict")
        raise UsageError(f"{request.expression!r} gives {described(value)}; {wanted}")
    require_init(value)
    return value


def _compared_with(request: Request, mine: nn.Module | Mapping[str, Any]) -> ParamsComparison:
    """Return the parameters of a line beside those of what it holds them against.

    Raises:
        UsageError: if that has no parameters; the text says what to type.
    """
    __tracebackhide__ = True
    if request.options.grad:
        raise UsageError("--against compares values, not gradients; leave out --grad")
    other = other_side(request, (nn.Module, Mapping, Params), WANTED)
    titles = request.expression or "NeuralNetwork", request.options.against
    try:
        return compare_parameters(mine, other, titles=titles)
    except FileNotFoundError:
        raise UsageError(f"there is no file {os.fspath(other)!r}; type {WANTED}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{error}") from None
