"""What each rank of a training on many holds, planned before there are any."""

from dataclasses import dataclass

from nnmagic.display import units

BUDGET_GIB = 80
"""The display says whether a plan fits into so much, as the most common accelerators have."""

GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The memory that the fullest rank takes in a training step, each part in bytes.

    Attributes:
        fsdp: over how many ranks each parameter is sharded along its first axis, as FSDP2 does.
        tp: over how many ranks layers are cut by tensor parallelism.
        dtype: what the network is cast to, e.g. `"bfloat16"`; empty where it stays as it is.
        optimizer: the name of the optimizer; empty where none was named.
        param_bytes: its shards of the parameters, padded as FSDP2 pads them.
        grad_bytes: the gradients of those that are trainable.
        optimizer_bytes: the state of the optimizer; 0 where none was named, None where unknown.
        buffer_bytes: the buffers, which every rank holds whole.
        saved_bytes: what its forward saves for the backward, parameters and buffers left out, the
            input included; None where unknown.
        gathered_bytes: the most that FSDP2 gathers at once: parameters that are whole for their
            layers to compute, and gradients that are whole until they are sharded.
        notes: how the network is cut, and why a number is not known.
    """

    fsdp: int
    tp: int
    dtype: str = ""
    optimizer: str = ""
    param_bytes: int
    grad_bytes: int
    optimizer_bytes: int | None
    buffer_bytes: int
    saved_bytes: int | None
    gathered_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int | None:
        """All parts together, an upper bound of what is there at once; None where one is unknown.

        Temporary tensors of the forward and the backward, buffers of collectives, the loss and what
        the allocator wastes are not in it.
        """
        return None if None in self._parts else self._known

    @property
    def _parts(self) -> tuple[int | None, ...]:
        held = (self.param_bytes, self.grad_bytes, self.optimizer_bytes, self.buffer_bytes)
        return *held, self.saved_bytes, self.gathered_bytes

    @property
    def _known(self) -> int:
        return sum(part for part in self._parts if part is not None)

    def fits(self, gib: float) -> bool | None:
        """Tell whether `total_bytes` is at most so many GiB; None where that is unknown."""
        if self._known > gib * GIB:
            return False
        return None if self.total_bytes is None else True

    @property
    def ranks(self) -> str:
        """How many ranks there are, e.g. `"32 ranks"`."""
        return units.plural(self.fsdp * self.tp, "rank")

    @property
    def title(self) -> str:
        """What is planned, e.g. `"plan fsdp=8, tp=4 (32 ranks), bfloat16"`."""
        dtype = f", {self.dtype}" if self.dtype else ""
        return f"plan fsdp={self.fsdp}, tp={self.tp} ({self.ranks}){dtype}"

    def lines(self) -> tuple[str, ...]:
        """Return the lines that state each part, whether it fits, and how the network is cut."""
        state = f"state of {self.optimizer} {units.size(self.optimizer_bytes)}, "
        gathered = f"gathered at once {units.size(self.gathered_bytes)}, "
        return (
            f"{self.title}, on each rank: parameters {units.size(self.param_bytes)}, "
            f"gradients {units.size(self.grad_bytes)}, {state if self.optimizer else ''}"
            f"buffers {units.size(self.buffer_bytes)}, "
            f"saved for backward {units.size(self.saved_bytes)}, "
            f"{gathered if self.fsdp > 1 else ''}together {units.size(self.total_bytes)}",
            self.verdict,
            *self.notes,
        )

    @property
    def verdict(self) -> str:
        """Whether it fits, and how much it is, e.g. `"fits in 80 GiB: yes, 61.2 GiB"`."""
        fits = self.fits(BUDGET_GIB)
        known = units.size(self._known)
        if self.total_bytes is None:
            known = f"{known} without what is unknown"
        word = {True: "yes", False: "no", None: "unknown"}[fits]
        return f"fits in {BUDGET_GIB} GiB: {word}, {known}"
