"""The base of our dispatch modes."""

from torch.utils._python_dispatch import TorchDispatchMode


class LightMode(TorchDispatchMode):
    """A dispatch mode that has nothing to do with `torch.compile`.

    By default torch keeps dynamo out of a mode's handler, for which it imports `torch._dynamo`:
    that takes a second, and a microsecond for each operation from then on. A run under our modes is
    never compiled.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
