"""The state of the random generators, and putting it back."""

import random
from collections.abc import Iterator

import torch

from nnmagic.contexts import block


class RandomState:
    """The state of torch's generators, and of Python's, as it is now."""

    def __init__(self) -> None:
        self._python = random.getstate()
        self._cpu = torch.default_generator.get_state()
        self._devices = [(generator, generator.get_state()) for generator in _device_generators()]

    def set(self) -> None:
        """Put it back."""
        random.setstate(self._python)
        torch.default_generator.set_state(self._cpu)
        for generator, state in self._devices:
            generator.set_state(state)


def _device_generators() -> tuple[torch.Generator, ...]:
    modules = (torch.cuda, torch.xpu)
    return tuple(g for each in modules if each.is_initialized() for g in each.default_generators)


@block
def random_state_kept(seed: int | None = None) -> Iterator[None]:
    """Put the random state back after the block.

    Args:
        seed: what torch's CPU generator starts from in the block; None leaves it as it is.
    """
    state = RandomState()
    try:
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield
    finally:
        state.set()
