"""The leading run: the traced call itself, or one of a copy, beside which others run."""

from collections import Counter
from collections.abc import Iterator, Sequence
from threading import get_ident
from typing import Any, NamedTuple

from torch import nn

from nnmagic.comparing.follower import Event, Follower
from nnmagic.comparing.watched_run import CallKey, NetworkCall, nothing_saved
from nnmagic.contexts import block
from nnmagic.network.calls import observed
from nnmagic.network.nested_values import tensors_in
from nnmagic.network.preserve import preserved


class Leader:
    """Sees the calls of a network in this thread, and lets the followers come up at each of them.

    Args:
        network: the network that the layers' names are of.
        followers: the runs beside it.
    """

    def __init__(self, network: nn.Module, followers: Sequence[Follower]) -> None:
        self._names = {id(module): name for name, module in network.named_modules()}
        self._followers = followers
        self._seen = Counter[str]()
        self._thread = get_ident()

    def enter(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> "LeadingCall | None":
        """Note that a call begins."""
        name = self._names.get(id(module))
        if name is None or get_ident() != self._thread:
            return None
        key = CallKey(name, self._seen[name])
        self._seen[name] += 1
        self._reach(Event(key, is_end=False), (args, kwargs))
        return LeadingCall(self, key)

    def leave(self, call: "LeadingCall", output: Any) -> None:
        """Note that it returned."""
        self._reach(Event(call.key, is_end=True), output)

    def fail(self, call: "LeadingCall", error: BaseException) -> None:
        """Let an exception pass: the followers see that the caller ends."""

    def _reach(self, event: Event, value: Any) -> None:
        tensors = tensors_in(value)[1]
        for follower in self._followers:
            follower.meet(event, tensors)


class LeadingCall(NamedTuple):
    """A call of the leading run that is in progress.

    Attributes:
        observer: who observes it.
        key: which call it is.
    """

    observer: Leader
    key: CallKey


@block
def followed(network: nn.Module, followers: Sequence[Follower]) -> Iterator[None]:
    """Let others run beside the calls of a network in the block, and then on to their ends.

    An exception ends them and goes on.
    """
    is_whole = False
    with observed(Leader(network, followers)):
        try:
            for follower in followers:
                follower.begin()
            yield
            is_whole = True
        finally:
            for follower in followers:
                follower.finish(cancel=not is_whole)
            del followers


def lead(call: NetworkCall, followers: Sequence[Follower]) -> BaseException | None:
    """Make a call with others beside it; return the exception that it raised."""
    try:
        with followed(call.network, followers), preserved(call.network), nothing_saved():
            call()
    except Exception as error:  # noqa: BLE001 - it is the user's code that fails; a line says so
        return error
    return None
