import subprocess
import sys

import pytest
import torch
from torch import nn

import nnmagic


def test_unloading_takes_everything_away(session):
    shell = session.shell
    network = nnmagic.default_network()

    shell.run_line_magic("unload_ext", "nnmagic")

    assert shell.find_line_magic("nntrace") is None
    assert shell.find_cell_magic("nntrace") is None
    assert "NNMagics" not in shell.magics_manager.registry
    assert not any(type(each).__module__.startswith("nnmagic") for each in shell.ast_transformers)
    assert shell.Completer.custom_matchers == []
    assert nnmagic.default_network() is not network
    shell.run_line_magic("load_ext", "nnmagic")


def test_reloading_gives_one_of_each(session):
    session.run("%reload_ext nnmagic")
    session.run("net = nn.ReLU()")

    session.run("%nntrace net(torch.ones(2))\nx = 1")

    assert len(session.displayed) == 1
    assert len(session.shell.Completer.custom_matchers) == 1


def completions(session, line):
    found = session.shell.Completer.completions(line, len(line))
    return {completion.text for completion in found}


def test_options_are_completed(session):
    assert {"--depth", "--device", "--dtype"} <= completions(session, "%nntrace net(x) --d")
    assert completions(session, "%nntrace net --keep ") >= {"none", "sample", "all"}


def test_networks_are_completed(session):
    session.run("network_one, network_data = nn.ReLU(), torch.ones(2)")

    assert "network_one" in completions(session, "%nntrace netw")
    assert "network_one" in completions(session, "t = %nnsummary netw")


def test_a_line_of_python_is_completed_as_always(session):
    session.run("network_one = nn.ReLU()")

    assert not any("--" in each for each in completions(session, "netw"))


def test_the_extension_names_its_public_surface():
    assert {"trace", "tracing", "summary", "params", "fashion_mnist"} <= set(dir(nnmagic))
    assert isinstance(nnmagic.NeuralNetwork(), nn.Module)
    assert nnmagic.__version__
    assert torch is not None


FRESH = """
import sys, IPython, torch
from IPython.core.interactiveshell import InteractiveShell
from torch import nn
shell = InteractiveShell.instance()
before = set(sys.modules)

def told(names):
    print([name for name in names.split() if name in set(sys.modules) - before])

shell.run_line_magic("load_ext", "nnmagic")
told("torchvision pandas torchinfo anywidget ipywidgets torch.utils.flop_counter")
shell.user_ns["net"] = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(2), nn.LayerNorm(36),
    nn.Linear(36, 16), nn.GELU(), nn.Dropout(),
)
shell.user_ns["x"] = torch.rand(1, 3, 8, 8)
assert shell.run_line_magic("nnsummary", "-o summary net.eval()(x)").total_flops
told("triton torch._dynamo llvmlite")
"""


@pytest.mark.slow
def test_a_fresh_session_loads_little_and_its_summary_no_compiler():
    command = [sys.executable, "-c", FRESH]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[:2] == ["[]", "[]"], done.stdout + done.stderr
