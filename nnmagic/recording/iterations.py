"""Which iteration a root call is of: calls are counted by their place in the code and by mode."""

import sys
from types import CodeType, FrameType
from typing import Any, NamedTuple

import torch
from torch import nn

from nnmagic.network.calls import OBSERVERS, RunningCall
from nnmagic.network.naming import Network
from nnmagic.network.places import NOWHERE, expression_at, methods_of, outer_frames
from nnmagic.records.call_log import Series, TraceLog


class Iteration(NamedTuple):
    """One turn of a loop, as far as one place in the code and one mode are concerned.

    Attributes:
        series: the number of the place and the mode.
        number: which turn it is, from 0.
        is_skipped: whether it is not recorded.
        is_new: whether the call that it was asked for is its first.
    """

    series: int
    number: int
    is_skipped: bool
    is_new: bool


class _Mark:
    """What a method's frame is known by while it runs.

    Nothing else tells one run of a method from the next one, which may get the same frame at the
    same address; to hold the frame would keep the user's tensors alive. A frame holds its
    trace function, which only a debugger calls.

    Attributes:
        numbers: the number of its iteration, by the run that counts and the series.
    """

    def __init__(self) -> None:
        self.numbers: dict[tuple[object, int], int] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Do nothing, if a debugger that begins meanwhile calls it for a line."""


class Iterations:
    """Counts the root calls of a run.

    A call of a network, or of a layer, is one iteration of the call expression in the user's code
    that makes it. The layers that a method of the network calls (`net.forward(x)`,
    `vae.encode(x)`, a LightningModule's `training_step`) are all of one iteration: that of the
    expression by which the method was reached. What differs in mode (training or not, gradients
    or not) is counted apart. A thread goes on with the iteration that it was begun in, a
    recomputation with the last one of its network.

    Args:
        log: the columns of the run.
        every: record the iterations 0, every, 2 * every, ... only.
    """

    def __init__(self, log: TraceLog, every: int = 1) -> None:
        self.log = log
        self.every = every
        self._owner = object()
        self._series: dict[Any, int] = {}
        self._last: dict[int, Iteration] = {}
        self._methods: dict[int, dict[int, CodeType]] = {}
        self._held: tuple[FrameType, _Mark] | None = None

    def of_call(self, call: RunningCall[Any]) -> Iteration:
        """Return the iteration that a root call is of."""
        network, running = call.network, call.observer.running
        if call.recomputed and network.index in self._last:
            return self._last[network.index]._replace(is_new=False)
        if running and call.stack is not running:
            return running[0].iteration._replace(is_new=False)
        frame: Any = sys._getframe(4)  # at most: the observer, the layer's call
        while frame.f_code is not OBSERVERS.code:
            frame = frame.f_back
        inside = self._methods_of(network) if call.layer else {}
        user, method = outer_frames(frame.f_back, inside)
        training = is_training(network.module())
        found = self._next(network, None if method else call.layer, user, method, training)
        self._last[network.index] = found
        return found

    def of_function(self, outside: Network, name: str) -> Iteration:
        """Return the iteration that a tensor function outside every module is of."""
        user, called = outer_frames(sys._getframe(2), None)
        return self._next(outside, name, user, called, None)

    def finish(self) -> None:
        """Let go of a frame that is held."""
        self._held = None

    def _next(
        self,
        network: Network,
        counted: str | None,
        user: FrameType | None,
        method: FrameType | None,
        training: bool | None,
    ) -> Iteration:
        """Return the iteration that begins, or goes on.

        Args:
            network: the network that is called.
            counted: the layer, or the function, whose calls are counted; None for a method's runs.
            user: the frame of the user's code.
            method: the frame of the method that runs, where several calls may be of one iteration.
            training: whether the network is in training mode; None for a function.
        """
        expression = NOWHERE
        if user is not None:
            code = user.f_code
            expression = expression_at(code, code.co_filename, user.f_lasti)
        mode = training, torch.is_grad_enabled()
        key = network.index, counted, expression.position, mode
        series = self._series.get(key)
        if series is None:
            new = Series(network.index, expression.place, expression.source, *mode, expression.line)
            series = self._series[key] = self.log.add_series(new)
        numbers = {} if method is None else self._numbers_in(method)
        number = numbers.get((self._owner, series))
        is_new = number is None
        if number is None:
            number = numbers[self._owner, series] = self.log.begun[series]
            self.log.begun[series] += 1
            self.log.recorded[series] += number % self.every == 0
        return Iteration(series, number, number % self.every > 0, is_new)

    def _methods_of(self, network: Network) -> dict[int, CodeType]:
        if network.index not in self._methods:
            modules = (module() for _, module in network.layers())
            self._methods[network.index] = methods_of(each for each in modules if each is not None)
        return self._methods[network.index]

    def _numbers_in(self, method: FrameType) -> dict[tuple[object, int], int]:
        """Return the numbers of the iterations that this run of a method is of."""
        mark: Any = method.f_trace
        if mark is None:
            mark = method.f_trace = _Mark()
        elif type(mark) is not _Mark:  # a debugger's, in whose presence the frame may be held
            held, mark = self._held or (None, None)
            if held is not method:
                mark = _Mark()
                self._held = method, mark
        numbers: dict[tuple[object, int], int] = mark.numbers
        return numbers


def is_training(network: nn.Module | None) -> bool:
    """Tell whether a network is in training mode; not where it does not say so."""
    try:
        return network is not None and network.training is True
    except Exception:  # noqa: BLE001 - the user's class may have a property of that name
        return False
