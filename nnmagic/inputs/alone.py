"""The structure of a network alone: on an input that is worked out, or of sizes that are given."""

from collections.abc import Callable
from contextlib import redirect_stdout

import torch

from nnmagic.inputs.search import NO_INPUT, InputError, InputSearch
from nnmagic.inputs.specs import Input
from nnmagic.network.failures.mismatch import first_line
from nnmagic.network.layers import device_of, dtype_of
from nnmagic.records.summary import Summary
from nnmagic.structure.describe import (
    HeldOutput,
    WhyReal,
    describe,
    from_run,
    from_shapes,
    obstacle_to_run,
    show_nothing,
)
from nnmagic.structure.shape_run import MetaRequest


def describe_alone(
    search: InputSearch,
    request_of: Callable[[Input], MetaRequest],
    *,
    device: torch.device | None = None,
    real: bool = False,
    failed: Callable[[Summary], None] = show_nothing,
) -> Summary:
    """Return the structure of a network on the likeliest input, from shapes alone where they do.

    Elsewhere the likeliest inputs are run for real, each once, until one goes through: that run is
    the answer.

    Args:
        search: finds the inputs.
        request_of: gives the request for the structure of a call with an input.
        device: where an input of a real run is; None is the network's device.
        real: whether to run for real at once.
        failed: gets the summary of what ran before an exception goes on.

    Raises:
        InputError: if no input goes through.
        ValuesNeededError: if shapes alone do not do, and a real run is heavy or has no values.
    """
    __tracebackhide__ = True
    network = search.network
    if search.needs_none:
        request = request_of(NO_INPUT)
        return from_run(request, failed=failed) if real else describe(request, failed=failed)
    place, dtype = device or device_of(network), dtype_of(network)
    for candidate, on_meta in search.likely():
        request = request_of(candidate.on(place, dtype))
        obstacle = "" if real else obstacle_to_run(request)
        why = None if real or not on_meta.code else WhyReal(on_meta.code, wants_values=True)
        if obstacle and on_meta.through is False:
            break
        if obstacle or (on_meta.through is not False and not real):
            shapes = request_of(candidate.on(None, dtype))
            found = from_shapes(shapes, failed=failed, willing=not obstacle)
            if isinstance(found, Summary):
                return found
            why = found
        printed, partial = HeldOutput(), list[Summary]()
        try:
            with redirect_stdout(printed):
                summary = from_run(request, why, failed=partial.append)
        except Exception as error:  # noqa: BLE001 - whatever a forward raises refuses the input
            refusal = partial[0].failure if partial else first_line(error)
            calls = sum(row.call is not None for row in partial[0].rows) if partial else 0
            search.note_refusal(candidate, calls, refusal)
        else:
            printed.flush()
            return summary
    raise InputError(search.refusal())
