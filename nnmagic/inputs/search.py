"""An input for a network, where none is given."""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from nnmagic.contexts import block, quiet
from nnmagic.display.units import layer_name, layer_with_type
from nnmagic.inputs.arguments import arguments_of
from nnmagic.inputs.candidates import candidates, declared_inputs, sized_candidates
from nnmagic.inputs.first_layers import size_error
from nnmagic.inputs.specs import Candidate, Input
from nnmagic.network.calls import CallObserver, RunningCall, observed
from nnmagic.network.failures.mismatch import first_line, mismatch
from nnmagic.network.layers import Layers, device_of, dtype_of, set_training
from nnmagic.network.naming import Naming
from nnmagic.network.places import raising_line
from nnmagic.network.preserve import preserved
from nnmagic.network.random_state import random_state_kept
from nnmagic.structure.meta import is_for_want_of_values, networks_on_meta, on_meta
from nnmagic.structure.meta_cache import META_CACHE, MetaMode
from nnmagic.structure.meta_values import known_values
from nnmagic.torch_private import tree_leaves

META = torch.device("meta")

TRIAL_SECONDS = 2.0
"""How long candidates are tried on meta."""

TRIED_AT_LEAST = 12
"""How many candidates are tried on meta however long that takes."""

AFTER_PLAUSIBLE = 6
"""How many more are tried once meta could not tell of one."""

REAL_TRIALS = 4
"""How many candidates are tried for real where meta cannot tell."""


class InputError(ValueError):
    """No input goes through a network."""


NO_INPUT = Input(args=(), reason="its forward takes no input")


def takes_no_input(network: nn.Module) -> bool:
    """Tell whether a network's forward has no parameters at all."""
    return not arguments_of(network)


