"""The weights of a network that are no plain parameters: packed, parametrised or pruned."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from nnmagic.network.layers import Layers, layers_of
from nnmagic.records.weights import WeightForm
from nnmagic.structure.meta import networks_on_meta
from nnmagic.structure.packed import Stored, holds_packed, packed_in
from nnmagic.tensors.metadata import bytes_of, storage_bytes
from nnmagic.torch_private import buffers_of, children_of, parameters_of, pre_hooks_of, pruned_name


def weight_forms(
    network: nn.Module, layers: Layers | None = None
) -> dict[str, tuple[WeightForm, ...]]:
    """Return the weights of a network that are no plain parameters, by the name of their layer.

    A `prune.l1_unstructured(net.fc, "weight", 0.5)` gives `{"fc": (pruned weight,)}`.

    Args:
        network: the network.
        layers: its current layers, if the caller has them already.
    """
    packed: dict[str, list[Stored]] = {}
    forms: dict[str, list[WeightForm]] = {}
    computed: dict[tuple[str, str], nn.Module] = {}
    layers = layers or Layers(network)
    for (layer, module), own in zip(layers.by_name.items(), layers.own, strict=True):
        if own and holds_packed(module):
            # torch's quantised layers hold them in modules of their own, whose names begin so
            owner = f".{layer}".partition("._")[0][1:]
            packed.setdefault(owner, []).extend(packed_in(module))
        if pre_hooks_of(module) and (found := [*_pruned(module), *_normed(module)]):
            forms[layer] = found
        if "parametrizations" in children_of(module):
            chains = children_of(module)["parametrizations"]
            if isinstance(chains, nn.ModuleDict):
                computed.update(((layer, name), chain) for name, chain in chains.items())
    for layer, stored in packed.items():
        forms.setdefault(layer, []).append(_packed(stored))
    for layer, form in _parametrised(network, computed):
        forms.setdefault(layer, []).append(form)
    return {layer: tuple(found) for layer, found in forms.items()}


def _packed(stored: list[Stored]) -> WeightForm:
    return WeightForm(
        name="",
        kind="packed",
        count=sum(each.shape.numel() for each in stored),
        parameters=0,
        stored_bytes=sum(each.shape.numel() * each.dtype.itemsize for each in stored),
        source=", ".join(sorted({str(each.dtype).removeprefix("torch.") for each in stored})),
    )


def _pruned(module: nn.Module) -> Iterator[WeightForm]:
    for hook in pre_hooks_of(module).values():
        if not isinstance(hook, prune.BasePruningMethod):
            continue
        name = pruned_name(hook)
        original, mask = parameters_of(module)[f"{name}_orig"], buffers_of(module)[f"{name}_mask"]
        if original is not None and mask is not None:
            yield WeightForm(
                name=name,
                kind="pruned",
                count=original.numel(),
                parameters=original.numel(),
                stored_bytes=bytes_of(original) + bytes_of(mask),
                density=None if mask.is_meta else float(mask.count_nonzero()) / mask.numel(),
            )


def _normed(module: nn.Module) -> Iterator[WeightForm]:
    """Yield the weights that a hook of `weight_norm` or `spectral_norm` computes."""
    for hook in pre_hooks_of(module).values():
        if isinstance(hook, WeightNorm | SpectralNorm):
            parts = ("orig",) if isinstance(hook, SpectralNorm) else ("g", "v")
            made_of = [parameters_of(module)[f"{hook.name}_{part}"] for part in parts]
            yield _computed(
                hook.name, module.__dict__[hook.name].numel(), made_of, type(hook).__name__
            )


def _parametrised(
    network: nn.Module, computed: Mapping[tuple[str, str], nn.Module]
) -> Iterator[tuple[str, WeightForm]]:
    """Yield the weights that parametrizations compute, each with the name of its layer.

    Args:
        network: the network.
        computed: the parametrizations by the names of the layer and of the weight.
    """
    if not computed:
        return
    parameters = {
        place: [p for p in parameters_of(chain).values() if p is not None]
        for place, chain in computed.items()
    }
    with networks_on_meta(network), torch.no_grad():
        modules = layers_of(network)
        counts = {(layer, name): _numel(modules[layer], name) for layer, name in computed}
    for (layer, name), chain in computed.items():
        classes = ", ".join(
            type(each).__name__ for each in children_of(chain).values() if each is not None
        )
        place = layer, name
        yield layer, _computed(name, counts[place], parameters[place], classes)


def _computed(name: str, count: int | None, made_of: Any, source: str) -> WeightForm:
    return WeightForm(
        name=name,
        kind="parametrised",
        count=count,
        parameters=sum(each.numel() for each in made_of),
        stored_bytes=storage_bytes(made_of),
        source=source,
    )


def _numel(module: nn.Module, name: str) -> int | None:
    try:
        return getattr(module, name).numel()
    except Exception:  # noqa: BLE001 - a parametrisation of the user's that fails on meta
        return None
