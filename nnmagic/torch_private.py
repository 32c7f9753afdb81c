"""What nnmagic uses of torch that torch does not promise to keep, each with a test of its own.

A new release of torch may rename any of it: `tests/test_torch_private.py` then says what. Public
ways to the same are too slow, run code of the user's, or are not there.
"""

import sys
from collections.abc import Callable
from operator import attrgetter
from types import FunctionType
from typing import Any, TypeAlias, cast

import torch
from torch import nn
from torch._ops import HigherOrderOperator as HigherOrderOperator
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor as FakeTensor
from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode
from torch.nn.modules import module as module_globals
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.overrides import _pop_mode, _push_mode
from torch.utils import checkpoint
from torch.utils._device import DeviceContext as DeviceContext
from torch.utils._mode_utils import no_dispatch as no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
from torch.utils._pytree import tree_flatten as tree_flatten
from torch.utils._pytree import tree_leaves as tree_leaves
from torch.utils._pytree import tree_map as tree_map
from torch.utils._pytree import tree_map_only as tree_map_only
from torch.utils._pytree import tree_unflatten as tree_unflatten
from torch.utils.hooks import RemovableHandle

# Modules.

PARAMETERS, BUFFERS = "_parameters", "_buffers"
FORWARD_HOOKS, FORWARD_PRE_HOOKS = "_forward_hooks", "_forward_pre_hooks"

parameters_of: Callable[[nn.Module], dict[str, nn.Parameter | None]] = attrgetter(PARAMETERS)
"""The module's own parameters, None where one is left out."""

buffers_of: Callable[[nn.Module], dict[str, torch.Tensor | None]] = attrgetter(BUFFERS)
transient_buffers_of: Callable[[nn.Module], set[str]] = attrgetter("_non_persistent_buffers_set")
"""The names of those of its buffers that a state dict leaves out."""

children_of: Callable[[nn.Module], dict[str, nn.Module | None]] = attrgetter("_modules")
hooks_of: Callable[[nn.Module], dict[int, Any]] = attrgetter(FORWARD_HOOKS)
pre_hooks_of: Callable[[nn.Module], dict[int, Any]] = attrgetter(FORWARD_PRE_HOOKS)

ConvNd: TypeAlias = _ConvNd  # the base class of all convolutions
BatchNorm: TypeAlias = _BatchNorm  # and of all batch norms

MODULE_CALL = cast(FunctionType, nn.Module._wrapped_call_impl)
"""The function behind `nn.Module.__call__`."""

FORWARD_CODE = nn.Module._call_impl.__code__
"""What runs a forward with its hooks."""


def saved_by_torch(module: nn.Module) -> dict[str, Any]:
    """Return what a layer of torch's own saves in a way of its own, as a quantised one does."""
    save = type(module)._save_to_state_dict
    found: dict[str, Any] = {}
    if save is not nn.Module._save_to_state_dict and save.__module__.startswith("torch."):
        save(module, found, "", keep_vars=True)
    return found


STOPPED_EARLY: Any = getattr(checkpoint, "_StopRecomputationError", ())
"""What ends the recomputation of a checkpoint when the backward has all that it needs."""


def is_compiled(module: nn.Module) -> bool:
    """Tell whether `module.compile()` was called."""
    return module._compiled_call_impl is not None


def has_global_hooks() -> bool:
    """Tell whether hooks run at the call of every module."""
    return bool(module_globals._global_forward_hooks or module_globals._global_forward_pre_hooks)


def skip_in_dynamo(code: Any) -> None:
    """Let dynamo pass over a code object, if it is loaded: to load it takes a second."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.eval_frame.skip_code(code)


def dynamo_is_loaded() -> bool:
    """Tell whether anything can have been compiled yet."""
    return "torch._dynamo" in sys.modules


# Tensors.

raw_version: Callable[[torch.Tensor], int] = attrgetter("_version")
"""How often the values were written; an inference tensor has none, and raises."""

is_functional: Callable[[torch.Tensor], bool] = torch._is_functional_tensor
is_in_transform: Callable[[torch.Tensor], bool] = torch._C._functorch.is_functorch_wrapped_tensor
transform_level: Callable[[], int | None] = torch._C._functorch.maybe_current_level
is_zero_tensor: Callable[[torch.Tensor], bool] = torch.Tensor._is_zerotensor
make_subclass: Callable[..., Any] = torch.Tensor._make_subclass
local_tensor: Callable[[Any], torch.Tensor] = attrgetter("_local_tensor")
"""The part of a DTensor that this process holds; `to_local` would run DTensor's own code."""


def distributed_tensors() -> Any:
    """Return the class of DTensors, nothing where there can be none yet: it is slow to import."""
    return getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", ())


