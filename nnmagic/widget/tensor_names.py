"""What the tensors that a call got and returned are called."""

from collections.abc import Iterator, Mapping

from nnmagic.display.units import Shape
from nnmagic.records.call_log import TraceLog

STATES = ("h_0", "c_0", "h_n", "c_n", "hidden", "cell")
"""The states of recurrent layers, by the names that torch's documentation gives them."""

OUTPUTS: Mapping[str, Mapping[str, str]] = {
    "LSTM": {"0": "output", "1.0": "h_n", "1.1": "c_n"},
    "GRU": {"0": "output", "1": "h_n"},
    "RNN": {"0": "output", "1": "h_n"},
    "LSTMCell": {"0": "hidden", "1": "cell"},
    "MultiheadAttention": {"0": "output", "1": "weights"},
}
"""What torch's own layers return, by place; a place within a place after a dot."""

INPUTS: Mapping[str, Mapping[str, str]] = {
    "LSTM": {"hx.0": "h_0", "hx.1": "c_0"},
    "GRU": {"hx": "h_0"},
    "RNN": {"hx": "h_0"},
    "LSTMCell": {"hx.0": "hidden", "hx.1": "cell"},
    "GRUCell": {"hx": "hidden"},
    "RNNCell": {"hx": "hidden"},
    "F.scaled_dot_product_attention": {
        "0": "query",
        "1": "key",
        "2": "value",
        "3": "attn_mask",
    },
}
"""What torch's documentation calls what they get, where their forwards call it otherwise."""


def output_names(log: TraceLog, call: int) -> list[str]:
    """Return what each tensor is called that a call returned: ``["logits", "loss"]``."""
    outputs = log.outputs[call]
    paths = log.output_names.get((log.layer[call], log.output_shape[call]))
    if paths is None or len(paths) != len(outputs):
        paths = tuple(map(str, range(len(outputs)))) if len(outputs) > 1 else ("",) * len(outputs)
    known = OUTPUTS.get(log.layer_of(call).type, {})
    return _named("output", [_known(known, path) for path in paths])


def input_names(log: TraceLog, call: int) -> list[str]:
    """Return what each tensor is called that a call got: ``["input", "attention_mask"]``."""
    inputs = log.inputs[call]
    paths = log.input_names.get((log.layer[call], log.input_shape[call]))
    if paths is None:
        paths = tuple(_paths_of_arguments(log.shapes[log.input_shape[call]]))
    if len(paths) != len(inputs):
        paths = tuple(map(str, range(len(inputs))))
    known = INPUTS.get(log.layer_of(call).type, {})
    return _named("input", [_known(known, path) for path in paths])


def _known(names: Mapping[str, str], path: str) -> str:
    """Return the path with its beginning replaced by the name that it has."""
    for beginning, name in names.items():
        if path == beginning or path.startswith(f"{beginning}."):
            return name + path[len(beginning) :]
    return path


def _named(side: str, paths: list[str]) -> list[str]:
    """Return a name for each path: those of numbers alone begin with the side."""
    if len(paths) == 1 and all(part.isdecimal() or not part for part in paths[0].split(".")):
        return [side]
    firsts = {path.partition(".")[0] for path in paths}
    if len(firsts) == 1 and all("." in path for path in paths) and firsts.pop().isdecimal():
        return _named(side, [path.partition(".")[2] for path in paths])  # a list of one
    if sum(path[:1].isdecimal() for path in paths) == 1:
        return [side if path.isdecimal() else path or side for path in paths]
    return [f"{side} {path}" if path[:1].isdecimal() else path or side for path in paths]


def _paths_of_arguments(shape: Shape) -> Iterator[str]:
    """Yield the path of each tensor in arguments, of which those given by name stand last."""
    last = ""
    if isinstance(shape, tuple) and shape and isinstance(shape[-1], dict):
        last = f"{len(shape) - 1}."
    for path in _paths(shape):
        yield path.removeprefix(last)


def _paths(shape: Shape) -> Iterator[str]:
    """Yield the path of each tensor in nested shapes."""
    if shape is None:
        return
    if isinstance(shape, tuple) and all(size is None or isinstance(size, int) for size in shape):
        yield ""
        return
    parts = shape.items() if isinstance(shape, dict) else enumerate(shape)
    for key, part in parts:
        for path in _paths(part):
            yield f"{key}.{path}" if path else str(key)
