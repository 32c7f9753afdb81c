"""Why a call ended by an exception."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a call ended by an exception.

    Attributes:
        type: the exception's class name.
        message: the first line of its text.
        mismatch: what the layer got against what it expects, where they visibly differ.
        place: the file and line, or the source line, of the code that called the layer.
        cause: the exception of which layer it was raised after, `""` for none.
    """

    type: str
    message: str
    mismatch: str
    place: str
    cause: str = ""
