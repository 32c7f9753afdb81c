"""A finding on the layer of a call."""

from typing import Any

from nnmagic.records.call_log import TraceLog
from nnmagic.records.finding import Finding


def finding_of(log: TraceLog, call: int, rule: str, text: str, **more: Any) -> Finding:
    """Return a finding on the layer of a call, in the iteration of the call.

    Args:
        log: the columns of the run.
        call: the call.
        rule: which rule found it.
        text: what a person reads.
        **more: other fields of the finding, such as a number.
    """
    layer = log.layer_of(call)
    return Finding(
        rule=rule,
        network=log.networks[layer.network],
        layer=layer.name,
        iteration=log.iteration_of(call),
        text=text,
        **more,
    )
