"""What nnmagic says of a call that really fails."""

from contextlib import suppress

import nnmagic


def refusal(function, *args, **kwargs):
    """Return what is said of the layer that fails in a call."""
    with nnmagic.tracing() as trace, suppress(Exception):
        function(*args, **kwargs)
    (failed,) = [call for call in trace if call.failed][-1:]
    return failed.failure.mismatch
