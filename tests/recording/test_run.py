import copy
import gc
import pickle
import sys
import threading
import weakref

import pytest
import torch
import torchvision
from torch import nn
from torch.optim.optimizer import _global_optimizer_pre_hooks

import nnmagic
from nnmagic.inputs.search import InputError

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def state_of(network):
    """All that a network holds: tensors by value, the rest by identity."""
    return {
        name: (module.training, *(len(getattr(module, hooks)) for hooks in HOOKS))
        for name, module in network.named_modules()
    }


def assert_same_network(traced, plain):
    assert state_of(traced) == state_of(plain)
    for (name, mine), (_, theirs) in zip(
        traced.state_dict().items(), plain.state_dict().items(), strict=True
    ):
        assert torch.equal(mine, theirs), name
    for mine, theirs in zip(traced.parameters(), plain.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        assert mine.grad is None or torch.equal(mine.grad, theirs.grad)
        assert mine.requires_grad == theirs.requires_grad


@pytest.fixture(autouse=True)
def nothing_left_behind():
    call, limit = nn.Module.__call__.__code__, sys.getrecursionlimit()
    hooks = dict(nn.modules.module._global_forward_hooks)
    yield
    assert nn.Module.__call__.__code__ is call
    assert sys.getrecursionlimit() == limit
    assert dict(nn.modules.module._global_forward_hooks) == hooks


@pytest.mark.parametrize("train", [True, False])
def test_resnet18_gives_the_same_bits_gradients_and_state(train):
    plain = torchvision.models.resnet18().train(train)
    traced = copy.deepcopy(plain)
    x = torch.randn(2, 3, 64, 64)

    torch.manual_seed(1)
    expected = plain(x)
    expected.sum().backward()
    torch.manual_seed(1)
    found = nnmagic.trace(traced, x)
    found.output.sum().backward()

    assert torch.equal(found.output, expected)
    assert_same_network(traced, plain)


@pytest.mark.parametrize("train", [True, False])
def test_an_encoder_gives_the_same_bits(train):
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    plain = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).train(train)
    traced = copy.deepcopy(plain)
    x = torch.randn(2, 7, 32)

    with torch.no_grad():
        torch.manual_seed(1)
        expected = plain(x)
        state = torch.get_rng_state()
        torch.manual_seed(1)
        found = nnmagic.trace(traced, x)

    assert torch.equal(found.output, expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_network(traced, plain)


def test_an_in_place_layer_does_not_rewrite_the_layer_before():
    net = torchvision.models.resnet18().eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = net.bn1(net.conv1(x))

        found = nnmagic.trace(net, x)

    assert found["bn1"].min == expected.min().item() < 0
    assert found["relu"].min == 0


def test_values_and_statistics_equal_those_of_plain_hooks():
    net = nnmagic.NeuralNetwork().eval()
    x = torch.rand(3, 28, 28)
    outputs = {}
    handles = [
        module.register_forward_hook(lambda m, a, out, name=name: outputs.update({name: out}))
        for name, module in net.named_modules()
    ]
    net(x)
    for handle in handles:
        handle.remove()

    found = nnmagic.trace(net, x)

    assert {call.layer for call in found} == set(outputs)
    for call in found:
        expected = outputs[call.layer].double()
        assert call.output_shape == tuple(expected.shape)
        assert call.mean == pytest.approx(expected.mean().item(), rel=1e-5, abs=1e-7)
        assert call.std == pytest.approx(expected.std().item(), rel=1e-5)
        assert (call.min, call.max) == (expected.min().item(), expected.max().item())
    assert found[""].outputs[0].values == outputs[""].tolist()


def test_a_shared_layer_has_one_record_per_call(doubling):
    found = nnmagic.trace(doubling, torch.rand(2, 4), scale=torch.tensor(2.0))

    assert [(call.layer, call.depth, call.call) for call in found] == [
        ("", 0, 0),
        ("shared", 1, 1),
        ("act", 1, 2),
        ("shared", 1, 3),
    ]
    assert found[""].input_shape == ((2, 4), {"scale": ()})
    assert found[""].output_shape == {"out": (2, 4), "rest": ((2, 4),)}
    assert len(found.calls("shared")) == 2
    assert found["shared"].call == 3


def test_a_tensor_that_passes_unchanged_is_measured_once():
    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Sequential(nn.Tanh())))

    found = nnmagic.trace(net, torch.rand(2, 4))

    # the input, the linear output, the tanh output: what containers return is these
    assert len(found.log.tensors.samples) == 3


