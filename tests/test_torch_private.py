"""What a new torch may have renamed: each private name, held against a public fact."""

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.overrides import BaseTorchFunctionMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import nnmagic
from nnmagic import torch_private as private

PACKAGE = Path(nnmagic.__file__).parent


def test_a_module_tells_which_buffers_are_not_saved():
    layer = nn.Module()
    layer.register_buffer("saved", torch.ones(1))
    layer.register_buffer("cache", torch.ones(1), persistent=False)

    assert private.transient_buffers_of(layer) == {"cache"}
    assert list(layer.state_dict()) == ["saved"]


def test_what_a_quantised_layer_saves_is_in_its_state_dict(layer):
    quantised = torch.ao.nn.quantized.dynamic.Linear(3, 2)

    saved = private.saved_by_torch(quantised)
    assert saved
    assert saved.keys() <= quantised.state_dict().keys()
    assert private.saved_by_torch(layer) == {}


@pytest.fixture
def layer():
    return nn.BatchNorm1d(3)


def test_a_module_tells_its_parameters_buffers_and_children(layer):
    net = nn.Sequential(layer)

    assert private.parameters_of(layer) == dict(layer.named_parameters())
    assert private.buffers_of(layer) == dict(layer.named_buffers())
    assert private.children_of(net) == dict(net.named_children())
    assert layer.__dict__[private.PARAMETERS] is private.parameters_of(layer)
    assert layer.__dict__[private.BUFFERS] is private.buffers_of(layer)


def test_a_module_tells_its_hooks(layer):
    def hook(*_):
        return None

    layer.register_forward_hook(hook)
    layer.register_forward_pre_hook(hook)

    assert list(private.hooks_of(layer).values()) == [hook]
    assert list(private.pre_hooks_of(layer).values()) == [hook]
    assert layer.__dict__[private.FORWARD_HOOKS] is private.hooks_of(layer)
    assert layer.__dict__[private.FORWARD_PRE_HOOKS] is private.pre_hooks_of(layer)


@pytest.mark.parametrize(
    "register",
    [
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_forward_pre_hook,
    ],
)
def test_hooks_of_all_modules_are_seen(register):
    assert not private.has_global_hooks()

    with register(lambda *_: None):
        assert private.has_global_hooks()


def test_a_compiled_module_is_known_as_such(layer):
    assert not private.is_compiled(layer)
    layer.compile(backend="eager")
    assert private.is_compiled(layer)
    assert private.dynamo_is_loaded()


def test_the_base_classes_hold_all_convolutions_and_batch_norms():
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)

    assert all(issubclass(each, private.ConvNd) for each in convolutions)
    assert all(issubclass(each, private.BatchNorm) for each in (nn.BatchNorm2d, nn.SyncBatchNorm))
    assert not issubclass(nn.Linear, private.ConvNd | private.BatchNorm)


def test_every_call_of_a_module_goes_through_one_function():
    assert nn.Module.__call__ is private.MODULE_CALL
    names = private.MODULE_CALL.__code__.co_names
    assert {"_call_impl", "_compiled_call_impl"} <= set(names)


def test_a_checkpoint_that_has_what_it_needs_stops_by_an_exception():
    seen = []

    class Watching(nn.Module):
        def forward(self, x):
            try:
                return torch.sin(torch.sin(x))
            except BaseException as error:
                seen.append(error)
                raise

    net = nn.Sequential(nn.Linear(2, 2), Watching(), nn.Dropout(0.0))
    checkpoint(net, torch.rand(1, 2), use_reentrant=False).sum().backward()

    assert all(isinstance(error, private.STOPPED_EARLY) for error in seen)
    assert issubclass(private.STOPPED_EARLY, Exception)


def test_a_version_grows_with_each_write():
    tensor = torch.zeros(2)
    before = private.raw_version(tensor)

    tensor.add_(1)

    assert private.raw_version(tensor) == before + 1


def test_views_share_a_storage_and_copies_do_not():
    tensor = torch.zeros(4)

    assert private.storage_id(tensor[2:]) == private.storage_id(tensor)
    assert private.storage_id(tensor.clone()) != private.storage_id(tensor)


