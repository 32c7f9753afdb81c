"""What a failed layer got against what it expects, and the line of code that called it."""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from nnmagic.network.calls import RunningCall
from nnmagic.network.failures.earlier_calls import EarlierCall, Given, sizes_of
from nnmagic.network.failures.expected_inputs import LAYERS, home_of_layer, name_of
from nnmagic.network.failures.expected_operands import unfit_operands
from nnmagic.network.failures.expected_targets import LOSSES
from nnmagic.network.failures.failing_code import FailingCode, quoted
from nnmagic.network.failures.wrong_values import (
    called_as,
    in_place_of_tensor,
    is_unspread,
    makes_a_layer,
    names_of,
)
from nnmagic.network.layers import is_initialised
from nnmagic.network.naming import Network
from nnmagic.tensors.shards import is_spread
from nnmagic.torch_private import children_of, parameters_of

KINDS = (*LAYERS, *LOSSES)

CallsSoFar = Callable[[], Sequence[EarlierCall]]

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""The layers of torch that pass on whatever they get."""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text."""
    try:
        return str(error).partition("\n")[0]
    except Exception:  # noqa: BLE001 - the text of an exception is the user's code too
        return ""


def said_by(error: BaseException) -> str:
    """Return an exception in one line: `"ValueError: its text"`, or that it has no text."""
    name, text = type(error).__name__, first_line(error)
    return f"{name}: {text}" if text else f"{name}, which says no more"


def annotate(error: BaseException, note: str) -> None:
    """Add a note to an exception, if it takes notes."""
    with suppress(Exception):
        error.add_note(f"nnmagic: {note}")


def mismatch(call: RunningCall[Any], error: BaseException, calls: CallsSoFar = tuple) -> str:
    """Return what the layer got and what it expects, `""` where they do not visibly differ.

    Args:
        call: the call of the layer, the innermost that failed.
        error: what it raised.
        calls: gives the calls that returned before it, the latest first.
    """
    if isinstance(error, RecursionError) and call.parent and call.parent.module is call.module:
        return "calls itself without end"
    try:
        arguments, unfit = _bound(call)
        if unfit and isinstance(error, TypeError):
            return unfit
        if any(isinstance(each, torch.Tensor) and is_spread(each) for each in arguments.values()):
            return ""  # to look at its values asks processes that do not listen
        root = call
        while root.parent is not None:
            root = root.parent
        if is_unspread(root):
            return in_place_of_tensor(root.args[0], root)
        module, earlier = call.module, calls()
        given = Given(arguments, earlier)
        return (
            _no_tensor(call, given, error)
            or _refused(call, given)
            or _misspelled(module, error)
            or _code(error, [call.network], earlier, call)
        )
    except Exception:  # noqa: BLE001 - a layer in disorder gets no explanation
        return ""


def _bound(call: RunningCall[Any]) -> tuple[dict[str, Any], str]:
    """Return the arguments by their names, or why they do not fit the forward's signature."""
    args, kwargs = call.args, call.kwargs
    try:
        signature = inspect.signature(call.module.forward)
    except (TypeError, ValueError):
        return {**{str(place): each for place, each in enumerate(args)}, **kwargs}, ""
    try:
        return _each(signature, signature.bind(*args, **kwargs).arguments), ""
    except TypeError as refusal:
        parameters = signature.parameters.values()
        unknown = [name for name in kwargs if name not in signature.parameters]
        open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters)
        why = f"it has no {unknown[0]!r}" if unknown and not open_ended else str(refusal)
        bare = ", ".join(str(each.replace(annotation=each.empty)) for each in parameters)
        return {}, f"takes ({bare}): {why}{_spread(call, len(parameters))}"