def test_a_tensor_that_is_changed_in_place_is_measured_anew():
    class Adding(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(x).add_(100)

    found = nnmagic.trace(Adding(), torch.rand(2, 4))

    assert found["fc"].max < 50 < found[""].min


def test_inference_tensors_are_recorded():
    with torch.inference_mode():
        found = nnmagic.trace(nn.Sequential(nn.ReLU(inplace=True)), torch.randn(5))

    assert found["0"].min == 0


def test_several_networks_and_loops_have_steps_of_their_own():
    net, loss_fn = nn.Linear(4, 2), nn.MSELoss()

    with nnmagic.tracing() as found:
        for _ in range(3):
            loss_fn(net(torch.rand(5, 4)), torch.zeros(5, 2))

    frame = found.to_frame()
    assert frame.network.tolist() == ["Linear", "MSELoss"] * 3
    assert frame.step.tolist() == [0, 0, 1, 1, 2, 2]
    assert frame.depth.tolist() == [0] * 6
    assert frame.input_shape[1] == ((5, 2), (5, 2))


def test_only_the_given_networks_are_recorded():
    net, other = nn.Linear(4, 2), nn.ReLU()

    with nnmagic.tracing(net, every=2) as found:
        for _ in range(4):
            other(net(torch.rand(1, 4)))

    assert [(call.type, call.step) for call in found] == [("Linear", 0), ("Linear", 2)]


def test_a_trace_fills_as_the_block_runs_and_survives_an_exception():
    with pytest.raises(ZeroDivisionError), nnmagic.tracing() as found:
        nn.ReLU()(torch.ones(2))
        assert len(found) == 1
        raise ZeroDivisionError

    assert [call.type for call in found] == ["ReLU"]
    assert found.failed is None


def test_a_failing_layer_is_marked_and_named_on_the_users_own_exception():
    net = nnmagic.NeuralNetwork()

    with pytest.raises(RuntimeError, match="mat1 and mat2") as caught, nnmagic.tracing() as found:
        net(torch.rand(1, 20))

    assert [(call.layer, call.failed) for call in found] == [
        ("", True),
        ("flatten", False),
        ("linear_relu_stack", True),
        ("linear_relu_stack.0", True),
    ]
    assert found.failed.layer == "linear_relu_stack.0"
    mismatch = "got (1, 20), weight is (512, 784): the last axis must be 784, it is 20; "
    mismatch += "make the layer with in_features=20"
    assert found.failed.failure.mismatch == mismatch
    (note,) = caught.value.__notes__
    assert note.startswith(
        "nnmagic: raised in linear_relu_stack.0 (Linear), called at tutorial.py:"
    )
    assert note.endswith(mismatch)


class Interrupted(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        raise self.error


class SlottedError(Exception):
    __slots__ = ("code",)

    def __init__(self, code, reason):
        super().__init__(code, reason)


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), StopIteration(3), SlottedError(1, "why"), GeneratorExit()],
    ids=repr,
)
def test_any_exception_goes_on_unchanged(error):
    net = nn.Sequential(nn.ReLU(), Interrupted(error))

    with pytest.raises(type(error)) as caught, nnmagic.tracing() as found:
        net(torch.ones(2))

    assert caught.value is error
    assert found.failed.layer == "1"
    assert state_of(net) == state_of(copy.deepcopy(net))


def test_an_error_that_the_network_catches_is_marked_and_blamed_on_nobody():
    class Catching(nn.Module):
        def __init__(self):
            super().__init__()
            self.bad, self.good = nn.Linear(3, 3), nn.ReLU()

        def forward(self, x):
            try:
                return self.bad(x)
            except RuntimeError:
                return self.good(x)

    found = nnmagic.trace(Catching(), torch.rand(1, 4))

    assert [(call.layer, call.failed) for call in found] == [
        ("", False),
        ("bad", True),
        ("good", False),
    ]
    assert found.failed is None
    assert "FAILED, caught: RuntimeError" in str(found)


