"""The live network behind a trace: the arguments and the parameters of its layers now."""

import inspect
import re
import sys
from dataclasses import replace

from torch import nn

from nnmagic.display.table import Column, Table
from nnmagic.network.layers import layer_at, layers_of, named_parameters
from nnmagic.recording.rerun import Rerun
from nnmagic.records.trace import Trace
from nnmagic.structure.parameters import params
from nnmagic.tensors.metadata import metadata_of
from nnmagic.widget.panel import PARAMETERS_SHOWN, LayerDetails
from nnmagic.widget.weight_pictures import weight_pictures

MEASURED = 1 << 18
"""How many values of a parameter are measured for a panel, which is to open at once."""


NOT_HELD = "created inside a forward, so that the network does not hold it"


class LiveNetwork(Rerun):
    """What the widget may ask of the network behind a trace: its parameters, and another run."""

    def counts(self) -> dict[tuple[str, str], int] | None:
        """Return the number of parameters of each layer, by network and name; None if all gone."""
        found: dict[tuple[str, str], int] = {}
        if self.roots is None:
            return None
        for index, call in self.roots.last.items():
            network = call.network()
            if network is None:
                continue
            label = self.trace.log.networks[index]
            for name, module in layers_of(network).items():
                sizes = {id(p): metadata_of(p).numel for p in named_parameters(module).values()}
                found[label, name] = sum(sizes.values())
        return found or None

    def details(self, network: str, layer: str) -> LayerDetails:
        """Return a layer's arguments, documentation and parameters as they are now."""
        if self.is_function(layer):
            return LayerDetails(reason="a function holds no parameters")
        root = self._named(network)
        if root is None:
            where = "not in this session" if self.roots is None else "gone"
            return LayerDetails(reason=f"the network is {where}: its parameters cannot be seen")
        module = layer_at(root, layer)
        return LayerDetails(reason=NOT_HELD) if module is None else details_of(module)

    def layer(self, network: str, layer: str) -> nn.Module | None:
        """Return a layer as it is now; None where it is gone, or was made by a forward."""
        root = self._named(network)
        return None if root is None else layer_at(root, layer)

    def _named(self, network: str) -> nn.Module | None:
        """Return the network of this name; None where it is gone."""
        networks = self.trace.log.networks
        if self.roots is None or network not in networks:
            return None
        call = self.roots.last.get(networks.index(network))
        return None if call is None else call.network()


def live_network_of(trace: Trace) -> LiveNetwork:
    """Return the network behind a trace, with the notebook's names."""
    return LiveNetwork(trace, vars(sys.modules["__main__"]).get)


def details_of(module: nn.Module) -> LayerDetails:
    """Return a layer's arguments, the first sentence of its documentation and its parameters."""
    try:
        arguments = " ".join(module.extra_repr().split())
    except Exception:  # noqa: BLE001 - the user's code may raise, and then has nothing to say
        arguments = ""
    found = params(module, most=PARAMETERS_SHOWN + 1, at_most=MEASURED).rows
    return LayerDetails(
        arguments=arguments,
        doc=first_sentence(type(module)),
        parameters=found,
        reason="" if found else "no parameters",
        weights=weight_pictures(module),
        batch_first=_batch_first_of(module),
    )


def _batch_first_of(module: nn.Module) -> bool | None:
    """Return whether a layer takes the batch as the first axis; a transformer's attention says."""
    said = (getattr(each, "batch_first", None) for each in module.modules())
    return next((each for each in said if isinstance(each, bool)), None)


def first_sentence(kind: type) -> str:
    """Return the first sentence of a class's own documentation; none is taken from its bases."""
    written = kind.__dict__.get("__doc__")
    if not isinstance(written, str) or written.startswith(f"{kind.__name__}("):  # a dataclass's
        return ""
    paragraph, _, rest = inspect.cleandoc(written).partition("\n\n")
    if paragraph.startswith("__init__("):  # nn.LSTM's
        paragraph = rest.lstrip().partition("\n\n")[0]
    plain = re.sub(r":\w+:`~?([^`]*)`", r"\1", paragraph)  # Sphinx's roles
    plain = re.sub(r"`([^`<]+?)\s*<[^`]+>`_+", r"\1", plain)  # its links
    first, stop, _ = " ".join(plain.split()).partition(". ")
    return first + stop.strip()


def with_parameters(table: Table, counts: dict[tuple[str, str], int] | None) -> Table:
    """Return the table of a trace with the number of parameters of each layer, where known."""
    if counts is None:
        return table
    column = Column(
        "params",
        "count",
        "distinct ones, of the layer and everything below it",
        title="parameters",
        cell=lambda row: counts.get((row.network, row.layer.name), ""),
        priority=5,
        extra=True,
    )
    return replace(table, columns=(*table.columns, column))
