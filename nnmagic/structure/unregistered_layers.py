"""What the rows of a structure show that no optimizer will see."""

from collections.abc import Iterator

from nnmagic.network.layers import named_parameters
from nnmagic.network.naming import Network
from nnmagic.network.unregistered import (
    is_registered_elsewhere,
    lost_parameters,
    made_anew_text,
)
from nnmagic.structure.shape_observer import LayerRun, ShapeObserver

MOST_LINES = 5
"""How many of them a display tells one by one."""


def unregistered_lines(observer: ShapeObserver) -> list[str]:
    """Return lines on layers and parameters that were used, and that their networks do not know."""
    by_label = {network.label: network for network in observer.naming.networks}
    called = {(run.network, run.layer): run for run in observer.runs}
    lines = [
        line
        for (label, _), run in called.items()
        if label in by_label
        for line in _lines_on(by_label[label], run, observer)
    ]
    more = len(lines) - MOST_LINES
    return lines[:MOST_LINES] + ([f"not registered: {more:,} more"] if more > 0 else [])


def _lines_on(network: Network, run: LayerRun, observer: ShapeObserver) -> Iterator[str]:
    name, layer = run.layer, run.module
    place, size = observer.unregistered.get((network.label, name), (None, 0))
    if run.stray is not None:
        layer = run.stray.reference()
    if layer is None:
        if size:
            yield made_anew_text(name, size)
        return
    if place is not None and size and not is_registered_elsewhere(layer):
        yield f"{name} {place.text(size)}"
    root = network.module()
    if root is not None and not type(layer).__module__.startswith("torch.nn."):
        for lost, text, parameter in lost_parameters(layer):
            if all(each is not parameter for each in named_parameters(root).values()):
                yield f"{name}.{lost} {text}" if name else f"{lost} {text}"
