"""The options of the magics: one definition each, and what their words mean."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from IPython.core.error import UsageError
from IPython.core.magic_arguments import argument

from nnmagic.network.failures.mismatch import first_line
from nnmagic.records.record import View
from nnmagic.structure.optimizers import optimizer_names
from nnmagic.structure.plan_request import RANKS


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"takes a whole number, {least} or more, not {text!r}")
    return int(text)


_count = partial(_whole, least=0)
_positive = partial(_whole, least=1)


def _size(text: str) -> tuple[int, ...]:
    parts = text.strip("()[] ").removesuffix(",").split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(
            f"takes whole numbers with commas, the batch first, such as 1,3,224,224, not {text!r}"
        )
    return tuple(map(int, parts))


def _dtype(text: str) -> torch.dtype:
    dtype = getattr(torch, text.removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype):
        raise argparse.ArgumentTypeError(f"takes a dtype such as float16 or int64, not {text!r}")
    return dtype


def _plan(text: str) -> dict[str, int]:
    wanted = "takes over how many ranks to cut, such as fsdp=8,tp=4"
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = (each.strip() for each in part.partition("="))
        if name not in RANKS:
            raise argparse.ArgumentTypeError(f"{wanted}; {name!r} is none of {', '.join(RANKS)}")
        if name in sizes:
            raise argparse.ArgumentTypeError(f"{wanted}; {name} is there twice")
        if not (number.isdecimal() and int(number)):
            raise argparse.ArgumentTypeError(f"{wanted}; {name} is 1 or more, not {number!r}")
        sizes[name] = int(number)
    return sizes


def _device(text: str) -> torch.device:
    try:
        device = torch.device(text)
        torch.empty(0, device=device)
        if device.type == "meta":
            raise NotImplementedError("it holds no values")
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = first_line(error)
        raise argparse.ArgumentTypeError(f"cannot use the device {text!r}: {why}") from None
    return device


def _name(text: str) -> str:
    if not text.isidentifier():
        raise argparse.ArgumentTypeError(f"takes a variable's name, not {text!r}")
    return text


Option = Callable[[Any], Any]
"""Gives a magic one option, as a decorator."""


def _sort(column: str) -> Option:
    return argument(
        "--sort",
        metavar="COLUMN",
        help=f"show the rows by a column of to_frame(), largest first: --sort {column} "
        "(default: execution order)",
    )


def _flag(name: str, text: str) -> Option:
    return argument(name, action="store_true", help=text)


OPTIONS: dict[str, Option] = {
    "output": argument(
        "-o",
        "--output",
        metavar="NAME",
        type=_name,
        help="store the result under this name, a partial one too if the run fails: -o t",
    ),
    "depth": argument(
        "--depth",
        metavar="N",
        type=_count,
        help="show N levels of nesting below the outermost: --depth 2 "
        "(default: 3 in a terminal, all of them, folded, in a notebook)",
    ),
    "layers": argument(
        "--layers",
        metavar="GLOB",
        action="append",
        help="show only the layers whose dotted name matches, may be repeated: "
        '--layers "layer1.*" (default: all)',
    ),
    "sort_layers": _sort("flops"),
    "sort_params": _sort("count"),
    "top": argument(
        "--top", metavar="N", type=_positive, help="show the first N rows only: --top 5"
    ),
    "values": argument(
        "--values",
        metavar="N",
        type=_count,
        help="open every row and show its N leading rows of values: --values 3 "
        "(default: 2, as in param[:2], where a row is opened)",
    ),
    "input_size": argument(
        "--input-size",
        metavar="SIZE",
        type=_size,
        action="append",
        help="run on noise of this shape, batch included, once for each input: "
        "--input-size 1,3,224,224 (default: worked out from the first layers)",
    ),
    "dtype": argument(
        "--dtype",
        metavar="DTYPE",
        type=_dtype,
        action="append",
        help="the dtype of that noise, one for all inputs or one for each: --dtype int64 "
        "(default: the network's)",
    ),
    "device": argument(
        "--device",
        metavar="D",
        type=_device,
        help="the device of the default network and of inputs made here: --device cpu "
        "(default: the network's own; for the default network cuda or mps if there is one)",
    ),
    "optimizer": argument(
        "--optimizer",
        metavar="NAME",
        type=str.lower,
        choices=optimizer_names(),
        default="",
        help="tell the memory of a training step with this class of torch.optim, in lower "
        "case, or momentum for SGD with momentum: --optimizer adam (default: none)",
    ),
    "plan": argument(
        "--plan",
        metavar="SIZES",
        type=_plan,
        help="tell what each rank of a training on many would hold, sharded by FSDP2 and cut by "
        "tensor parallelism, with --optimizer its state too, with --dtype for the network in that "
        "dtype: --plan fsdp=8,tp=4 (default: none)",
    ),
    "every": argument(
        "--every",
        metavar="N",
        type=_positive,
        default=1,
        help="in a cell, record the iterations 0, N, 2N, ... of each call expression in the code, "
        "apart for training and evaluation: --every 10 (default: 1)",
    ),
    "probe": argument(
        "--probe",
        metavar="EXPR",
        default="",
        help="in a cell, run the network that learns again on this input, in eval mode and without "
        "gradients, at each recorded iteration: --probe x_test[:64] (default: none)",
    ),
    "step": argument(
        "--step",
        metavar="N",
        type=_count,
        help="show iteration N, counted from 0 for each call expression in the code: --step 0 "
        "(default: the last)",
    ),
    "classes": argument(
        "--classes",
        metavar="NAMES",
        help="names for the class scores, or the name of a list of them: "
        "--classes cat,dog (default: numbers)",
    ),
    "keep": argument(
        "--keep",
        choices=("none", "sample", "all"),
        default="sample",
        help="what to keep of each tensor's values: nothing, a bounded sample or a full "
        "copy: --keep all (default: sample)",
    ),
    "grad": _flag(
        "--grad",
        "gradients too, of what the layers return and of their parameters, for a "
        "backward in the expression or the cell: --grad loss_fn(net(x), y).backward()",
    ),
    "param_grad": _flag(
        "--grad",
        "the norm of each parameter's gradient after the expression, and which got none: --grad",
    ),
    "against_params": argument(
        "--against",
        metavar="X",
        help="compare with the parameters of X, a network, a state dict, a record of %%nnparams or "
        "a file (.safetensors, .pt, an index of shards, a folder): --against model.safetensors net",
    ),
    "real": _flag(
        "--real",
        "run for real, whatever could be had on shapes alone, and a network of more than 1 GiB "
        "too: --real net(x)",
    ),
    "engine": argument(
        "--engine",
        choices=("nnmagic", "torchinfo"),
        default="nnmagic",
        help="whose figures to show; those of torchinfo come with the lines in which they "
        "differ from nnmagic's: --engine torchinfo (default: nnmagic)",
    ),
    "ops": _flag(
        "--ops",
        "a row for each tensor function that a forward calls itself, such as an "
        "addition or F.relu: --ops",
    ),
    "against": argument(
        "--against",
        metavar="WHAT",
        default="",
        help="set the run beside that of another network, a trace or its file, or of a copy: eval, "
        "train, float64, bfloat16, float16, compiled, or items (each item of the batch alone): "
        "--against bfloat16 (default: nothing)",
    ),
    "isolate": _flag(
        "--isolate",
        "with --against: each layer of the other side also on this side's input, which tells its "
        "own error: --isolate",
    ),
    "float64": _flag(
        "--float64",
        "with --against: both sides in float64 too, where a difference that is rounding vanishes: "
        "--float64",
    ),
    "static": _flag("--static", "show the static table only, no widget: --static"),
    "live": _flag(
        "--live",
        "show a widget that follows every later call of the network until it is closed; a cell's "
        "widget follows its loop, with --live from the first iteration on: --live",
    ),
}


def options(*names: str) -> Option:
    """Return a decorator that gives a magic these options, in this order in its help."""

    def decorate(magic: Any) -> Any:
        for name in reversed(names):
            magic = OPTIONS[name](magic)
        return magic

    return decorate


def takes_value(magic: Any) -> dict[str, bool]:
    """Return the options of a magic, each with whether a value follows it."""
    return {
        flag: action.nargs != 0
        for action in magic.parser._actions
        for flag in action.option_strings
    }


def choices_of(magic: Any, flag: str) -> tuple[str, ...]:
    """Return the values that an option of a magic can have, where they are few."""
    actions = (each for each in magic.parser._actions if flag in each.option_strings)
    return tuple(choice for action in actions for choice in action.choices or ())


def view_of(line_options: argparse.Namespace, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the display options among those of a line, for `Record.show`."""
    values = vars(line_options) | {"classes": classes or None}
    names = View.__dataclass_fields__
    return {name: values[name] for name in names if values.get(name) is not None}


def class_names(text: str | None, look_up: Callable[[str], Any]) -> tuple[str, ...]:
    """Return the class names that were given, or those of the list that was named.

    Raises:
        UsageError: if the name is not that of a list.
    """
    if not text:
        return ()
    if "," in text:
        return tuple(part.strip() for part in text.split(","))
    first, *attributes = text.split(".")
    value = look_up(first)
    for attribute in attributes:
        value = getattr(value, attribute, None)
    if not isinstance(value, list | tuple):
        raise UsageError(
            f"--classes takes names with commas, or the name of a list; {text!r} is none"
        )
    return tuple(map(str, value))