def _each(signature: inspect.Signature, bound: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments by name, those of `*args` and `**kwargs` each for itself."""
    found: dict[str, Any] = {}
    for name, value in bound.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            found |= {f"{name}[{place}]": each for place, each in enumerate(value)}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        else:
            found[name] = value
    return found


def _spread(call: RunningCall[Any], parameters: int) -> str:
    """Say how one container becomes all arguments of a forward."""
    if len(call.args) != 1 or call.kwargs:
        return ""
    (only,) = call.args
    with suppress(TypeError):
        if set(names_of(call.module)) & set(only):
            return f"; pass the items by name, {called_as(call)}(**batch)"
    if isinstance(only, tuple | list) and len(only) == parameters:
        return f"; pass the items one by one, {called_as(call)}(*batch)"
    return ""


def _no_tensor(call: RunningCall[Any], given: Given, error: BaseException) -> str:
    """Say what stands where a tensor belongs, where that is what the layer refuses."""
    module = call.module
    is_torchs = type(module).__module__.startswith("torch.nn.")
    required = _required(module) if is_torchs and not isinstance(module, CONTAINERS) else ()
    for name, value in given.arguments.items():
        if isinstance(value, torch.Tensor):
            continue
        if isinstance(value, PackedSequence) and isinstance(module, nn.RNNBase):
            continue
        is_refused = isinstance(error, TypeError | AttributeError)
        if is_refused and (name in required or _is_named(value, error)):
            text = in_place_of_tensor(value, call, given.earlier)
            is_first = name == next(iter(given.arguments))
            return text if is_first else text.replace("got ", f"got for {name} ", 1)
    return ""


def _is_named(value: Any, error: BaseException) -> bool:
    """Tell whether an error names the type of a value that is no tensor."""
    return not isinstance(value, torch.Tensor) and type(value).__name__ in first_line(error)


def _required(module: nn.Module) -> set[str]:
    parameters = inspect.signature(module.forward).parameters.values()
    return {each.name for each in parameters if each.default is each.empty}


def _refused(call: RunningCall[Any], given: Given) -> str:
    """Say what a layer, or a loss, that is known refuses of the tensors that it got."""
    module = call.module
    first = next(iter(given.arguments.values()), None)
    tensors = (each for each in given.arguments.values() if isinstance(each, torch.Tensor))
    got = next(tensors, None)
    if got is None or isinstance(first, PackedSequence):
        return ""
    explain = next((how for kind, how in KINDS if isinstance(module, kind)), None)
    if explain is None and type(module).__module__.startswith("torch.nn."):
        explain = home_of_layer
    text = explain(module, got, given) if explain else ""
    is_unregistered = call.network.unregistered.get(call.layer) is not None
    if is_unregistered and text and text == home_of_layer(module, got, given):
        text += "; it is not registered, so .to() passes it over: keep it in an nn.ModuleList"
    return text


def _misspelled(module: nn.Module, error: BaseException) -> str:
    """Say what a name that a network lacks was meant to be."""
    message = first_line(error)
    if isinstance(error, NotImplementedError) and isinstance(module, nn.ModuleList | nn.ModuleDict):
        return "holds layers and has no forward: call them one by one, or make it an nn.Sequential"
    if isinstance(error, NotImplementedError) and "forward" in message:
        added = vars(type(module)).keys() - vars(nn.Module).keys()
        named = difflib.get_close_matches("forward", added, n=1, cutoff=0.7)
        return f"has no forward: rename {named[0]} to forward" if named else ""
    if isinstance(error, NameError):
        name = error.name or ""
        return f"has {name} as its own: type self.{name}" if hasattr(module, name) else ""
    match = re.fullmatch(r"'(\w+)' object has no attribute '(\w+)'", message)
    if isinstance(error, AttributeError) and match and match[1] == type(module).__name__:
        if not is_initialised(module):
            return "lacks super().__init__() in its __init__: add that as the first line"
        held = [*children_of(module), *parameters_of(module)]
        own = vars(type(module))
        if "__init__" not in own and (named := difflib.get_close_matches("__init__", own, n=1)):
            return f"has no self.{match[2]}: rename its {named[0]} to __init__"
        meant = difflib.get_close_matches(match[2], held, n=1)
        hint = f"did you mean self.{meant[0]}" if meant else f"it holds {', '.join(held) or 'none'}"
        return f"has no self.{match[2]}: {hint}" + "?" * bool(meant)
    return ""


def mismatch_outside(error: BaseException, networks: Iterable[Network], calls: CallsSoFar) -> str:
    """Return what the code of the user's that raised outside all layers worked on.

    Args:
        error: the exception.
        networks: the networks that were called.
        calls: gives their calls that returned, the latest first.
    """
    try:
        return _code(error, networks, calls()) if isinstance(error, Exception) else ""
    except Exception:  # noqa: BLE001 - code in disorder gets no explanation
        return ""


def _code(
    error: BaseException,
    networks: Iterable[Network],
    earlier: Sequence[EarlierCall],
    call: RunningCall[Any] | None = None,
) -> str:
    """Return the code of the user's that raised, with the shapes of what it worked on."""
    named = {id: (each.label, name) for each in networks for id, (name, _) in each.names.items()}

    def shape_of_layer(layer: nn.Module) -> tuple[int, ...] | None:
        name = named.get(id(layer))
        returned = (each.output_shape for each in earlier if (each.network, each.layer) == name)
        return sizes_of(next(returned, None)) or None

    code = FailingCode(error, shape_of_layer)
    if not code.source or code.source.startswith(("raise", "assert")):
        return ""
    kind = code.layer_made_of_tensor()
    if kind is not None:
        return f"in {quoted(code.source)}: {makes_a_layer(kind)}"
    operands = code.operands()
    for name, value in operands:
        is_refused = isinstance(error, TypeError | AttributeError)
        if call is not None and is_refused and _is_named(value, error):
            why = in_place_of_tensor(value, call, earlier).removeprefix("got ")
            if isinstance(value, str):
                why = f"a str, {value!r}; a loop over a dict gives its keys"
            return f"in {quoted(code.source)}, {name} is {why}"
    shapes = dict.fromkeys(
        f"{name} {_shape_and_dtype(value)}"
        for name, value in operands
        if isinstance(value, torch.Tensor)
    )
    if not shapes:
        return ""
    given = [(name, code.names.get(name, value)) for name, value in operands]
    why = unfit_operands(code.node, given)
    if "Dimension out of range" in first_line(error):
        name, tensor = next(each for each in operands if isinstance(each[1], torch.Tensor))
        why = f"{name} has the axes 0 … {tensor.dim() - 1}"
    return f"in {quoted(code.source)} with {', '.join(shapes)}" + (f": {why}" if why else "")


def _shape_and_dtype(tensor: torch.Tensor) -> str:
    dtype = "" if tensor.dtype is torch.float32 else f" {name_of(tensor.dtype)}"
    return f"{tuple(tensor.shape)}{dtype}"
