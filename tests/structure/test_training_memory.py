import copy
import gc
import weakref

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import nnmagic
from nnmagic.network.naming import Naming
from nnmagic.structure.describe import describe
from nnmagic.structure.optimizers import OPTIMIZERS, forms_of, optimizer_bytes, optimizer_names
from nnmagic.structure.shape_run import MetaRequest
from nnmagic.structure.training_memory import SavedTensors, training_step


def really_saved(net, *args):
    """Return the bytes of the storages that a real run saves for backward, parameters left out."""
    apart = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers())}
    sizes = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in apart:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = net(*args)
    del output
    return sum(sizes.values())


def step_of(net, *args, optimizer="adam", **kwargs):
    return training_step(request_of(net, *args, optimizer=optimizer, **kwargs))


def request_of(net, *args, optimizer, own_input=False, **kwargs):
    call = {"network": net, "args": args, "kwargs": kwargs, "own_input": own_input}
    return MetaRequest(**call, naming=Naming(), title="", optimizer=optimizer)


def small_vit():
    return torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 128)


def encoder(**options):
    return nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, **options)


class Checkpointed(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        return checkpoint(self.layers, x, use_reentrant=False)


REFUSING = {"lbfgs", "muon", "sparseadam"}
"""Optimizers that need a closure, matrices only, or sparse gradients."""

NETWORKS = {
    "resnet18": (torchvision.models.resnet18, (2, 3, 64, 64)),
    "mobilenet": (torchvision.models.mobilenet_v3_small, (2, 3, 64, 64)),
    "encoder": (encoder, (2, 20, 64)),
    "encoder without dropout": (lambda: encoder(dropout=0), (2, 20, 64)),
    "vit": (small_vit, (2, 3, 32, 32)),
    "mlp": (lambda: nn.Sequential(nn.Linear(8, 9), nn.ReLU(True), nn.Linear(9, 2)), (5, 8)),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "mobilenet")) for name in NETWORKS],
)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("cast", [True, False])
def test_what_backward_needs_equals_what_a_real_run_saves(name, train, cast):
    make, shape = NETWORKS[name]
    net, x = make().train(train), torch.rand(shape)

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cast):
        real = really_saved(copy.deepcopy(net), x)
        step = step_of(net, x)

    assert step.saved_bytes == pytest.approx(real, rel=0.05 if cast else 0.001)
    assert not step.estimated


def test_a_relu_in_place_saves_no_more_than_its_output():
    net = nn.Sequential(nn.Linear(8, 9), nn.ReLU(inplace=True), nn.Linear(9, 2))

    step = step_of(net, torch.rand(5, 8))

    assert step.saved_bytes == 4 * (5 * 8 + 5 * 9)  # the input, and one storage of two layers


def test_parameters_and_buffers_are_no_saved_tensors():
    net = nn.BatchNorm1d(1000).eval()

    step = step_of(net, torch.rand(2, 1000))

    assert step.saved_bytes == 4 * 2 * 1000


@pytest.mark.parametrize("name", sorted(set(optimizer_names()) - REFUSING))
def test_the_state_equals_that_of_an_optimizer_that_stepped(name):
    net = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(5, 3))
    net[0].requires_grad_(False)
    net[1].half()
    stepped = copy.deepcopy(net)
    made = torch.optim.SGD if name == "momentum" else OPTIMIZERS[name]
    options = {"momentum": 0.9} if name == "momentum" else {}
    optimizer = made([p for p in stepped.parameters() if p.requires_grad], lr=0.1, **options)
    for parameter in stepped.parameters():
        parameter.grad = torch.zeros_like(parameter)

    optimizer.step()

    tensors = [v for state in optimizer.state.values() for v in state.values()]
    real = sum(t.numel() * t.element_size() for t in tensors if isinstance(t, torch.Tensor))
    trainable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    assert optimizer_bytes(forms_of(trainable), name) == real


@pytest.mark.parametrize("name", sorted(set(optimizer_names()) & REFUSING))
def test_an_optimizer_that_refuses_the_parameters_raises_its_own_error(name):
    with pytest.raises((TypeError, ValueError, RuntimeError), match=r"closure|2D|dense"):
        optimizer_bytes(forms_of(nn.Linear(4, 5).parameters()), name)


