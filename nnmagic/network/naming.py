"""Which network a call belongs to, and what its layer is called there."""

import weakref
from collections.abc import Callable, Iterable, Mapping

from torch import nn

from nnmagic.network.layers import is_initialised, layers_of, modules_of
from nnmagic.network.unregistered import HeldPlace, place_in
from nnmagic.torch_private import children_of

Candidates = Callable[[], Iterable[tuple[str, nn.Module]]]
"""Gives the networks that the user named, with those names."""


def name_bound_to(network: nn.Module, *namespaces: Mapping[str, object]) -> str | None:
    """Return the first name without a leading underscore that is bound to a network."""
    for namespace in namespaces:
        for name, value in list(namespace.items()):
            if value is network and not name.startswith("_"):
                return name
    return None


class Network:
    """A root network that ran: its label, and the names of its layers.

    Attributes:
        index: its number among the networks of one run.
        label: what it is called, unique in the run.
        steps: how many outermost calls it has had.
        is_probe: whether it stands for a network where that is run on a probe.
        unregistered: the layers that are called but not registered, by name, each with its place in
            a plain container, None for one that is in none.
    """

    __slots__ = ("index", "is_probe", "label", "module", "names", "steps", "unregistered")

    def __init__(self, index: int, label: str, module: nn.Module | None) -> None:
        self.index = index
        self.label = label
        self.module = (lambda: None) if module is None else weakref.ref(module)
        self.steps = 0
        self.is_probe = False
        self.unregistered: dict[str, HeldPlace | None] = {}
        named = {} if module is None else {"": module, **layers_of(module)}
        self.names = {id(m): (name, weakref.ref(m)) for name, m in named.items()}

    def layers(self) -> list[tuple[str, weakref.ref[nn.Module]]]:
        """Return the layers with their names, weakly referenced."""
        layers = self.names.values()
        return [each for each in layers if (m := each[1]()) is None or is_initialised(m)]

    def name_of(self, module: nn.Module, parent: nn.Module | None, parent_name: str) -> str:
        """Return the layer's dotted name in `named_modules()`, `""` for the network itself.

        A layer that was added during the run is looked up in its parent; one in a plain list is
        called by its place there; any other that is in no network, such as a Softmax made inside a
        `forward`, by its class in brackets.
        """
        entry = self.names.get(id(module))
        if entry is not None and entry[1]() is module:
            return entry[0]
        own = f"({type(module).__name__})"
        added, place = None, None
        if parent is not None:
            added = next((k for k, child in children_of(parent).items() if child is module), None)
            place = place_in(parent, module) if added is None else None
            own = added or (place.path if place else own)
        name = f"{parent_name}.{own}" if parent_name else own
        if parent is not None and added is None:
            self.unregistered[name] = place
        self.names[id(module)] = (name, weakref.ref(module))
        return name


class Naming:
    """Finds the network of each call that is made outside every other call.

    It keeps no module alive.

    Args:
        candidates: the networks that the user named in the expression, the cell or the line; the
            largest one that holds a called layer is the layer's network.
        label_of: the name that the notebook has for a network, if any.
        only: whether a layer that none of the candidates holds is left out.
    """

    def __init__(
        self,
        candidates: Candidates = tuple,
        label_of: Callable[[nn.Module], str | None] = lambda module: None,
        *,
        only: bool = False,
    ) -> None:
        self.candidates = candidates
        self.label_of = label_of
        self.only = only
        self.networks: list[Network] = []
        self._roots: dict[int, Network] = {}
        self._labels: dict[str, int] = {}
        self._outside: Network | None = None
        self._homes: dict[int, tuple[weakref.ref[nn.Module], Network]] = {}

    @property
    def named(self) -> list[nn.Module]:
        """The networks that the user named."""
        return [candidate for _, candidate in self.candidates()]

    def network_of(self, module: nn.Module) -> Network | None:
        """Return the network that an outermost call belongs to; None where it is left out."""
        entry = self._homes.get(id(module))
        if entry is not None and entry[0]() is module:
            return entry[1]
        holders = [
            (name, candidate)
            for name, candidate in self.candidates()
            if candidate is module or any(each is module for each in modules_of(candidate))
        ]
        if self.only and not holders:
            return None
        name, root = holders[0] if holders else (None, module)
        if len(holders) > 1:
            name, root = max(holders, key=lambda each: len(modules_of(each[1])))
        network = self._roots.get(id(root))
        if network is None or network.module() is not root:
            label = self._unique(name or self.label_of(root) or type(root).__name__)
            network = Network(len(self.networks), label, root)
            self.networks.append(network)
            self._roots[id(root)] = network
        self._homes[id(module)] = (weakref.ref(module), network)
        return network

    def home_of(self, module: nn.Module) -> Network | None:
        """Return the network that ran last of those that hold a layer, else as `network_of`."""
        for network in reversed(self.networks):
            entry = network.names.get(id(module))
            if entry is not None and entry[1]() is module and not network.is_probe:
                return network
        return self.network_of(module)

    def probe_of(self, network: Network) -> Network:
        """Return what stands for a network in the rows of its probe, a new one."""
        label = self._unique(f"{network.label} (probe)")
        probe = Network(len(self.networks), label, network.module())
        probe.is_probe = True
        self.networks.append(probe)
        return probe

    def outside(self, label: str) -> Network:
        """Return what stands for a network where something runs outside all modules."""
        if self._outside is None:
            self._outside = Network(len(self.networks), self._unique(label), None)
            self.networks.append(self._outside)
        return self._outside

    def _unique(self, label: str) -> str:
        number = self._labels.get(label, 0) + 1
        self._labels[label] = number
        return label if number == 1 else f"{label}#{number}"
