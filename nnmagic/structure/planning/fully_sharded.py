"""What FSDP2 holds of a network: a shard of each parameter, and the layers that it gathers."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from torch import nn

from nnmagic.network.layers import layers_of, named_parameters
from nnmagic.structure.planning.tensor_parallel import style_of
from nnmagic.torch_private import children_of

OWN_PLAN = "_fsdp_plan"
"""Where a network of transformers says which of its layers are gathered on their own."""

KEPT = "keep_full_weight"
"""The style there of those that stay gathered from their forward to their backward."""

Parameters = list[nn.Parameter]


def shard(shape: tuple[int, ...], degree: int) -> tuple[int, ...]:
    """Return the shape of the largest shard of a parameter, to which the others are padded.

    Source: `FSDPParam._init_sharded_param` of torch pads each shard to the first chunk that
    `torch.chunk` makes along axis 0.
    """
    return (-(-shape[0] // degree), *shape[1:]) if degree > 1 else shape


@dataclass(slots=True)
class Gathered:
    """The parameters that are gathered together, each layer's that `fully_shard` is called on.

    Attributes:
        blocks: those that are sharded again after their forward, in order.
        kept: those that stay gathered from their forward to their backward.
        root: those of no other layer, which stay so too, and whose gradients wait for the end.
        text: which layers the blocks are.
    """

    blocks: list[Parameters] = field(default_factory=list)
    kept: Parameters = field(default_factory=list)
    root: Parameters = field(default_factory=list)
    text: str = ""

    def line(self, degree: int) -> str:
        """Return which layers are gathered at once, as a sentence."""
        shards = f"fsdp={degree} shards each parameter along its first axis and gathers"
        if not self.blocks:
            return f"{shards} the whole network at once, which has no blocks that repeat"
        rest = ", beside the rest of the network" if self.kept or self.root else ""
        return f"{shards} at most two blocks at once, of {self.text}{rest}"

    def most_bytes(self, size: Callable[[nn.Parameter], int]) -> int:
        """Return the most bytes that are whole at once, in the backward.

        While a block computes the one before it is fetched, and its gradients are whole until they
        are sharded (`FSDPParamGroup.pre_backward` and `post_backward` of torch).

        Args:
            size: gives the bytes of a parameter when it is whole.
        """

        def together(parameters: Parameters) -> int:
            return sum(map(size, parameters))

        def gradients(parameters: Parameters) -> int:
            return together([each for each in parameters if each.requires_grad])

        at_work = (
            together(before) + together(block) + gradients(block)
            for before, block in pairwise([[], *self.blocks])
        )
        stay = together(self.kept) + together(self.root) + gradients(self.root)
        return stay + max(at_work, default=0)


def gathered_layers(network: nn.Module) -> Gathered:
    """Return which layers of a network are gathered together.

    Those that its own plan names; else the elements of its lists and sequences that hold further
    layers, as its blocks are, the outermost ones. The rest is gathered with the network itself.
    """
    plan = vars(network).get(OWN_PLAN)
    chosen = _planned(network, plan) if isinstance(plan, Mapping) else []
    if not any(children_of(layer) for layer, _ in chosen):  # it knows no blocks of this network
        chosen = [(block, False) for block in blocks_of(network)]
    found, taken = Gathered(), set[int]()
    kinds = Counter[str]()
    for layer, is_kept in sorted(chosen, key=lambda each: not each[1]):
        own = [each for each in named_parameters(layer).values() if id(each) not in taken]
        taken.update(map(id, own))
        if is_kept:
            found.kept += own
        elif own:
            found.blocks.append(own)
            kinds[type(layer).__name__] += 1
    found.root = [each for each in named_parameters(network).values() if id(each) not in taken]
    found.text = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    return found


def _planned(network: nn.Module, plan: Mapping[object, object]) -> list[tuple[nn.Module, bool]]:
    """Return the layers that a plan names, and whether each stays gathered."""
    found = []
    for name, layer in layers_of(network).items():
        style = style_of(plan, name, layer)
        if style:
            found.append((layer, style == KEPT))
    return found


def blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost layers with layers inside that stand in a list or a sequence."""
    is_list = isinstance(module, nn.ModuleList | nn.Sequential)
    for child in children_of(module).values():
        if child is None:
            continue
        if is_list and children_of(child) and not isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from blocks_of(child)
