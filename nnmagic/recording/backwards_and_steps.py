"""What a backward and a step belong to: the iteration that ran before, and its loss."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch

from nnmagic.contexts import block
from nnmagic.network.naming import Network
from nnmagic.network.watched_functions import backwards
from nnmagic.recording.loss_scale import LossScale
from nnmagic.records.call_log import TraceLog
from nnmagic.records.measures import LOSS, Quantity
from nnmagic.records.thinning import Renumbering
from nnmagic.tensors import devices
from nnmagic.tensors.metadata import HiddenFromUserCode
from nnmagic.tensors.shards import is_partial, part_here
from nnmagic.tensors.writer import TensorWriter
from nnmagic.torch_private import parameters_of


class BackwardsAndSteps:
    """Tells which root call a backward, or an optimizer's step, belongs to; notes the loss.

    That is the last one of the network, if it is recorded. The loss belongs to the network that ran
    last of those with parameters to learn; a loss that is a module is none.

    Args:
        log: the columns of the run.
        tensors: reads what is on an accelerator.

    Attributes:
        loss_scale: tells by how much a scaled loss, and its gradients, are too large.
    """

    def __init__(self, log: TraceLog, tensors: TensorWriter) -> None:
        self.log = log
        self.tensors = tensors
        self.loss_scale = LossScale()
        self._roots: dict[int, tuple[int, int | None]] = {}
        self._learns: dict[int, bool] = {}
        self._last: int | None = None
        self._begun = 0
        self._backwards = 0
        self._backwards_a_step: dict[int, Counter[int]] = {}

    @block
    def following(self) -> Iterator[None]:
        """See every backward, and every scaled loss, for the length of the block."""
        with self.loss_scale.following(), backwards(self.note_backward):
            yield

    def began(self, network: Network, root: int | None) -> None:
        """Note that a root call begins, None for one that is not recorded."""
        if not torch.is_grad_enabled():
            return
        index = network.index
        self._begun += 1
        self._roots[index] = self._begun, root
        if self.learns(network) or self._last is None or not self._learns[self._last]:
            self._last = index

    def learns(self, network: Network) -> bool:
        """Tell whether a network had parameters that want a gradient when it was asked of first."""
        if network.index not in self._learns:
            self._learns[network.index] = _learns(network)
        return self._learns[network.index]

    def root_of(self, networks: Collection[int]) -> int | None:
        """Return the last root call of these networks, None where that is not recorded."""
        roots = self._roots
        return max((roots[each] for each in networks if each in roots), default=(0, None))[1]

    def note_backward(self, losses: tuple[torch.Tensor, ...]) -> None:
        """Note that a backward begins, and the loss that it is called on."""
        self._backwards += 1
        entry = None if self._last is None else self._roots.get(self._last)
        if entry is None or entry[1] is None or self._last is None:
            return
        if len(losses) == 1 and losses[0].numel() == 1 and not is_partial(losses[0]):
            scale = self.loss_scale.scale_of(losses[0])
            quantity = Quantity(self._last, "", LOSS)
            self.measure(entry[1], [quantity], losses, lambda loss: loss / scale)

    @property
    def awaits_step(self) -> bool:
        """Whether no optimizer has made a step since the last backward."""
        return self._backwards > 0

    def note_step(self, optimizer: Any) -> None:
        """Count the backwards that an optimizer's step came after."""
        if self._backwards:
            counts = self._backwards_a_step.setdefault(id(optimizer), Counter())
            counts[self._backwards] += 1
        self._backwards = 0

    def measure(
        self,
        root: int,
        quantities: Sequence[Quantity],
        tensors: Sequence[torch.Tensor],
        number: Callable[..., float | None],
    ) -> None:
        """Add a number to the log, at once or when tensors on an accelerator are read.

        Args:
            root: the root call that it belongs to.
            quantities: what it is of: the same parameter may have several names.
            tensors: tensors of one value.
            number: makes the number of these values; None where it is unknown, which adds none.
        """

        def add(values: Sequence[torch.Tensor], reason: str) -> None:
            value = None if reason else number(*(float(each) for each in values))
            if value is not None:
                for quantity in quantities:
                    self.log.measures.add(root, quantity, value)

        with torch.no_grad(), HiddenFromUserCode():
            held = [part_here(each).detach() for each in tensors]
            if any(each.is_meta for each in held):
                return  # there is no number
            if any(map(devices.on_accelerator, held)) or self.log.tensors.read_pending is not None:
                self.tensors.read_later([each.clone() for each in held], add)
            else:
                add(held, "")

    def renumber(self, numbers: Renumbering) -> None:
        """Go on with the new numbers of the last root calls."""
        self._roots = {
            network: (begun, None if root is None else numbers.calls.get(root))
            for network, (begun, root) in self._roots.items()
        }

    def notes(self) -> list[str]:
        """Return a line where an optimizer steps after several backwards."""
        usual = [counts.most_common(1)[0][0] for counts in self._backwards_a_step.values()]
        several = sorted({each for each in usual if each > 1})
        if not several:
            return []
        count = " or ".join(map(str, several))
        return [f"{count} backwards a step: gradients accumulate, shown as the step got them"]


def _learns(network: Network) -> bool:
    """Tell whether a network has parameters that want a gradient."""
    modules = (module() for _, module in network.layers())
    held = (parameters_of(each).values() for each in modules if each is not None)
    return any(each is not None and each.requires_grad for own in held for each in own)
