"""The structure of a call, or of a network alone, in the way that was asked for."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from nnmagic.inputs.alone import describe_alone
from nnmagic.inputs.search import InputError, InputSearch
from nnmagic.inputs.specs import Input
from nnmagic.records.summary import Summary
from nnmagic.structure.describe import (
    ValuesNeededError,
    describe,
    from_run,
    planned_only,
    show_nothing,
)
from nnmagic.structure.shape_run import MetaRequest
from nnmagic.structure.torchinfo import cross_checked

ENGINES = ("nnmagic", "torchinfo")


class Way(NamedTuple):
    """How a structure is found.

    Attributes:
        real: whether a run for real is asked for, whatever shapes alone would tell.
        engine: whose figures they are, one of `ENGINES`.
    """

    real: bool = False
    engine: str = "nnmagic"


def summary_of_call(
    request: MetaRequest, way: Way, failed: Callable[[Summary], None] = show_nothing
) -> Summary:
    """Return the structure of a call; of a plan without one that of the layers.

    Args:
        request: the call.
        way: how it is found.
        failed: gets the summary of what ran before an exception goes on.

    Raises:
        PeerError: if torchinfo cannot summarise it.
        ValuesNeededError: as `describe`.
    """
    __tracebackhide__ = True
    if way.engine == "torchinfo":
        return cross_checked(request)
    if way.real:
        return from_run(request)
    try:
        return describe(request, failed=failed)
    except ValuesNeededError as error:
        if request.plan is None:
            raise
        return planned_only(request, lacking=str(error))


def summary_alone(
    search: InputSearch,
    request_of: Callable[[Input], MetaRequest],
    way: Way,
    *,
    device: torch.device | None = None,
    failed: Callable[[Summary], None] = show_nothing,
) -> Summary:
    """Return the structure of a network on an input of nnmagic's own.

    Args:
        search: finds the inputs.
        request_of: gives the request for the structure of a call with an input.
        way: how it is found.
        device: where an input of a real run is; None is the network's device.
        failed: gets the summary of what ran before an exception goes on.

    Raises:
        InputError: if no input goes through.
        PeerError: if torchinfo cannot summarise it.
        ValuesNeededError: as `describe_alone`.
    """
    __tracebackhide__ = True
    if way.engine == "torchinfo":
        return cross_checked(request_of(search.input_on(device)))
    try:
        return describe_alone(search, request_of, device=device, real=way.real, failed=failed)
    except (InputError, ValuesNeededError) as error:
        request = request_of(Input(args=()))
        if request.plan is None:
            raise
        return planned_only(request, lacking=str(error))