def work_out_input(network: nn.Module, device: torch.device | None = None) -> Input:
    """Return an input that goes through the network on the meta device.

    What the network declares comes first (`example_input_array`, `dummy_inputs`, the input size of
    its `default_cfg`), then what the names of its arguments mean in the field, then what its first
    layers with weights take, the likeliest first. Where meta cannot tell, since the network reads
    values or takes ids, the likeliest are tried for real.

    Args:
        network: the network.
        device: where the input is to be; default: the network's device.

    Raises:
        InputError: if nothing goes through; the text names the layer that refused, and what it got.
    """
    return InputSearch(network).input_on(device)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a call.

    Attributes:
        through: whether it succeeded; None where meta tensors cannot tell.
        calls: how many layers were called.
        refusal: the innermost layer that refused, and what it got.
        size_error: how many features or values too large the input was; negative where it was too
            small, or where that is not known.
        code: the line of the user's code that refused.
    """

    through: bool | None
    calls: int
    refusal: str
    size_error: int
    code: str

    @property
    def goes_through(self) -> bool:
        """Whether it succeeded on an input that is not too large."""
        return bool(self.through) and self.size_error <= 0


class Trial(NamedTuple):
    """A candidate, and what came of it."""

    candidate: Input | Candidate
    outcome: _Outcome


class InputSearch:
    """Tries inputs of a network, in eval mode and without a graph, and remembers who refused them.

    Args:
        network: the network, which every trial leaves as it was.
        sizes: the shapes that the user gave, batch included; none are worked out.
        dtypes: one for each shape, or one for all; default: the network's dtype or, where that is
            refused, integers.

    Attributes:
        needs_none: whether the network's forward takes no input, and none was given.

    Raises:
        InputError: if there are neither as many dtypes as sizes nor one.
    """

    def __init__(
        self,
        network: nn.Module,
        sizes: Sequence[tuple[int, ...]] = (),
        dtypes: Sequence[torch.dtype] = (),
    ) -> None:
        if len(dtypes) not in (0, 1, len(sizes)):
            raise InputError(
                f"{len(sizes)} sizes and {len(dtypes)} dtypes; give one dtype, or one a size"
            )
        self.network = network
        self.needs_none = not sizes and takes_no_input(network)
        self._sizes = sizes
        self._default_dtype = dtype_of(network)
        self._candidates: Generator[Input | Candidate, Any, None]
        if sizes:
            self._candidates = sized_candidates(network, sizes, dtypes)
        else:
            declared = list(declared_inputs(network))  # made before tensors are made on meta
            self._candidates = candidates(network, declared)
        self._started = time.monotonic()
        self._tried = 0
        self._size_error: Any = None
        self._unsure: list[Trial] = []
        self._odd: list[Trial] = []
        self._refused: list[Trial] = []
        self._last = 0

    def input_on(self, device: torch.device | None) -> Input:
        """Return an input that goes through on meta, ids also for real, else one that does so.

        Args:
            device: where it is to be; None is the network's device.

        Raises:
            InputError: if nothing goes through.
        """
        if self.needs_none:
            return NO_INPUT
        place = device or device_of(self.network)
        is_real = META not in (place, device_of(self.network))
        for candidate, outcome in self.likely():
            if outcome.through is False and not is_real:
                break
            network_input = candidate.on(place, self._default_dtype)
            may_differ = candidate.is_value_dependent and not self._sizes
            is_sure = outcome.goes_through and not may_differ
            if is_sure or not is_real or self._runs(candidate, network_input):
                return network_input
        raise InputError(self.refusal())

    def likely(self) -> Iterator["Trial"]:
        """Yield the candidates that go through on meta, then the likeliest of the others.

        Those are the first ones of which meta cannot tell, the odd ones, and those that came
        furthest before meta refused them.
        """
        while (trial := self._next()) is not None:
            yield trial
        refused = sorted(self._refused, key=lambda trial: -trial.outcome.calls)
        yield from [*self._unsure, *self._odd, *refused][:REAL_TRIALS]

    def _next(self) -> "Trial | None":
        """Return the next candidate that goes through on meta, None if no further one does."""
        with self._attempts_on_meta() as attempt:
            while self._has_time():
                try:
                    candidate = self._candidates.send(self._size_error)
                except StopIteration:
                    break
                outcome = attempt(candidate)
                self._tried += 1
                self._size_error = outcome.size_error
                trial = Trial(candidate, outcome)
                if outcome.goes_through:
                    return trial
                if outcome.through:
                    self._odd.append(trial)
                elif outcome.through is None:
                    self._unsure.append(trial)
                    self._last = self._last or self._tried + AFTER_PLAUSIBLE
                else:
                    self._refused.append(trial)
        return None

    def _has_time(self) -> bool:
        if self._last and self._tried >= self._last:
            return False
        return self._tried < TRIED_AT_LEAST or time.monotonic() - self._started < TRIAL_SECONDS

    def _runs(self, candidate: Input | Candidate, network_input: Input) -> bool:
        """Tell whether a call succeeds for real."""
        observer = _Refusal(self.network)
        with preserved(self.network), random_state_kept(seed=0), quiet(), observed(observer):
            set_training(self.network, training=False)
            outcome = observer.outcome_of(*network_input.call)
        if not outcome.through:
            self._refused.append(Trial(candidate, outcome))
        return outcome.through is True

    def note_refusal(self, candidate: Input | Candidate, calls: int, refusal: str) -> None:
        """Take note of a candidate that was refused in a real run, after so many calls."""
        self._refused.append(Trial(candidate, _Outcome(False, calls, refusal, -1, "")))

    @block
    def _attempts_on_meta(self) -> Iterator[Any]:
        """Put the network on meta for the length of the block.

        Yields:
            A function that tries a candidate and returns its outcome.
        """

        def attempt(candidate: Input | Candidate) -> _Outcome:
            real = candidate.on(None, self._default_dtype).call
            empty = on_meta(real)
            with mode, known_values(layers.modules, real, empty, all_small=True):
                return observer.outcome_of(*empty)

        mode = MetaMode(META_CACHE)
        layers = Layers(self.network)
        observer = _Refusal(self.network)
        with networks_on_meta(self.network, layers=layers), quiet(), observed(observer):
            set_training(self.network, training=False)
            yield attempt

    def refusal(self) -> str:
        """Return a line that names the layer that refused, what it got, and what to give."""
        if not self._refused:  # and none was given
            return (
                "no layer says what input the network takes; call it, "
                "or give --input-size 1,3,224,224"
            )
        candidate, outcome = max(self._refused, key=lambda trial: trial.outcome.calls)
        text = candidate.on(META, self._default_dtype).text
        if self._sizes:
            return f"the network refuses {text}: {outcome.refusal}"
        sizes = candidate.shapes if isinstance(candidate, Candidate) else ()
        shapes = (",".join(map(str, shape)) for shape in sizes)
        size = " ".join(f"--input-size {shape}" for shape in shapes)
        more = f", or give the right size in place of {size}" if size else ", such as net(x)"
        return f"no input found: on {text}, {outcome.refusal}; call the network on one{more}"


class _Refusal(CallObserver[None]):
    """Finds the innermost layer that refuses an input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(Naming(lambda: [("", network)]))
        self.called = network
        self.network = type(network).__name__
        self.calls = 0
        self.error: BaseException | None = None
        self.text = ""
        self.size_error = -1

    def outcome_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Outcome:
        """Call the network and return what comes of it."""
        self.calls, self.text, self.size_error = 0, "", -1
        through: bool | None = True
        code = ""
        try:
            with torch.no_grad():
                output = self.called(*args, **kwargs)
            self.size_error = _batch_grown((args, kwargs), output)
        except Exception as error:  # noqa: BLE001 - whatever a forward raises refuses the input
            self.text = self.text or f"{self.network} {first_line(error)}"
            through = None if is_for_want_of_values(error) else False
            code = raising_line(error) or self.text
        self.error = None  # which holds the frames of the call
        return _Outcome(through, self.calls, self.text, self.size_error, code)

    def began(self, call: RunningCall[None]) -> None:
        self.calls += 1

    def ended(self, call: RunningCall[None], output: Any) -> None:
        pass

    def raised(self, call: RunningCall[None], error: BaseException) -> None:
        if error is self.error:
            return
        self.error = error
        message = first_line(error)
        reads = isinstance(error, Exception) and is_for_want_of_values(error)
        got = "" if reads else mismatch(call, error)
        where = layer_name(self.network, call.layer)
        self.text = f"{layer_with_type(where, type(call.module).__name__)} {got or message}"
        tensor = next((each for each in call.args if isinstance(each, torch.Tensor)), None)
        self.size_error = size_error(call.module, () if tensor is None else tensor.shape, message)


def _batch_grown(given: Any, output: Any) -> int:
    """Return by how many items an output is longer than the batch of one that was given.

    A `view(-1, 400)` takes what is left of a picture that is too large for more items.
    """
    before, after = (
        next((leaf for leaf in tree_leaves(each) if isinstance(leaf, torch.Tensor)), None)
        for each in (given, output)
    )
    if before is None or after is None or before.dim() < 3 or before.shape[0] != 1:
        return 0
    return after.shape[0] - 1 if after.dim() > 1 else 0
