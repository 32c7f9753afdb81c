"""Specs of a forward's arguments, by their names, their hints and the network's config.

The field gives an argument the same name in most networks: `input_ids` are the ids of tokens,
`pixel_values` a picture, `lengths` the lengths of sequences. Where the network has a `config`, as
those of transformers and diffusers do, it says how large they are.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from nnmagic.inputs.first_layers import SEQUENCE, least_vocabulary, pictures_of
from nnmagic.inputs.specs import ConstantSpec, Spec, TensorSpec
from nnmagic.network.layers import modules_of

SECOND_OF_SOUND = 16_000
FRAMES = 64
LIST_OF_TENSORS = re.compile(r"\b(list|List|Sequence)\[(torch\.)?Tensor\b")
CONSTANTS = {"bool": False, "int": 1, "float": 1.0, "str": ""}
PARTS = ("text_config", "vision_config", "image_config", "audio_config", "encoder", "decoder")
"""The parts of a config that has one for each kind of input."""


def arguments_of(network: nn.Module) -> list[inspect.Parameter]:
    """Return the parameters of a network's forward."""
    try:
        return list(inspect.signature(network.forward).parameters.values())
    except (TypeError, ValueError):
        return [inspect.Parameter("input", inspect.Parameter.POSITIONAL_ONLY)]


def required_arguments(network: nn.Module) -> list[inspect.Parameter]:
    """Return those of the forward's parameters that every call has to give."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        each
        for each in arguments_of(network)
        if each.kind not in variable and each.default is inspect.Parameter.empty
    ]


def main_arguments(network: nn.Module) -> list[str]:
    """Return what a network of transformers names its main input; empty for any other network."""
    name = getattr(network, "main_input_name", None)
    names = name if isinstance(name, list) else [name]
    return [each for each in names if isinstance(each, str)]


def specs_of(parameter: inspect.Parameter, network: nn.Module) -> list[Spec]:
    """Return the specs of what an argument may be, the likeliest first.

    Empty if neither its name nor its hint says anything. `input_ids` of a network with a vocabulary
    of 100 gives `torch.randint(0, 100, (1, 16))`.
    """
    return [
        replace(spec, reason=f"{parameter.name} means {spec.reason}")
        for spec in _meaning(parameter, network)
    ]


def _meaning(parameter: inspect.Parameter, network: nn.Module) -> Iterator[Spec]:
    hint = parameter.annotation
    hint = hint.__name__ if isinstance(hint, type) else str(hint)
    if LIST_OF_TENSORS.search(hint):
        for size in pictures_of(network)[:3]:
            yield TensorSpec(size.shape[1:], listed=1, reason="a list of pictures")
    elif hint in CONSTANTS:
        yield ConstantSpec(value=CONSTANTS[hint], reason=f"a value of {hint}")
    elif parameter.name in MEANINGS:
        yield from MEANINGS[parameter.name](_Config(network))


class _Config:
    """The numbers that a network declares: in its config, in a part of that, or as an attribute."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        config = _value(network, "config")
        self.whole = config is not None
        parts = [_value(config, part) for part in PARTS] if self.whole else []
        self.holders = [each for each in (config, *parts, network.__dict__) if each is not None]

    def values(self, *names: str) -> Iterator[Any]:
        """Yield the values of those names that are there, the config's before its parts'."""
        values = (_value(holder, name) for name in names for holder in self.holders)
        return (value for value in values if value is not None)

    def number(self, *names: str) -> int | None:
        """Return the first of the values that is a positive whole number."""
        return next((value for value in self.values(*names) if _is_size(value)), None)

    def special_ids(self) -> Iterator[int]:
        """Yield the ids of tokens that mean more than a word, such as where a picture stands."""
        for holder in self.holders:
            for name, value in list(getattr(holder, "__dict__", {}).items()):
                if name.endswith(("token_id", "token_index")) and type(value) is int:
                    yield value


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


def _value(holder: Any, name: str) -> Any:
    try:
        return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)
    except Exception:  # noqa: BLE001 - a property of the user's that fails tells nothing
        return None


def _ids(config: _Config) -> Iterator[Spec]:
    vocabulary = config.number("vocab_size") or least_vocabulary(config.network) or 2
    special = [each for each in config.special_ids() if SEQUENCE < each < vocabulary]
    below = min(special, default=vocabulary)
    reason = f"ids of tokens below {below}"
    books = config.number("num_codebooks")
    if books is not None:
        yield TensorSpec((books, _length(config)), below=below, reason=reason)
    yield TensorSpec((1, _length(config)), below=below, reason=reason)


def _length(config: _Config) -> int:
    longest = config.number("max_position_embeddings", "n_positions", "block_size", "max_seq_len")
    return min(SEQUENCE, longest or SEQUENCE)


def _states(config: _Config) -> Iterator[Spec]:
    features = config.number("cross_attention_dim", "hidden_size", "d_model")
    if features is not None:
        yield TensorSpec((1, SEQUENCE, features), reason=f"states of {features} features")


