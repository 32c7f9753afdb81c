"""How tensor parallelism cuts a network: along which axis each parameter, and what goes with it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nnmagic.display import units
from nnmagic.network.layers import layers_of
from nnmagic.structure.plan_request import PlanError
from nnmagic.torch_private import parameters_of

OWN_PLAN = "_tp_plan"
"""Where a network says how it is cut: its styles by names, in which `*` stands for any number."""

BY_COLUMN = ("colwise", "colwise_rep", "colwise_gather_output", "packed_colwise")
BY_ROW = ("rowwise", "rowwise_rep", "rowwise_split_input", "packed_rowwise")
OF_EMBEDDINGS = {"embedding_rowwise": 0, "embedding_colwise": 1}
GATHERING = ("colwise_rep", "colwise_gather_output", "embedding_colwise")
SPLITTING = ("rowwise_rep", "rowwise_split_input")
WHOLE = (
    *("replicate", "replicated_with_grad_allreduce", "all_reduce", "local_params", "mla_kv_a_proj"),
    *("moe_tp_experts", "moe_identity_expert", "sequence_parallel"),
)
"""The styles of transformers: what they cut, whose output they gather, whose input they split."""

TORCHS = {"ColwiseParallel": "colwise", "RowwiseParallel": "rowwise"}
"""The classes of `torch.distributed.tensor.parallel` by the style that each is."""

HEADS = re.compile(r"(n|num)_?(\w+_)?heads?|heads")
"""The names of attributes that count the heads of an attention."""

NUMBERS = re.compile(r"(?<![^.])\d+(?![^.])")
"""What `*` stands for in a name."""


@dataclass(slots=True)
class Cuts:
    """Which parameters are cut, and what else is another one in the forward of a rank.

    Attributes:
        degree: over how many ranks they are cut.
        axes: the axis that a parameter is cut along, by its id.
        gathered: the layers whose output is gathered along its last axis, each with its size then.
        split: the layers that take their part of an input that is whole.
        attentions: the modules whose counts of heads are those of one rank.
        layers: how many layers have parameters that are cut.
        source: who says so.
        unknown: styles that are not known here, whose layers stay whole.
    """

    degree: int
    axes: dict[int, int] = field(default_factory=dict)
    gathered: list[tuple[nn.Module, int]] = field(default_factory=list)
    split: list[nn.Module] = field(default_factory=list)
    attentions: list[nn.Module] = field(default_factory=list)
    layers: int = 0
    source: str = ""
    unknown: tuple[str, ...] = ()

    def shape(self, parameter: torch.Tensor) -> tuple[int, ...]:
        """Return the shape of what the fullest rank holds of a parameter."""
        sizes = list(parameter.shape)
        axis = self.axes.get(id(parameter))
        if axis is not None:
            sizes[axis] = -(-sizes[axis] // self.degree)
        return tuple(sizes)

    def change_forward(self) -> None:
        """Make the forward that of a rank; all is put back when the network leaves meta."""
        for layer, size in self.gathered:
            layer.register_forward_hook(self._gather(size))
        for layer in self.split:
            layer.register_forward_pre_hook(self._split)
        for attention in self.attentions:
            for name, count in heads_of(attention).items():
                setattr(attention, name, count // self.degree)

    def _gather(self, size: int) -> Any:
        def gathered(layer: nn.Module, args: Any, output: Any) -> Any:
            return torch.cat([output] * self.degree, -1)[..., :size]

        return gathered

    def _split(self, layer: nn.Module, args: Any) -> Any:
        return args[0].chunk(self.degree, -1)[0].contiguous(), *args[1:]


def heads_of(module: nn.Module) -> dict[str, int]:
    """Return the attributes of a module that count heads."""
    return {
        name: value
        for name, value in vars(module).items()
        if type(value) is int and HEADS.fullmatch(name)
    }


def declared_cuts(network: nn.Module, degree: int) -> Cuts | None:
    """Return how a network says itself that it is cut, None where it does not.

    Raises:
        PlanError: if a parameter has not so many parts.
    """
    layers = layers_of(network)
    cuts = Cuts(degree, source=f"as the network's own {OWN_PLAN} says")
    unknown, roots = dict[str, None](), list[str]()
    for name, layer in layers.items():
        plan = vars(layer).get(OWN_PLAN)
        if not (isinstance(plan, Mapping) and plan) or any(map(name.startswith, roots)):
            continue
        before = f"{name}." if name else ""
        roots.append(before)
        for full, each in layers.items():
            if full.startswith(before) and full != name:
                unknown |= dict.fromkeys(_cut_as_told(plan, full, full[len(before) :], each, cuts))
    cuts.unknown = tuple(unknown)
    return cuts if roots else None


def _cut_as_told(
    plan: Mapping[Any, Any], full: str, name: str, layer: nn.Module, cuts: Cuts
) -> Iterator[str]:
    """Cut the parameters of a layer by the style that a plan has for it, or for each of them.

    Args:
        plan: the styles by name.
        full: the layer's name in the network.
        name: its name where the plan stands.
        layer: the layer.
        cuts: takes note of it.

    Yields:
        The styles that are not known.
    """
    of_layer = style_of(plan, name, layer)
    if of_layer in GATHERING:
        size: Any = getattr(layer, "out_features", None) or getattr(layer, "embedding_dim", 0)
        cuts.gathered.append((layer, size))
    if of_layer in SPLITTING:
        cuts.split.append(layer)
    before = len(cuts.axes)
    for key, parameter in parameters_of(layer).items():
        style = style_of(plan, f"{name}.{key}", layer) or of_layer
        if parameter is None or not style:
            continue
        if style not in (*BY_COLUMN, *BY_ROW, *OF_EMBEDDINGS, *WHOLE):
            yield style
        axis = _axis_of(style, parameter.dim())
        if axis is None:
            continue
        size = parameter.shape[axis]
        if size < cuts.degree:
            raise PlanError(
                f"tp={cuts.degree} cannot cut {units.printable(full)}.{key}, which is "
                f"{tuple(parameter.shape)}: axis {axis} has the size {size}"
            )
        cuts.axes.setdefault(id(parameter), axis)  # a tied one is cut as the first layer says
    cuts.layers += len(cuts.axes) > before


def style_of(plan: Mapping[Any, Any], name: str, layer: nn.Module) -> str:
    """Return the style that a plan has for a name, `""` where it has none."""
    style = plan.get(name) or plan.get(NUMBERS.sub("*", name)) or ""
    style = style if isinstance(style, str) else TORCHS.get(type(style).__name__, str(style))
    if isinstance(layer, nn.Embedding) and style in ("rowwise", "colwise"):
        return f"embedding_{style}"
    return style


def _axis_of(style: str, dimensions: int) -> int | None:
    """Return the axis that a style cuts a parameter along, None where it leaves it whole."""
    if style in BY_COLUMN:
        return max(0, dimensions - 2) if dimensions else None
    if style in BY_ROW:  # a bias is added once, after the sum over the ranks
        return dimensions - 1 if dimensions > 1 else None
    return OF_EMBEDDINGS.get(style) if dimensions > 1 else None
