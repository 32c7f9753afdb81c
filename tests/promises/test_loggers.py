import re
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch

import nnmagic

PAGE = (Path(__file__).parents[2] / "docs" / "loggers.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^## (.+?)\n\n```python\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))


class Logger:
    """Stands for the three packages, which are not installed with the tests."""

    def __init__(self, *_, **__):
        self.logged = []

    def log(self, numbers, step):
        self.logged += [(name, value, step) for name, value in numbers.items()]

    def add_scalar(self, name, value, step):
        self.logged.append((name, value, step))

    def finish(self):
        pass

    def init(self, **_):
        return self

    __enter__ = init

    def __exit__(self, *_):
        pass


@contextmanager
def module_named(name, **attributes):
    module = ModuleType(name)
    vars(module).update(attributes)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before


def train(net):
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(25):
        optimizer.zero_grad()
        net(torch.rand(2, 28, 28)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("title", EXAMPLES)
def test_the_example_of_a_logger_runs_and_gets_what_the_page_says(title):
    logger, net = Logger(), nnmagic.NeuralNetwork()
    names = {"wandb": ("init",), "trackio": ("init", "log", "finish")}
    attributes = {
        name: {each: getattr(logger, each) for each in those} for name, those in names.items()
    }

    with (
        module_named("wandb", **attributes["wandb"]),
        module_named("trackio", **attributes["trackio"]),
        module_named("torch.utils.tensorboard", SummaryWriter=lambda path: logger),
    ):
        exec(EXAMPLES[title], {"nnmagic": nnmagic, "net": net, "train": train})

    assert sorted({step for *_, step in logger.logged}) == [0, 10, 20]
    found = {name for name, *_ in logger.logged}
    promised = re.findall(r"`([\w.]+(?:/[\w.]+)?)`", PAGE.split("|---|---|")[1].split("\n\n")[0])
    assert len(EXAMPLES) == 3
    assert len(promised) > 10
    assert set(promised) - {"backward"} <= found | {"net"}
    assert {value for name, value, _ in logger.logged if name == "nan"} == {0.0}