def test_functional_tensors_and_those_inside_transforms_are_told():
    found = []

    def look(x):
        found.append((private.is_in_transform(x), private.transform_level() is not None))
        found.append(private.is_functional(x))
        return x

    torch.func.vmap(look)(torch.zeros(2))
    torch.func.functionalize(look)(torch.zeros(2))

    assert found[:2] == [(True, True), False]
    assert private.is_functional(torch._to_functional_tensor(torch.zeros(2)))
    assert not private.is_in_transform(torch.zeros(2))
    assert private.transform_level() is None


def test_a_zero_tensor_has_no_memory():
    assert private.is_zero_tensor(torch._efficientzerotensor((2,)))
    assert not private.is_zero_tensor(torch.zeros(2))


def test_a_parameter_is_made_of_a_tensor():
    made = private.make_subclass(nn.Parameter, torch.zeros(2), True)

    assert isinstance(made, nn.Parameter)
    assert made.requires_grad


def test_a_hook_can_be_called_before_those_that_are_there_and_leaves_nothing():
    parameter, called = nn.Parameter(torch.ones(2)), []
    theirs = parameter.register_post_accumulate_grad_hook(lambda p: called.append("theirs"))
    ours = private.hook_first(parameter, lambda p: called.append("ours"))
    parameter.sum().backward()
    private.remove_hook(parameter, ours)
    parameter.sum().backward()

    assert called == ["ours", "theirs", "theirs"]
    theirs.remove()
    private.remove_hook(parameter, private.hook_first(parameter, called.append))
    assert parameter._post_accumulate_grad_hooks is None


def test_nested_tensors_tell_their_parts():
    parts = [torch.rand(2, 3), torch.rand(4, 3)]
    strided = torch.nested.nested_tensor(parts, layout=torch.strided)
    jagged = torch.nested.nested_tensor(parts, layout=torch.jagged)
    starts, lengths = torch.tensor([0, 1]), torch.tensor([2, 3])
    narrowed = torch.nested.narrow(
        torch.arange(10.0).reshape(2, 5), 1, starts, lengths, layout=torch.jagged
    )

    assert private.nested_sizes(strided) == [[2, 3], [4, 3]]
    assert torch.equal(torch.cat(private.jagged_parts(jagged)), torch.cat(parts))
    values = [part.tolist() for part in private.jagged_parts(narrowed)]
    assert values == [[0, 1], [6, 7, 8]]


def test_modes_are_counted_and_can_be_set_aside():
    assert private.function_modes() == private.dispatch_modes() == 0

    with BaseTorchFunctionMode() as mode, FlopCounterMode(display=False):
        assert private.function_modes() == private.dispatch_modes() == 1
        assert private.function_mode_at(0) is mode
        assert private.pop_function_mode() is mode
        assert private.function_modes() == 0
        private.push_function_mode(mode)
        private.leave_mode()
        assert private.function_modes() == 0
        private.enter_mode(mode)
        assert private.function_modes() == 1


def test_a_default_device_is_a_mode():
    with torch.device("meta"):
        assert type(private.function_mode_at(0)) is private.DeviceContext


def test_the_guards_keep_modes_transforms_autocast_and_the_graph_away():
    class Loud(torch.Tensor):
        @classmethod
        def __torch_function__(cls, *_, **__):
            raise AssertionError("seen")

    loud = torch.rand(2, 2).as_subclass(Loud)
    with private.DisableTorchFunction():
        assert torch.Tensor.numel(loud) == 4
    with FlopCounterMode(display=False) as counter, private.DisableTorchDispatch():
        torch.mm(torch.ones(2, 2), torch.ones(2, 2))
    assert counter.get_total_flops() == 0
    with torch.autocast("cpu", dtype=torch.bfloat16), private.DisableAutocast():
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32
    with private.BelowAutograd():
        assert not (torch.ones(2, requires_grad=True) * 2).requires_grad
    drawn = []

    def apart(x):
        with pytest.raises(RuntimeError):  # a transform does not let random numbers be drawn
            torch.rand(2)
        with private.DisableFuncTorch():
            drawn.append(torch.rand(2))
        return x

    torch.func.vmap(apart)(torch.zeros(2))
    assert len(drawn) == 1


def test_a_backward_has_a_number():
    numbers = []
    x = torch.ones(1, requires_grad=True)
    x.register_hook(lambda _: numbers.append(private.graph_task()))

    x.sum().backward()

    assert numbers[0] >= 0
    assert private.graph_task() == -1