def _pictures(config: _Config) -> Iterator[Spec]:
    names = "image_size", "img_size", "crop_size", "sample_size", "input_size"
    side = next(config.values(*names), None)
    if not config.whole or side is None:
        for size in pictures_of(config.network):
            yield replace(size, reason="a picture")
        return
    channels = config.number("num_channels", "in_channels", "in_chans") or 3
    sides = _sides(side)
    frames = config.number("num_frames", "frames_per_clip")
    reason = f"a picture of {' × '.join(map(str, sides))}"
    if frames is not None:
        yield TensorSpec((1, frames, channels, *sides), reason=f"{frames} pictures in a row")
    yield TensorSpec((1, channels, *sides), reason=reason)


def _sides(declared: Any) -> tuple[int, ...]:
    if isinstance(declared, Mapping):
        declared = [declared.get("height"), declared.get("width")]
    sides = tuple(declared) if isinstance(declared, tuple | list) else (declared, declared)
    return sides[-2:] if all(map(_is_size, sides)) and len(sides) > 1 else (224, 224)


def _sound(config: _Config) -> Iterator[Spec]:
    bins, frames = config.number("num_mel_bins"), config.number("max_length")
    if config.whole and bins is not None and frames is not None:
        yield TensorSpec((1, frames, bins), reason=f"{frames} frames of {bins} mel bins")
    reason = "a second of sound at 16 kHz"
    yield TensorSpec((1, SECOND_OF_SOUND), reason=reason)
    yield TensorSpec((1, 1, SECOND_OF_SOUND), reason=reason)


def _spectrum(config: _Config) -> Iterator[Spec]:
    bins = config.number("num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim")
    bins = bins or config.number("input_dim", "feature_size", "n_mels") or 80
    longest = config.number("max_source_positions")
    if longest is not None:
        frames = 2 * longest  # its two convolutions halve them once
        yield TensorSpec((1, bins, frames), reason=f"{bins} mel bins of {frames} frames")
    yield TensorSpec((1, FRAMES, bins), reason=f"{FRAMES} frames of {bins} features")
    yield TensorSpec((1, bins, FRAMES), reason=f"{bins} features of {FRAMES} frames")


def _hidden(config: _Config) -> Iterator[Spec]:
    for layer in modules_of(config.network):
        if isinstance(layer, nn.RNNBase | nn.RNNCellBase):
            pair = 2 * isinstance(layer, nn.LSTM | nn.LSTMCell)
            rows: tuple[int, ...] = ()
            if isinstance(layer, nn.RNNBase):
                rows = (layer.num_layers * (1 + layer.bidirectional),)
            yield TensorSpec((*rows, 1, layer.hidden_size), listed=pair, reason="its state")
            return
    size = config.number("hidden_size", "hidden_dim")
    if size is not None:
        yield TensorSpec((1, size), reason="its state")


def _series(config: _Config) -> Iterator[Spec]:
    length = config.number("context_length") or FRAMES
    channels = config.number("num_input_channels") or 1
    yield TensorSpec((1, length, channels), reason=f"{length} steps of {channels} channels")
    yield TensorSpec((1, length), reason=f"{length} steps")


def _always(spec: Spec) -> Callable[[_Config], list[Spec]]:
    return lambda config: [spec]


def _mask(config: _Config) -> list[Spec]:
    return [TensorSpec((1, _length(config)), fill=1, reason="a mask that leaves every token")]


def _steps(config: _Config) -> list[Spec]:
    below = least_vocabulary(config.network) or 1000
    return [TensorSpec((1,), below=below, reason="a number for each item")]


NAMES: Sequence[tuple[str, Callable[[_Config], Iterable[Spec]]]] = (
    ("input_ids decoder_input_ids ids token_ids tokens text src_tokens prev_output_tokens", _ids),
    ("attention_mask decoder_attention_mask", _mask),
    ("encoder_hidden_states", _states),
    ("pixel_values pixel_values_videos image images img picture video sample", _pictures),
    ("input_values waveform waveforms audio wav", _sound),
    ("input_features mel mels spectrogram", _spectrum),
    ("t step steps time timestep timesteps", _steps),
    ("hidden hidden_state hx h0 h_0 state", _hidden),
    ("past_values", _series),
    ("bbox", _always(TensorSpec((1, SEQUENCE, 4), fill=0, reason="a box for each token"))),
    (
        "length lengths seq_len seq_lens seq_length seq_lengths x_lengths src_lengths",
        _always(TensorSpec((1,), fill=SEQUENCE, reason="the length of each item")),
    ),
    ("offsets", _always(TensorSpec((1,), fill=0, reason="where each item begins"))),
    (
        "label labels target targets y class_labels",
        _always(TensorSpec((1,), below=2, reason="a class for each item")),
    ),
    (
        "edge_index",
        _always(TensorSpec((2, 32), below=SEQUENCE, reason="edges between 16 nodes")),
    ),
)

MEANINGS = {name: specs for names, specs in NAMES for name in names.split()}
"""What each name of an argument means in the field: the specs that it may have."""
