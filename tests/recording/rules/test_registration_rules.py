"""Layers and parameters that no optimizer will see are found; those that are in order are not."""

import pytest
import torch
import transformers
from torch import nn

import nnmagic

X = torch.rand(4, 8)


class Net(nn.Module):
    """Sets attributes by a function, and runs another one."""

    def __init__(self, make, run):
        super().__init__()
        self.run = run
        make(self)

    def forward(self, x):
        return self.run(self, x)


def found(net, *, steps=None):
    """Return the texts of the findings of a call, by the layers that they are about."""
    with nnmagic.tracing() as trace:
        net(X).sum().backward()
        if steps is not None:
            steps.step()
    assert {each.rule for each in trace.findings} <= {"not registered"}
    notes = trace.table().notes
    assert all(each.text in notes for each in trace.findings[:5])
    return {each.layer: (each.number, each.text) for each in trace.findings}


def through(layers, x):
    for layer in layers:
        x = layer(x)
    return x


def two():
    return [nn.Linear(8, 16), nn.Linear(16, 3)]


def put(name, value):
    return lambda net: setattr(net, name, value)


CONTAINERS = {
    "a list": (put("layers", two()), lambda n, x: through(n.layers, x), "layers.0", "ModuleList"),
    "a tuple": (
        put("layers", tuple(two())),
        lambda n, x: through(n.layers, x),
        "layers.0",
        "ModuleList",
    ),
    "a dict": (
        put("parts", dict(zip("ab", two(), strict=True))),
        lambda n, x: through(n.parts.values(), x),
        "parts.a",
        "ModuleDict",
    ),
    "a list in a list": (
        put("grid", [two()]),
        lambda n, x: through(n.grid[0], x),
        "grid.0.0",
        "ModuleList",
    ),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_layers_in_a_plain_container_are_found_with_their_parameters(name):
    make, run, first, mend = CONTAINERS[name]

    texts = found(Net(make, run))

    (first_number, first_text), (second_number, second_text) = texts.values()
    assert (first_number, second_number) == (144, 51)
    assert next(iter(texts)) == first
    assert first_text.startswith(f"{first} is not registered (a plain ")
    assert f"no optimizer will see its 144 parameters; use nn.{mend}" in first_text
    assert "its 51 parameters" in second_text


def test_the_layers_inside_one_count_with_it():
    net = Net(put("blocks", [nn.Sequential(*two())]), lambda n, x: through(n.blocks, x))

    assert {name: number for name, (number, _) in found(net).items()} == {"blocks.0": 195}


@pytest.mark.parametrize("depth", [0, 1])
def test_a_layer_that_is_made_in_the_forward_is_found(depth):
    net = Net(lambda n: None, lambda n, x: nn.Linear(8, 3)(x))
    for _ in range(depth):
        net = nn.Sequential(net)

    ((number, text),) = found(net).values()

    assert number == 27
    assert text.startswith("a Linear is made anew in each forward")
    assert "its 27 parameters" in text


LOST = {
    "to another dtype": (lambda: nn.Parameter(torch.rand(8)).double(), "type nn.Parameter(…)"),
    "scaled": (lambda: nn.Parameter(torch.rand(8)) * 0.1, "type nn.Parameter(…)"),
    "reshaped twice": (lambda: nn.Parameter(torch.rand(2, 4)).t().reshape(8), "nn.Parameter(…)"),
    "in a list": (lambda: [nn.Parameter(torch.rand(8))], "use nn.ParameterList"),
    "in a dict": (lambda: {"c": nn.Parameter(torch.rand(8))}, "use nn.ParameterDict"),
}


@pytest.mark.parametrize("name", LOST)
def test_a_parameter_that_is_none_any_more_is_found(name):
    make, says = LOST[name]
    net = Net(put("c", make()), lambda n, x: n.fc(x))
    net.fc = nn.Linear(8, 2)

    ((number, text),) = found(net).values()

    assert number == 8
    assert text.startswith("c")
    assert "no optimizer will see its 8 parameters" in text
    assert says in text


def test_what_an_optimizer_got_by_hand_is_in_order():
    net = Net(put("layers", two()), lambda n, x: through(n.layers, x))
    by_hand = torch.optim.SGD([p for layer in net.layers for p in layer.parameters()], lr=0.1)

    assert found(net, steps=by_hand) == {}


def teacher(net):
    net.student, net.teacher = nn.Linear(8, 3), [nn.Linear(8, 3)]


def taught(net, x):
    with torch.no_grad():
        wanted = net.teacher[0](x)
    return (net.student(x) - wanted) ** 2


def shared(net):
    net.first = nn.Linear(8, 8)
    net.order = [net.first, net.first]


def cached(net, x):
    net.last = net.fc(x)
    return net.last


OUTER = nn.Linear(8, 3)
HEALTHY = {
    "registered": (put("fc", nn.Linear(8, 3)), lambda n, x: n.fc(x)),
    "a ModuleList": (put("layers", nn.ModuleList(two())), lambda n, x: through(n.layers, x)),
    "a hidden teacher": (teacher, taught),
    "a frozen layer in a list": (
        put("layers", [nn.Linear(8, 3).requires_grad_(False)]),
        lambda n, x: n.layers[0](x).requires_grad_(),
    ),
    "a list of registered layers": (shared, lambda n, x: through(n.order, x)),
    "a layer without parameters": (lambda n: None, lambda n, x: nn.ReLU()(x.requires_grad_())),
    "another network": (lambda n: None, lambda n, x: OUTER(x)),
    "a kept activation": (put("fc", nn.Linear(8, 3)), cached),
    "weight norm": (
        put("fc", nn.utils.parametrizations.weight_norm(nn.Linear(8, 3))),
        lambda n, x: n.fc(x),
    ),
    "an LSTM": (put("rnn", nn.LSTM(8, 3)), lambda n, x: n.rnn(x)[0]),
    "an input that requires a gradient": (
        put("points", torch.rand(4, 8, requires_grad=True)),
        lambda n, x: n.points * 2,
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_network_in_order_raises_no_alarm(name):
    net = Net(*HEALTHY[name])

    assert found(net) == {}
    assert found(net) == {}


def test_a_part_that_a_larger_network_knows_raises_no_alarm():
    whole = nn.ModuleDict({"a": nn.Linear(8, 3)})
    whole["b"] = Net(put("others", [whole["a"]]), lambda n, x: n.others[0](x))

    assert found(whole["b"]) == {}


def test_many_are_told_in_few_lines():
    layers = [nn.Linear(8, 8) for _ in range(24)]

    with nnmagic.tracing() as trace:
        Net(put("layers", layers), lambda n, x: through(n.layers, x))(X)

    assert len(trace.findings) == 24
    assert "not registered: 19 more in trace.findings" in trace.table().notes


CONFIGS = {
    "bert": transformers.BertConfig,
    "gpt2": transformers.GPT2Config,
    "llama": transformers.LlamaConfig,
    "t5": transformers.T5Config,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_networks_of_transformers_raise_no_alarm(name):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CONFIGS[name](**sizes, vocab_size=50, intermediate_size=32, num_key_value_heads=2)
    make = {"t5": transformers.AutoModelForSeq2SeqLM}.get(name, transformers.AutoModelForMaskedLM)
    make = transformers.AutoModelForCausalLM if name in ("gpt2", "llama") else make
    if name == "t5":
        config.decoder_start_token_id = 0
        config.d_model, config.d_kv, config.d_ff, config.num_layers = 16, 8, 32, 2
    net, ids = make.from_config(config), torch.randint(0, 50, (2, 6))

    with nnmagic.tracing() as trace:
        net(input_ids=ids, labels=ids).loss.backward()
        net(input_ids=ids, labels=ids).loss.backward()

    assert trace.findings == ()