def test_operations_tell_their_signature_and_what_they_are_made_of():
    add, linear = torch.ops.aten.add_.Tensor, torch.ops.aten.linear.default
    x, weight = torch.rand(1, 3), torch.rand(2, 3)

    assert private.schema_of(add).name == "aten::add_"
    assert private.schema_of(add).is_mutable
    assert private.packet_of(add) is torch.ops.aten.add_
    assert private.is_composite(linear)
    assert not private.is_composite(add)
    assert torch.allclose(private.decomposed(linear, (x, weight), {}), x @ weight.T)


def test_a_pruned_parameter_is_named():
    layer = prune.l1_unstructured(nn.Linear(3, 3), "weight", amount=1)
    (hook,) = private.pre_hooks_of(layer).values()

    assert private.pruned_name(hook) == "weight"


def test_a_schedule_may_begin_before_its_optimizer():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)

    begins_first = private.begins_before_optimizer(scheduler)
    optimizer.step()

    assert begins_first
    assert not private.begins_before_optimizer(scheduler)


def test_fake_tensors_raise_where_values_are_needed():
    with private.FakeTensorMode() as mode:
        fake = mode.from_tensor(torch.ones(2))
        assert isinstance(fake, private.FakeTensor)
        with pytest.raises(private.VALUES_NEEDED[0]):
            fake.sum().item()
        with pytest.raises(private.VALUES_NEEDED[1]):
            fake.nonzero()


def test_trees_are_flattened_mapped_and_put_together():
    tree = {"a": [1, (2, 3)]}
    leaves, spec = private.tree_flatten(tree)

    assert leaves == private.tree_leaves(tree) == [1, 2, 3]
    assert private.tree_unflatten(leaves, spec) == tree
    assert private.tree_map(lambda n: 2 * n, tree) == {"a": [2, (4, 6)]}
    assert private.tree_map_only(str, str.upper, ["a", 1]) == ["A", 1]


def test_no_dispatch_keeps_dispatch_modes_away():
    class Counting(private.TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            type(self).calls += 1
            return func(*args, **(kwargs or {}))

    with Counting():
        torch.ones(2)
        seen = Counting.calls
        with private.no_dispatch():
            torch.ones(2)

    assert seen > 0
    assert Counting.calls == seen


def test_code_is_passed_over_by_dynamo():
    def function(x):
        return x + 1

    torch.compile(lambda x: x, backend="eager")(torch.ones(1))
    private.skip_in_dynamo(function.__code__)
    compiled = []
    torch.compile(function, backend=lambda graph, _: compiled.append(graph) or graph.forward)(
        torch.ones(1)
    )

    assert compiled == []


PRIVATE = re.compile(
    r"\btorch\._[a-z]\w*|\btorch\.utils\._|from torch\._|\"_(parameters|buffers)\""
)


def test_no_other_file_uses_a_private_name_of_torch():
    found = {
        path.name: PRIVATE.findall(
            re.sub(r'""".*?"""|`[^`]*`|#.*', "", path.read_text(), flags=re.S)
        )
        for path in sorted(PACKAGE.rglob("*.py"))
    }

    assert found.pop("torch_private.py")
    assert {name: names for name, names in found.items() if names} == {}


def test_a_forward_runs_in_one_function():
    class Asks(nn.Module):
        def forward(self):
            frame, found = sys._getframe(), False
            while frame is not None:
                found |= frame.f_code is private.FORWARD_CODE
                frame = frame.f_back
            return found

    assert Asks()() is True
    assert Asks().forward() is False


def test_a_job_has_a_store():
    store = torch.distributed.HashStore()
    with pytest.raises(ValueError, match="process group"):
        private.default_store()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        private.default_store().set("key", "value")

        assert private.default_store().get("key") == b"value"
    finally:
        torch.distributed.destroy_process_group()


def test_the_classes_of_a_distributed_run_are_found_once_they_are_there():
    from torch.distributed import _functional_collectives
    from torch.distributed.pipelining import PipelineStage
    from torch.distributed.tensor import DTensor

    assert private.distributed_tensors() is DTensor
    assert issubclass(PipelineStage, private.pipeline_stages())
    pending = private.async_results()
    assert pending is _functional_collectives.AsyncCollectiveTensor
    assert callable(pending.trigger_wait)
