"""What a trace costs on an accelerator: `python -m benchmarks.accelerator`.

Runs the tests of devices, then prints traced over plain for resnet50 and 12 transformer blocks, and
how many times the host waited for the device within a traced forward: none is expected. Where there
is no accelerator it says so and does nothing.
"""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator

import torch
import torchvision
from torch import Tensor, nn

import nnmagic
from benchmarks.timing import timed
from benchmarks.traces import blocks, layer_by_layer

TESTS = tuple(
    f"tests/tensors/test_{name}.py" for name in ("devices", "device_runs", "device_statistics")
)

SECONDS = 10
"""How long each network is timed."""


def cases() -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield a name, a network in eval mode and its input, one after the other."""
    torch.manual_seed(0)
    yield "resnet50, 8 × 3 × 224 × 224", torchvision.models.resnet50(), torch.rand(8, 3, 224, 224)
    yield "12 transformer blocks, d = 256, T = 128", blocks(), torch.rand(8, 128, 256)


def waits(net: nn.Module, x: Tensor) -> int | None:
    """Return how often the host waited within a traced forward; None where torch cannot tell."""
    if not x.is_cuda:
        return None
    with nnmagic.tracing(net), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            net(x)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(each.message) for each in caught)


def main() -> int:
    """Run the tests and print the table; return the exit status of the tests."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device is None:
        print("no accelerator here: nothing was measured")
        return 0
    environment = os.environ | {"NNMAGIC_TEST_DEVICE": device.type}
    command = [sys.executable, "-m", "pytest", "-q", *TESTS]
    tests = subprocess.run(command, env=environment, check=False)
    print(f"torch {torch.__version__} on {device}: traced over plain, medians, and waits inside")

    def finished(run: object) -> None:
        torch.accelerator.synchronize()

    with layer_by_layer(), torch.no_grad():
        for name, network, cpu_input in cases():
            net, x = network.eval().to(device), cpu_input.to(device)
            found = timed(
                {
                    "plain": lambda net=net, x=x: finished(net(x)),
                    "traced": lambda net=net, x=x: finished(nnmagic.trace(net, x)),
                },
                SECONDS,
            )
            plain, traced = found["plain"].median, found["traced"].median
            ratio = f"{traced / plain:.2f} ({1000 * plain:.2f} ms plain)"
            print(f"{name:<42}{ratio:<26}waits: {waits(net, x)}")
    return tests.returncode


if __name__ == "__main__":
    sys.exit(main())
