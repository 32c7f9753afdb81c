"""The probe: a network run on one same input at each recorded iteration, everything put back."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from nnmagic.contexts import block
from nnmagic.network.layers import set_training
from nnmagic.network.naming import Naming, Network
from nnmagic.network.preserve import preserved
from nnmagic.recording.iterations import Iteration
from nnmagic.recording.log_limits import LogLimits
from nnmagic.records.call_log import Series, TraceLog
from nnmagic.torch_private import transform_level


class Probe:
    """Runs the network that learns on one input, in eval mode and without gradients.

    It is run when a recorded iteration begins, on the weights that the iteration itself runs on.
    Its rows are of a network of their own, and bear the number of that iteration.

    Args:
        value: the input: a tuple holds the arguments, a dict the keyword arguments.
        log: the columns of the run.

    Attributes:
        network: what stands for the network in its rows; None before the first run.
        iteration: the iteration that the probe at hand is of; None while none runs.
    """

    def __init__(self, value: Any, log: TraceLog) -> None:
        is_plain = not isinstance(value, tuple | dict)
        self.args: tuple[Any, ...] = (value,) if is_plain else () if type(value) is dict else value
        self.kwargs: dict[str, Any] = value if isinstance(value, dict) else {}
        self.log = log
        self.network: Network | None = None
        self.iteration: Iteration | None = None
        self._of: int | None = None
        self._series = -1

    def is_due(self, iteration: Iteration) -> bool:
        """Tell whether an iteration that begins is of the one series that the probe goes with."""
        if self._of is None:
            self._of = iteration.series
        return self._of == iteration.series and transform_level() is None

    def run(self, network: Network, naming: Naming, limits: LogLimits, number: int) -> None:
        """Run a network on the input; if its forward fails that is said, and was the last time.

        Args:
            network: the network.
            naming: names what stands for it.
            limits: count its rows, which are thinned with those of the loop.
            number: the number of the iteration that begins.
        """
        module = network.module()
        if module is None:
            return
        if self.network is None:
            self.network = naming.probe_of(network)
            series = Series(self.network.index, "", "", training=False, grad=False)
            self._series = self.log.add_series(series)
        self.log.begun[self._series] = number + 1
        self.log.recorded[self._series] += 1
        limits.count(self._series)
        self.iteration = Iteration(self._series, number, is_skipped=False, is_new=True)
        try:
            with preserved(module), _own_generators(), torch.no_grad():
                set_training(module, training=False)
                module(*self.args, **self.kwargs)
        except Exception as error:  # noqa: BLE001 - the loop goes on
            self.log.say(f"the probe failed: {type(error).__name__}: {error}".splitlines()[0])
            self._of = -1
        finally:
            self.iteration = None


@block
def _own_generators() -> Iterator[None]:
    """Draw random numbers from the same start each time; put all generators back."""
    python, numpys = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    generators = [torch.default_generator, *(torch.cuda.default_generators[i] for i in devices)]
    states = [each.get_state() for each in generators]
    try:
        random.seed(0)
        np.random.seed(0)
        for each in generators:
            each.manual_seed(0)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpys)
        for each, state in zip(generators, states, strict=True):
            each.set_state(state)