def test_a_frozen_parameter_gets_no_gradient_and_a_tied_one_gets_one():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    net[2].requires_grad_(False)

    step = step_of(net, torch.rand(2, 4))

    assert (step.gradient_bytes, step.optimizer_bytes) == (4 * 16, 2 * 4 * 16 + 4)


def test_the_summary_states_each_part():
    net, x = nn.Linear(4, 5), torch.rand(2, 4)

    summary = describe(
        MetaRequest(network=net, args=(x,), naming=Naming(), title="net", optimizer="momentum")
    )

    step = summary.training
    assert (step.gradient_bytes, step.optimizer_bytes, step.saved_bytes) == (100, 100, 32)
    assert step.together(100) == 3 * 100 + 32
    assert (
        "training step: parameters 100 B, buffers 0 B, gradients 100 B, state of momentum 100 B, "
        "saved for backward 32 B, together 332 B"
    ) in summary.totals()
    assert nnmagic.summary(net, x).training is None


def test_recurrent_layers_are_an_estimate_and_the_line_says_so():
    lstm = nn.LSTM(4, 5)

    step = step_of(lstm, pack_padded_sequence(torch.rand(5, 2, 4), [5, 3]))

    assert step.estimated
    assert step.saved_bytes > 4 * 8 * 4  # its input at least
    assert "(an estimate: recurrent layers save a workspace of their own)" in step.lines(0, 0)[0]


def test_a_step_that_fails_is_unknown_and_says_why():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    step = training_step(request_of(net, torch.rand(1, 4), optimizer="lbfgs", own_input=True))

    assert (step.saved_bytes, step.optimizer_bytes) == (None, None)
    assert step.together(0) is None
    saved, state = step.lines(0, 0)[1:]
    assert "the forward fails in train mode: Expected more than 1 value per channel" in saved
    assert "state of lbfgs unknown: LBFGS.step() missing" in state
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_step_is_told_where_no_graph_is_made(mode):
    net = nn.Sequential(nn.Linear(8, 9), nn.Tanh())
    expected = step_of(net, torch.rand(5, 8))

    with mode():
        step = step_of(net, torch.rand(5, 8))

    assert step == expected


def test_nothing_is_left_of_the_run():
    net, x = small_vit(), torch.rand(2, 3, 32, 32)
    before = [dict(module.__dict__) for module in net.modules()]
    state = copy.deepcopy(net.state_dict())
    random_state = torch.get_rng_state()

    step_of(net, x)

    assert [dict(module.__dict__) for module in net.modules()] == before
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_an_operation_that_saves_its_output_does_not_keep_it():
    net, x = nn.Softmax(-1), torch.rand(3, 4, requires_grad=True)
    saved = SavedTensors(net)

    with saved.noted():
        output = net(x)
    kept = weakref.ref(output)
    del output
    gc.collect()

    assert saved.bytes == 4 * 12
    assert kept() is None


def test_a_network_on_the_meta_device_takes_the_kernels_of_the_cpu():
    x = torch.rand(2, 3, 32, 32)
    with torch.device("meta"):
        net = small_vit()

    assert step_of(net, x) == step_of(net, x.to("meta")) == step_of(small_vit(), x)


def test_lazy_parameters_count_as_the_input_would_make_them():
    net, x = nn.Sequential(nn.LazyLinear(4), nn.ReLU()), torch.rand(2, 3)

    assert step_of(net, x) == step_of(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), x)
    assert isinstance(net[0].weight, nn.UninitializedParameter)


def test_what_is_computed_again_under_a_checkpoint_is_not_saved():
    layers = nn.Sequential(nn.Linear(4, 50), nn.Tanh(), nn.Linear(50, 4))
    net = Checkpointed(layers)

    assert step_of(net, torch.rand(2, 4)).saved_bytes == 2 * 4 * 4
    assert step_of(layers, torch.rand(2, 4)).saved_bytes == 2 * 4 * 4 + 2 * 50 * 4