def test_a_run_of_its_own_is_in_eval_mode_and_leaves_all_as_it_was():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    net[1].eval()
    before = copy.deepcopy(net)
    random_state = torch.get_rng_state()

    found = nnmagic.trace(net)

    assert not found.output.requires_grad
    assert [module.training for module in net] == [True, False, True]
    assert torch.equal(torch.get_rng_state(), random_state)
    assert_same_network(net, before)
    assert "network unchanged" in str(found)
    assert "input: torch.rand(1, 4), since 0 (Linear) takes 4 features" in str(found)


def test_what_a_training_run_changed_is_said():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    found = nnmagic.trace(net, torch.rand(3, 4))

    assert "the run changed 3 batch-norm statistics (train mode)" in str(found)


def test_no_input_to_be_found_is_an_error_that_says_so():
    with pytest.raises(InputError, match="no input found"):
        nnmagic.trace(nn.Sequential(nn.Linear(6, 5), nn.Linear(4, 2)))


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="every must be at least 1"), nnmagic.tracing(every=0):
        pass
    with (
        pytest.raises(ValueError, match="keep must be one of none, sample, all"),
        nnmagic.tracing(keep="x"),
    ):
        pass


def test_a_record_keeps_nothing_of_the_users_alive():
    net, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.rand(2, 4)
    with nnmagic.tracing() as found:
        out = net(x)
    references = [weakref.ref(each) for each in (net, x, out, net[0].weight)]

    del net, x, out
    gc.collect()

    assert [reference() for reference in references] == [None] * 4
    assert len(found) == 3


def test_two_hundred_traces_leave_nothing():
    net, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.rand(2, 4)

    def alive():
        gc.collect()
        return sum(isinstance(each, torch.Tensor | nn.Module) for each in gc.get_objects())

    nnmagic.trace(net, x)
    before = alive()
    for _ in range(200):
        nnmagic.trace(net, x)

    assert alive() == before


def test_a_trace_is_a_value():
    net, x = nn.Linear(4, 4), torch.rand(2, 4)
    first, second = nnmagic.trace(net, x), nnmagic.trace(net, x)

    assert first == second
    assert hash(first) == hash(second)
    copied = pickle.loads(pickle.dumps(first))
    assert copied == first
    assert str(copied) == str(first)
    assert copied.output is None
    assert first != nnmagic.trace(net, x + 1)


def test_the_root_is_a_weak_reference():
    net = nn.Linear(4, 4)
    found = nnmagic.trace(net, torch.rand(2, 4))

    assert found.root() is net
    del net
    gc.collect()
    assert found.root() is None


def test_the_users_mode_is_kept():
    net = nn.Linear(4, 4)

    with torch.autocast("cpu", torch.bfloat16):
        found = nnmagic.trace(net, torch.rand(2, 4))

    assert found[""].dtype == "bfloat16"
    assert found.output.requires_grad


def test_under_vmap_values_are_blank_with_a_reason_and_the_result_is_the_same():
    net, x = nn.Linear(4, 2), torch.rand(3, 4)
    expected = torch.func.vmap(net)(x)

    with nnmagic.tracing() as found:
        out = torch.func.vmap(net)(x)

    assert torch.equal(out, expected)
    assert (found[""].output_shape, found[""].mean) == ((2,), None)
    assert found[""].outputs[0].unknown


def test_another_thread_sees_whole_calls_only():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    seen, errors = [], []
    reads = threading.Event()

    def read(trace):
        reads.set()
        while len(seen) < 5000:
            try:
                with trace.log.lock:
                    if len(trace):
                        seen.append(trace.call_at(len(trace) - 1))
                if len(seen) % 1000 == 1:
                    str(trace)
            except Exception as error:  # noqa: BLE001 - the assertion shows it
                errors.append(error)
                return

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with nnmagic.tracing() as trace:
            reader = threading.Thread(target=read, args=[trace])
            reader.start()
            reads.wait(10)
            while reader.is_alive():
                net(torch.ones(1, 2))
    finally:
        sys.setswitchinterval(before)
    reader.join(30)

    assert errors == []
    assert {(call.layer, call.input_shape) for call in seen} <= {
        ("", (1, 2)),
        ("0", (1, 2)),
        ("1", (1, 2)),
    }
    assert len(seen) == 5000


