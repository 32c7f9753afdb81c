"""What one rank of a distributed run holds, to be held against what the others hold."""

from dataclasses import dataclass

PARAMETER, BUFFER, GRADIENT = "parameter", "buffer", "gradient"
"""The kinds of tensors that a rank holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTensor:
    """A parameter, a buffer or a gradient of a network, before a run or at its end.

    A gradient is what the last optimizer's step got, after its reduction over the ranks; where no
    step came after the last backward, what that left. A parameter that got none has no entry.

    Attributes:
        network: the name of the network.
        name: the dotted name in the network, of a gradient that of its parameter.
        kind: `"parameter"`, `"buffer"` or `"gradient"`.
        shape: the shape of what this rank holds.
        dtype: the dtype without the prefix, `"float32"`.
        digest: 64 bits that tell whether two ranks hold the same bytes; None where unknown.
        norm: the Euclidean norm of what this rank holds; None where unknown.
        is_constant: whether all its values are equal, as at the start of a bias or of a norm's
            weight: equal shards of such a tensor say nothing.
        global_shape: of a DTensor its shape over all ranks, else None.
        placements: of a DTensor how it lies on each axis of its mesh: `("Shard(0)",)`.
        mesh: of a DTensor where this rank is on each axis of its mesh, and how many there are:
            `((1, 4),)`.
    """

    network: str
    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    digest: int | None
    norm: float | None
    is_constant: bool = False
    global_shape: tuple[int, ...] | None = None
    placements: tuple[str, ...] | None = None
    mesh: tuple[tuple[int, int], ...] | None = None
