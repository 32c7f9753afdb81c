"""Weights that are no plain parameters: tied, packed, parametrised or pruned."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from nnmagic.display import units

NAMED = 3
"""How many weights a line names before it says that there are more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightForm:
    """A weight that is no plain parameter.

    Attributes:
        name: its name, dotted from the layer or the network that shows it.
        kind: `"tied"`, `"packed"`, `"parametrised"` or `"pruned"`.
        count: how many values it has, zeros included; None where that is unknown.
        parameters: how many parameter values it is computed from.
        stored_bytes: the bytes of those, or of the packed tensors, a mask included.
        source: of a tied weight the name of the parameter, of a packed one its dtypes, of a
            parametrised one the classes that compute it: `"_Symmetric"`.
        density: the fraction that a mask keeps, in 0..1; None without a mask, or with one that has
            no values.
    """

    name: str
    kind: str
    count: int | None
    parameters: int
    stored_bytes: int
    source: str = ""
    density: float | None = None

    @property
    def text(self) -> str:
        """A few words for the row of its layer, e.g. `"weight pruned: 50% kept"`."""
        match self.kind:
            case "tied":
                return f"{self.name} = {self.source}"
            case "packed":
                return f"{units.count(self.count)} packed, {units.size(self.stored_bytes)}"
            case "pruned":
                return f"{self.name} pruned: {_kept(self.density)}"
        return f"{self.name}: {units.count(self.count)} from {units.count(self.parameters)}"


def _kept(density: float | None) -> str:
    return f"{units.percent(density) or 'unknown'} kept"


def tied(name: str, source: str, count: int) -> WeightForm:
    """Return a weight that is the parameter of another layer.

    Args:
        name: its name in its own layer.
        source: the dotted name under which the parameter is first shown.
        count: how many values it has.
    """
    return WeightForm(
        name=name, kind="tied", count=count, parameters=count, stored_bytes=0, source=source
    )


def below(layer: str, forms: Mapping[str, Sequence[WeightForm]]) -> tuple[WeightForm, ...]:
    """Return the weights that a layer's row shows: its own, and all packed ones below it as one."""
    inside = f"{layer}." if layer else ""
    packed = [
        form
        for name, held in forms.items()
        if name == layer or name.startswith(inside)
        for form in held
        if form.kind == "packed"
    ]
    own = tuple(form for form in forms.get(layer, ()) if form.kind != "packed")
    if not packed:
        return own
    return *own, replace(
        packed[0],
        count=sum(form.count or 0 for form in packed),
        stored_bytes=sum(form.stored_bytes for form in packed),
    )


def named(forms: Mapping[str, Sequence[WeightForm]], network: str) -> tuple[WeightForm, ...]:
    """Return the weights of all layers, each with its name dotted from the network.

    `{"fc": (weight,)}` gives a weight named `"fc.weight"`.
    """
    return tuple(
        replace(form, name=".".join(filter(None, (layer, form.name))) or network)
        for layer, held in forms.items()
        for form in held
    )


def added_values(forms: Iterable[WeightForm]) -> int | None:
    """Return how many more values weights have than the parameters that they are computed from.

    None where a weight's number of values is unknown.
    """
    counts = [(form.count, form.parameters) for form in forms if form.kind != "tied"]
    return None if any(n is None for n, _ in counts) else sum((n or 0) - p for n, p in counts)


def form_lines(forms: Sequence[WeightForm]) -> tuple[str, ...]:
    """Return a line for each kind of weights but the tied ones, which add no values."""
    others = sorted((form for form in forms if form.kind != "tied"), key=lambda form: form.kind)
    return tuple(_line(kind, list(same)) for kind, same in groupby(others, lambda form: form.kind))


def _line(kind: str, forms: list[WeightForm]) -> str:
    names = ", ".join(form.name for form in forms[:NAMED]) + (", …" if len(forms) > NAMED else "")
    counts = [form.count for form in forms]
    count = None if None in counts else sum(n or 0 for n in counts)
    values = "an unknown number of values" if count is None else units.plural(count, "value")
    stored = units.size(sum(form.stored_bytes for form in forms))
    sources = ", ".join(sorted({form.source for form in forms if form.source}))
    if kind == "packed":
        return f"packed: {values} in {stored} ({sources}), not among the parameters: {names}"
    parameters = units.plural(sum(form.parameters for form in forms), "parameter")
    if kind == "parametrised":
        return f"parametrised: {values} computed from {parameters}, {stored} ({sources}): {names}"
    kept = [
        None if form.density is None or form.count is None else form.density * form.count
        for form in forms
    ]
    known = count and None not in kept
    density = sum(n or 0 for n in kept) / count if known and count else None
    return f"pruned: {values}, {_kept(density)}, {stored} with their masks: {names}"