class Doubling(nn.Module):
    """Writes to what it gets where no version counter tells."""

    def forward(self, x):
        x.data.mul_(2)
        return x


def hooked(kind):
    layer = nn.Identity()
    write = Doubling().forward
    if kind == "hook":
        layer.register_forward_hook(lambda module, args, output: write(output))
    if kind == "hook before":
        layer.register_forward_pre_hook(lambda module, args: write(*args))
    return layer


@pytest.mark.parametrize("kind", ["own forward", "hook", "hook before", "hook of all modules"])
def test_what_a_layer_writes_unseen_is_measured(kind):
    layer = Doubling() if kind == "own forward" else hooked(kind)
    handle = None
    if kind == "hook of all modules":
        write = Doubling().forward

        def double(module, args, output):
            if isinstance(module, nn.Identity):
                write(output)

        handle = nn.modules.module.register_module_forward_hook(double)
    try:
        trace = nnmagic.trace(nn.Sequential(nn.ReLU(), layer), torch.ones(3))
    finally:
        if handle is not None:
            handle.remove()

    assert [trace["0"].mean, trace["1"].mean, trace[""].mean] == [1, 2, 2]


def test_what_torchs_own_layer_passes_on_is_not_measured_again():
    class Mine(nn.Identity):
        pass

    x = torch.rand(3, 7, 100)
    torchs = nnmagic.trace(nn.Sequential(nn.ReLU(), nn.Identity(), nn.Dropout().eval()), x)
    mine = nnmagic.trace(nn.Sequential(nn.ReLU(), Mine(), Mine()), x)

    assert len(torchs.log.tensors.samples) == 2
    assert len(mine.log.tensors.samples) == 4
    assert [call.outputs for call in torchs] == [call.outputs for call in mine]


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "fused adamw": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    "fused sgd": lambda p: torch.optim.SGD(p, lr=0.1, fused=True),
    "foreach adam": lambda p: torch.optim.Adam(p, lr=0.1, foreach=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_an_optimizer_stepped_is_no_unchanged_network(name):
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = OPTIMIZERS[name](net.parameters())

    with nnmagic.tracing(net) as found:
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.rand(5, 3)).sum().backward()
            optimizer.step()

    assert "the run changed 4 of its tensors: 0.weight" in str(found)
    assert not optimizer_step_hooks()


def test_a_step_that_touches_few_values_counts_too():
    net = nn.Embedding(50_000, 4)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)

    with nnmagic.tracing(net) as found:
        net(torch.tensor([7])).sum().backward()
        optimizer.step()

    assert "the run changed 1 of its tensors: weight" in str(found)


def test_parameters_without_a_gradient_are_not_stepped():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    net[0].requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)

    with nnmagic.tracing(net) as found:
        net(torch.rand(5, 3)).sum().backward()
        optimizer.step()

    assert "the run changed 2 of its tensors: 1.weight, 1.bias" in str(found)


def optimizer_step_hooks():
    return _global_optimizer_pre_hooks


def test_no_hook_is_left_on_the_optimizers_after_an_interrupt():
    with pytest.raises(KeyboardInterrupt), nnmagic.tracing():
        raise KeyboardInterrupt

    assert not optimizer_step_hooks()


CHANGED_BEFORE = [
    lambda net: net[0].weight.data.zero_(),
    lambda net: net[0].weight.detach().numpy().fill(0),
    lambda net: net[0].load_state_dict(nn.Linear(3, 4).state_dict()),
    lambda net: setattr(net[0], "weight", nn.Parameter(torch.zeros(4, 3))),
]


@pytest.mark.parametrize("change", CHANGED_BEFORE)
def test_a_weight_that_is_changed_before_the_first_call_counts(change):
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))

    with torch.no_grad(), nnmagic.tracing(net) as found:
        change(net)
        net(torch.rand(5, 3))

    assert "of its tensors: 0.weight" in str(found)


def test_a_network_that_nobody_named_is_compared_since_its_first_call():
    net = nn.Linear(3, 4)

    with nnmagic.tracing() as found:
        net(torch.rand(5, 3))

    assert "network unchanged since the first call" in str(found)
    assert "network unchanged" in nnmagic.trace(net, torch.rand(5, 3)).log.notes
