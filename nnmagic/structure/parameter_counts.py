"""How many parameters each layer of a network has."""

from collections.abc import Sequence

from torch import nn
from torch.jit import ScriptModule

from nnmagic.network.layers import (
    Layers,
    is_initialised,
    named_parameters,
    opaque_kind,
)
from nnmagic.records.weights import WeightForm, below, tied
from nnmagic.structure.weight_forms import weight_forms
from nnmagic.tensors.metadata import is_lazy, storage_bytes, storage_of
from nnmagic.torch_private import buffers_of, children_of, parameters_of


class Counts:
    """The number of parameters of each layer of a network, and the row that shows each first.

    They are counted before the network is on meta, where tensors share no storage.

    Args:
        layers: the layers of the network.
        shown: the dotted name under which a row first showed a parameter, by the parameter's id,
            e.g. `"fc.weight"`; shared with the counts of other networks of the same run.

    Attributes:
        layers: the modules of the network by name, each once.
        forms: the weights that are no plain parameters, by the name of their layer.
        buffer_bytes: the bytes of the buffers, a shared storage once; those of parameters are none.
        scripted: whether there is a ScriptModule among the layers.
        opaque: the kinds of layers that are one row each, e.g. `("a ScriptModule",)`.
        lazy: whether there are parameters that have no shape before the first run.
    """

    def __init__(self, layers: Layers, shown: dict[int, str] | None = None) -> None:
        self.layers = layers.by_name
        modules = layers.modules
        self.forms = weight_forms(layers.network, layers)
        self._below: dict[int, tuple[int, int, int]] = {}
        self._own: dict[int, Sequence[tuple[str, int, int]]] = {}
        self._shown: dict[int, str] = {} if shown is None else shown
        self.lazy = False
        buffers = (buffer for m in modules for buffer in buffers_of(m).values())
        parameters = (each for m in modules for each in parameters_of(m).values())
        self.buffer_bytes = storage_bytes(
            (each for each in buffers if each is not None),
            besides=(each for each in parameters if each is not None),
        )
        classes = {type(module): module for module in modules}.values()
        self.scripted = any(isinstance(module, ScriptModule) for module in classes)
        self.opaque = tuple(filter(None, dict.fromkeys(map(opaque_kind, classes))))
        self._taken = set[int]()
        if self.opaque or not self._add_up(modules):
            self._take(layers.network)

    def _add_up(self, modules: list[nn.Module]) -> bool:
        """Count the layers from the last to the first; a layer's children come after it.

        Returns:
            Whether that is all: sums do not add up where a layer, a parameter or a storage is held
            twice.
        """
        storages, held, children = set[int](), 0, 0
        below, owned = self._below, self._own
        for module in reversed(modules):
            parameters, inside = parameters_of(module), children_of(module)
            if not parameters and not inside:  # as half of all layers
                owned[id(module)], below[id(module)] = (), (0, 0, 0)
                continue
            total = trainable = stored = 0
            own = []
            for name, parameter in parameters.items():
                if parameter is None:
                    continue
                if is_lazy(parameter):
                    self.lazy = True
                    continue
                numel, needed, size, storage = _size(parameter)
                own.append((name, id(parameter), numel))
                storages.add(storage)
                total += numel
                trainable += needed
                stored += size
            held += len(own)
            for child in inside.values():
                if child is None:
                    continue
                children += 1
                each = below.get(id(child))
                if each is None:  # it has come earlier, and will be met again
                    return False
                total += each[0]
                trainable += each[1]
                stored += each[2]
            owned[id(module)], below[id(module)] = own, (total, trainable, stored)
        # a parameter that is held twice has one storage
        return children < len(modules) and held == len(storages)

    def _take(self, module: nn.Module) -> None:
        """Count a layer and all below it, each with the distinct parameters below it."""
        # opaque is a row of its own, with all that is below it
        whole = not is_initialised(module) or bool(opaque_kind(module))
        held = named_parameters(module) if whole else parameters_of(module)
        there = {name: p for name, p in held.items() if p is not None}
        own = {name: p for name, p in there.items() if not is_lazy(p)}
        self.lazy |= len(own) < len(there)
        self._own[id(module)] = [(name, id(p), p.numel()) for name, p in own.items()]
        parameters = [p for p in named_parameters(module).values() if not is_lazy(p)]
        total = sum(p.numel() for p in parameters)
        trainable = sum(p.numel() for p in parameters if p.requires_grad)
        self._below[id(module)] = total, trainable, storage_bytes(parameters)
        self._taken.add(id(module))
        for child in () if whole else children_of(module).values():
            if child is not None and id(child) not in self._taken:
                self._take(child)

    def has(self, module: nn.Module) -> bool:
        """Tell whether a module is one of the network's layers."""
        return id(module) in self._below

    def below(self, module: nn.Module) -> tuple[int, int, int]:
        """Return three numbers of a module and all below it.

        Returns:
            How many values the distinct parameters have, how many of those are trainable, and their
            bytes, a shared storage once.
        """
        return self._below[id(module)]

    def own(
        self, module: nn.Module, layer: str
    ) -> tuple[int, tuple[str, ...], tuple[WeightForm, ...]]:
        """Return the parameters that the row of a layer shows as its own.

        A parameter belongs to the first row that shows it; in later rows it is a tied weight.

        Returns:
            How many values they have, their names, and the layer's weights that are no plain
            parameters: tied, packed, parametrised or pruned.
        """
        owned = self._own[id(module)]
        if not owned and not self.forms:
            return 0, (), ()
        before = f"{layer}." if layer else ""
        total, names, forms = 0, list[str](), list[WeightForm]()
        for name, identity, numel in owned:
            full = before + name
            first = self._shown.get(identity)
            if first is None:
                self._shown[identity] = full
                total += numel
                names.append(name)
            elif first != full:
                forms.append(tied(name, first, numel))
        if self.forms:
            forms.extend(below(layer, self.forms))
        return total, tuple(names), tuple(forms)


def _size(parameter: nn.Parameter) -> tuple[int, int, int, int]:
    """Return a parameter's values, its trainable values, its bytes, and the id of its storage."""
    numel = parameter.numel()
    storage, limit = storage_of(parameter)
    stored = min(numel * parameter.element_size(), limit)
    return numel, numel if parameter.requires_grad else 0, stored, storage
