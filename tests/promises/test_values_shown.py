"""What the widget shows of a tensor are the recorded run's values, or it says that they are not."""

import copy
from contextlib import contextmanager, nullcontext
from random import Random

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.widget.widget import NetworkWidget

CHANGES = ("none", "weights", "one weight", "statistics", "mode", "input", "input gone", "network")
"""What happens to a network, or to what it got, between the run and the look at it."""


def network_of(random):
    """A network of convolutions, then of linear layers, with any of what differs by mode."""
    width, layers = random.choice([6, 12]), []
    channels = 3
    for _ in range(random.randint(1, 2)):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=random.random() < 0.5)]
        channels = width
        if random.random() < 0.5:
            layers.append(nn.BatchNorm2d(width))
        if random.random() < 0.4:
            layers.append(nn.Dropout(0.3))
    layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * width, 700), nn.Tanh()]
    if random.random() < 0.4:
        layers.append(nn.Dropout(0.5))
    return nn.Sequential(*layers, nn.Linear(700, 5))


@contextmanager
def clones_of_every_call(network):
    """What plain hooks see in the block: name, inputs and output of each call, as they end."""
    seen, started = [], {}

    def before(name):
        return lambda module, args: started.update({name: [each.clone() for each in args]})

    def after(name):
        return lambda module, args, output: seen.append(
            (name, [each.detach() for each in started[name]], [output.detach().clone()])
        )

    handles = []
    for name, module in network.named_modules():
        handles += [
            module.register_forward_pre_hook(before(name)),
            module.register_forward_hook(after(name)),
        ]
    yield seen
    for handle in handles:
        handle.remove()


def run(network, random):
    """Train, or evaluate, for some iterations; return the trace, the clones and the last input."""
    train, iterations = random.random() < 0.5, random.randint(1, 3)
    size = random.choice([24, 40])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network.train(train)
    steps = train and random.random() < 0.5
    inputs, clones = [torch.rand(3, 3, size, size) for _ in range(iterations)], []
    with (
        nnmagic.tracing(network) as trace,
        nullcontext() if train or random.random() < 0.5 else torch.no_grad(),
    ):
        for x in inputs:
            with clones_of_every_call(network) as seen:
                y = network(x)
            clones.append({name: (given, output) for name, given, output in seen})
            if steps:
                y.sum().backward()
                optimizer.step()
    return trace, clones, inputs.pop(), steps


def change(network, x, what):
    """Change what a later run may see; return what is still alive of the two."""
    with torch.no_grad():
        if what == "weights":
            for parameter in network.parameters():
                parameter.mul_(1.01)
        elif what == "one weight":
            network[0].weight[-1, -1, 0, 0] += 0.5
        elif what == "statistics":
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean += 0.1
        elif what == "mode":
            network.train(not network.training)
        elif what == "input":
            x += 0.1
    return (None if what == "network" else network), (None if what == "input gone" else x)


def values_of(tensor, buffers):
    picture = tensor["picture"]
    values = torch.frombuffer(bytearray(buffers[picture["buffer"]]), dtype=torch.float32)
    return values.view(picture["shape"])


def part(whole, picture):
    """What a picture says that it shows of a tensor."""
    places = zip(picture["shape"], picture["steps"], strict=True)
    return whole[tuple(slice(0, size * step, step) for size, step in places)]


def panel_of(page, widget, key):
    page.set(widget, selected=None)
    page.messages.clear()
    page.set(widget, selected=key)
    return answer(page)


def answer(page):
    message, buffers = page.told("panel")[-1]
    return message["panel"], buffers


def check(page, widget, key, clones, evaluated):
    """Hold all that is shown of a row against the clones; return how many loads were refused."""
    sides, outcomes = zip(("inputs", "outputs"), clones, strict=True), []
    for side, (whole,) in sides:
        panel, buffers = panel_of(page, widget, key)
        shown = panel[side][0]
        assert torch.equal(values_of(shown, buffers), part(whole, shown["picture"]))
        is_whole = values_of(shown, buffers).numel() == whole.numel()
        assert (f"all {whole.numel():,} values" in shown["picture"]["caption"]) == is_whole
        assert not (shown["loadable"] and is_whole)
        if is_whole:
            continue
        if shown["loadable"]:
            page.ask(widget, ask="all", tensor=side[:-1], index=0)
            shown, buffers = answer(page)[0][side][0], answer(page)[1]
        outcomes.append("refused" if shown["reason"] else "loaded")
        assert torch.equal(values_of(shown, buffers), part(whole, shown["picture"]))
        assert ("--keep all" in shown["reason"]) == (outcomes[-1] == "refused")
        if outcomes[-1] == "loaded":
            assert shown["picture"]["caption"] == f"all {whole.numel():,} values"
        elif shown["offers_new_run"]:
            page.ask(widget, ask="all", tensor=side[:-1], index=0, new=True)
            shown, buffers = answer(page)[0][side][0], answer(page)[1]
            assert shown["picture"]["caption"].startswith("a new run, eval mode: ")
            given, output = evaluated[key]
            new = (given if side == "inputs" else output)[0]
            assert torch.equal(values_of(shown, buffers), new)
    return outcomes


def evaluated_anew(network, x):
    """What plain hooks see when the network runs in eval mode, as it is now."""
    twin = copy.deepcopy(network).eval()
    with torch.no_grad(), clones_of_every_call(twin) as seen:
        twin(x)
    return {name: (given, output) for name, given, output in seen}


CASES = [
    case if case < len(CHANGES) else pytest.param(case, marks=pytest.mark.slow)
    for case in range(50)
]


@pytest.mark.parametrize("case", CASES)
def test_what_is_shown_or_loaded_is_of_the_recorded_run_or_is_refused_in_words(case, page):
    torch.manual_seed(case)
    random = Random(case)
    network = network_of(random)
    is_random = any(isinstance(each, nn.Dropout) for each in network)
    trace, clones, x, steps = run(network, random)
    what = CHANGES[case % len(CHANGES)]
    kept, input_kept = x.clone(), x
    network, x = change(network, x, what)
    del input_kept
    widget = page.show(NetworkWidget(trace))
    evaluated = None if network is None else evaluated_anew(network, kept)
    before = None if network is None else copy.deepcopy(network.state_dict())

    outcomes = {}
    for iteration in {0, len(clones) - 1}:
        page.set(widget, step=iteration)
        for key in clones[iteration]:
            found = check(page, widget, key, clones[iteration][key], evaluated or {})
            outcomes.setdefault(iteration, []).extend(found)

    last = outcomes[len(clones) - 1]
    if what in ("network", "mode"):
        assert set(last) <= {"refused"}
    if what == "none" and not steps and not (is_random and network.training):
        assert set(last) <= {"loaded"}
    for iteration in range(len(clones) - 1):
        assert set(outcomes.get(iteration, [])) <= {"refused"}
    if network is not None:
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