def async_results() -> Any:
    """Return the class of the results of collectives that are under way, nothing likewise."""
    module = sys.modules.get("torch.distributed._functional_collectives")
    return getattr(module, "AsyncCollectiveTensor", ())


def pipeline_stages() -> Any:
    """Return the class of the stages of a pipeline, nothing where there can be none yet."""
    module = sys.modules.get("torch.distributed.pipelining.stage")
    return getattr(module, "_PipelineStageBase", ())


def hook_first(parameter: torch.Tensor, hook: Callable[[torch.Tensor], None]) -> RemovableHandle:
    """Have a hook called when a gradient was accumulated, before hooks that may clear it.

    They are called in the order in which they came into the dict; to move one within it does not
    count.
    """
    hooks = parameter._post_accumulate_grad_hooks
    others = dict(hooks or {})
    try:
        if hooks:
            hooks.clear()
        return parameter.register_post_accumulate_grad_hook(hook)
    finally:
        if others:
            parameter._post_accumulate_grad_hooks.update(others)


def remove_hook(parameter: torch.Tensor, hook: RemovableHandle) -> None:
    """Remove such a hook, and the dict that was made for it."""
    hook.remove()
    if not parameter._post_accumulate_grad_hooks:
        parameter._post_accumulate_grad_hooks = cast(Any, None)


def storage_id(tensor: torch.Tensor) -> int:
    """Return what is equal for tensors that share a storage."""
    return tensor.untyped_storage()._cdata


def nested_sizes(tensor: torch.Tensor) -> list[list[int]]:
    """Return the sizes of the components of a strided nested tensor."""
    return tensor._nested_tensor_size().tolist()


def jagged_parts(tensor: Any) -> list[torch.Tensor]:
    """Return tensors that together hold the values of a jagged nested one."""
    values, lengths = tensor._values.detach(), tensor._lengths
    if lengths is None:
        return [values]
    runs = zip(tensor._offsets.tolist(), lengths.tolist(), strict=False)
    return [values.narrow(tensor._ragged_idx - 1, start, length) for start, length in runs]


# Modes, and what keeps them away.

DisableTorchFunction = torch._C.DisableTorchFunction
DisableTorchDispatch = torch._C._DisableTorchDispatch
DisableFuncTorch = torch._C._DisableFuncTorch
DisableAutocast = torch._C._DisableAutocast
BelowAutograd = torch._C._AutoDispatchBelowAutograd

function_modes: Callable[[], int] = torch._C._len_torch_function_stack
dispatch_modes: Callable[[], int] = torch._C._len_torch_dispatch_stack
function_mode_at: Callable[[int], Any] = torch._C._get_function_stack_at
push_function_mode: Callable[[Any], None] = torch._C._push_on_torch_function_stack
pop_function_mode: Callable[[], Any] = torch._C._pop_torch_function_stack
enter_mode, leave_mode = _push_mode, _pop_mode
"""As the two before, and counted by `torch.overrides`."""

VALUES_NEEDED = (
    fake_tensor.DataDependentOutputException,
    fake_tensor.DynamicOutputShapeException,
)
"""What fake tensors raise where an operation, or the shape of its result, needs values."""

graph_task: Callable[[], int] = torch._C._current_graph_task_id
"""The number of the backward that this thread runs, -1 outside."""

# Operations.

COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


def schema_of(func: Any) -> Any:
    """Return the signature of an operation: its name, its arguments, what they alias."""
    return func._schema


def packet_of(func: Any) -> Any:
    """Return the operation that an overload belongs to: `aten.add` of `aten.add.Tensor`."""
    return func._overloadpacket


def is_composite(func: Any) -> bool:
    """Tell whether an operation is made of others, whatever the device."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), COMPOSITE)


def decomposed(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operation that is made of others as those."""
    return func._op_dk(COMPOSITE, *args, **kwargs)


def methods_of(held: Any) -> list[str]:
    """Return the names of the methods of a ScriptObject, such as a packed weight."""
    return held._method_names()


def pruned_name(hook: Any) -> str:
    """Return the name of the parameter that a hook of `torch.nn.utils.prune` masks."""
    return hook._tensor_name


# Training.


def begins_before_optimizer(scheduler: Any) -> bool:
    """Tell whether a schedule makes its first step, and its optimizer has made none yet."""
    return scheduler._step_count == 1 and not getattr(scheduler.optimizer, "_opt_called", False)


def call_through(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a module with its hooks, past what stands in the place of its compiled call."""
    return module._call_impl(*args, **kwargs)


# Several processes.


def default_store() -> Any:
    """Return the store at which the processes of a job met.

    Raises:
        ValueError: where there is no process group.
    """
    from torch.distributed.distributed_c10d import _get_default_store  # some builds have none

    return _get_default_store()
