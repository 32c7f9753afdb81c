"""Which layers tensor parallelism can cut together where no plan of the network's own says so."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from torch import nn

from nnmagic.network.layers import layers_of, modules_of
from nnmagic.structure.planning.fully_sharded import blocks_of
from nnmagic.structure.planning.tensor_parallel import Cuts, heads_of
from nnmagic.torch_private import children_of, parameters_of

SOURCE = (
    "in pairs, the first by columns and the last by rows, since the network has no _tp_plan of its "
    "own"
)

PACKED = (1, 2, 3)
"""How many matrices may be packed in one, such as those of a query, a key and a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Linear layers in one module that are cut together, so that what goes between them is cut too.

    Attributes:
        name: the module's name.
        module: the module.
        home: the module that holds the first of them itself.
        columns: the layers that are cut by columns: they get a whole input.
        row: the layer after them, which is cut by rows: its output is summed over the ranks.
    """

    name: str
    module: nn.Module
    home: nn.Module
    columns: tuple[nn.Linear, ...]
    row: nn.Linear

    def obstacle(self, degree: int) -> str:
        """Return what cannot be cut into equal parts, e.g. `"6 num_heads"`; `""` if all can be."""
        features = (self.row.in_features, *(each.out_features for each in self.columns))
        heads = heads_of(self.home) if self.is_attention else {}
        sizes = [*(("features", size) for size in dict.fromkeys(features)), *heads.items()]
        return ", ".join(f"{size:,} {name}" for name, size in sizes if size % degree)

    @property
    def is_attention(self) -> bool:
        """Whether it makes queries, keys and values."""
        packed = self.columns[0].out_features == 3 * self.row.in_features
        return (packed or len(self.columns) > 2) and bool(heads_of(self.home))

    @property
    def layers(self) -> tuple[nn.Linear, ...]:
        """All its layers."""
        return (*self.columns, self.row)


Order = Mapping[str, int]
"""When each layer was called, by its name; empty where nothing ran."""


def pairs_of(network: nn.Module, order: Order) -> list[Pair]:
    """Return the pairs of a network whose layers one module holds itself."""
    found = list[Pair]()
    for name, module in layers_of(network).items():
        found += _paired(name, module, dict(_linears_of(name, module)), order)
    return found


def wider_pairs(network: nn.Module, order: Order, paired: Sequence[Pair]) -> list[Pair]:
    """Return the pairs within whole blocks, of layers that are in no pair yet.

    The attention of a BERT holds the queries, another module of the block what comes after it.
    """
    layers, found = layers_of(network), list[Pair]()
    taken = {id(layer) for pair in paired for layer in pair.layers}
    blocks = set(map(id, blocks_of(network)))
    for name, module in layers.items():
        if id(module) in blocks:
            linears = {
                full: layers[full]
                for full in layers
                if full.startswith(f"{name}.") and id(layers[full]) not in taken
            }
            found += _paired(name, module, linears, order)
    return found


def _paired(
    name: str, module: nn.Module, linears: Mapping[str, nn.Module], order: Order
) -> Iterator[Pair]:
    """Yield the pairs among linear layers of a module, which are given by name."""
    names = sorted(filter(lambda each: _is_linear(linears[each]), linears), key=_place_in(order))
    layers: Any = [linears[each] for each in names]
    while len(layers) > 1:
        row = _odd_one(layers) or layers[-1]
        layers.remove(row)
        columns = _columns_before(row, layers[-1:] if _is_chain(module) else layers)
        if columns:
            home = _home_of(columns[0], module)
            yield Pair(name=name, module=module, home=home, columns=columns, row=row)
        layers = [each for each in layers if each not in columns]


def _place_in(order: Order) -> Callable[[str], int]:
    return lambda name: order.get(name, len(order))


def _home_of(layer: nn.Module, module: nn.Module) -> nn.Module:
    """Return the module that holds a layer itself."""
    return next(
        (each for each in modules_of(module) if layer in children_of(each).values()), module
    )


def cuts_of(pairs: Sequence[Pair], degree: int) -> Cuts:
    """Return how pairs are cut."""
    cuts = Cuts(degree, source=SOURCE)
    for pair in pairs:
        for column in pair.columns:
            for parameter in parameters_of(column).values():
                if parameter is not None:
                    cuts.axes.setdefault(id(parameter), 0)
        cuts.axes.setdefault(id(pair.row.weight), 1)
        cuts.layers += len(pair.columns) + 1
        if pair.is_attention:
            cuts.attentions.append(pair.home)
    return cuts


def _is_chain(module: nn.Module) -> bool:
    """Tell whether each layer of a module gets what the one before it returned."""
    return isinstance(module, nn.Sequential)


def _linears_of(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Yield the linear layers of a module by name, also the only one of a list in it."""
    before = f"{name}." if name else ""
    for key, child in children_of(module).items():
        if isinstance(child, nn.ModuleList | nn.Sequential) and not _is_chain(module):
            inside = [(k, each) for k, each in children_of(child).items() if _is_linear(each)]
            if len(inside) == 1:
                yield f"{before}{key}.{inside[0][0]}", inside[0][1]  # type: ignore[misc]
        elif _is_linear(child):
            yield before + key, child  # type: ignore[misc]


def _is_linear(layer: nn.Module | None) -> bool:
    return isinstance(layer, nn.Linear) and parameters_of(layer).get("weight") is not None


def _odd_one(layers: Sequence[nn.Linear]) -> nn.Linear | None:
    """Return the only one of at least three layers that leads back, as `w2` of `w2(w1(x) * w3(x))`.

    It is the one by rows wherever it stands.
    """
    for odd in layers if len(layers) > 2 else ():
        sizes = {(each.in_features, each.out_features) for each in layers if each is not odd}
        if sizes == {(odd.out_features, odd.in_features)} and odd.in_features != odd.out_features:
            return odd
    return None


def _columns_before(row: nn.Linear, layers: Sequence[nn.Linear]) -> tuple[nn.Linear, ...]:
    """Return which of the layers make what a layer gets that is cut by rows.

    They get one input. Each makes as much as that layer takes, or a few matrices of it packed in
    one; two of them may make less, as the keys and the values of grouped heads.
    """
    run = list[nn.Linear]()
    for each in reversed(layers):
        is_part = row.in_features % each.out_features == 0
        if not (is_part or _is_whole(each, row)) or (
            run and each.in_features != run[0].in_features
        ):
            break
        run.append(each)
    fewer = [each.out_features for each in run if not _is_whole(each, row)]
    if fewer and (len(fewer) != 2 or len({*fewer}) != 1 or len(run) == 2):
        run = list(takewhile(lambda each: _is_whole(each, row), run))
    return tuple(reversed(run))


def _is_whole(column: nn.Linear, row: nn.Linear) -> bool:
    return column.out_features in (row.in_features * packed for packed in PACKED)
