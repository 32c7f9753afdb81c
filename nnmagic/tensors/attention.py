"""An attention map, worked out from queries and keys."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import isfinite, sqrt
from typing import NamedTuple

import torch

from nnmagic.contexts import block
from nnmagic.display.units import plural
from nnmagic.records.attention import AttentionMap
from nnmagic.records.tensor import Picture
from nnmagic.tensors.metadata import HiddenFromUserCode
from nnmagic.tensors.samples import sample
from nnmagic.torch_private import DisableAutocast

SIDE = 128
"""How many queries and keys of a map are kept; of more, every second, third, ... one."""

MOST_HEADS = 64
"""Of how many heads they are kept."""

MOST_LOGITS = 1 << 27
"""How many logits of an item are worked out at most: 8 heads of 4,096 by 4,096, in a second."""

AT_ONCE = 1 << 20
"""How many at once: more of them leave the processor's cache, and take twice as long."""


class TooLargeError(ValueError):
    """A map has more values than are worked out."""


@block
def working_out() -> Iterator[None]:
    """A block that computes with the tensors of a run, and leaves no trace in it."""
    with torch.no_grad(), DisableAutocast(), HiddenFromUserCode():
        yield


class BegunMap(NamedTuple):
    """An attention map that is worked out, and not yet read.

    Attributes:
        tensors: what is to be read by the host.
        finish: makes the map of it.
    """

    tensors: list[torch.Tensor]
    finish: Callable[[list[torch.Tensor]], AttentionMap]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """What one item of a batch attends by.

    Attributes:
        query: (heads, queries, features), floating point.
        key: (heads, keys, features); where heads share keys, fewer heads.
        mask: what is added to the logits, or, of booleans, where a query may look; None for
            nothing. It spreads to (heads, queries, keys).
        is_causal: whether query i sees the keys up to i only.
        scale: what a query times a key is multiplied by; None is 1 over the root of the features.
        items: how many items the batch has.
        dropout: the probability of the dropout that follows.
    """

    query: torch.Tensor
    key: torch.Tensor
    mask: torch.Tensor | None = None
    is_causal: bool = False
    scale: float | None = None
    items: int = 1
    dropout: float = 0.0

    def map(self) -> AttentionMap:
        """Return the attention map.

        Raises:
            TooLargeError: if it is too large to be worked out.
        """
        begun = self.begin()
        return begun.finish([each.cpu() for each in begun.tensors])

    def begin(self) -> "BegunMap":
        """Work out an attention map where the queries are; the host waits for nothing.

        Raises:
            TooLargeError: if it is too large to be worked out.
        """
        with working_out():
            query, key = _wide(self.query), _wide(self.key)
            if key.shape[0] != query.shape[0]:
                key = key.repeat_interleave(query.shape[0] // key.shape[0], 0)
            (heads, queries, _), keys = query.shape, key.shape[1]
            if heads * queries * keys > MOST_LOGITS:
                size = f"{plural(heads, 'head')} of {queries:,} x {keys:,}"
                raise TooLargeError(f"{size}, more than {MOST_LOGITS:,} values")
            step = max(1, -(-max(queries, keys) // SIDE))
            each = max(1, AT_ONCE // max(1, queries * keys))
            parts = [
                self._of_heads(query[start : start + each], key[start : start + each], start, step)
                for start in range(0, heads, each)
            ]
            drawn, entropy, largest = map(torch.cat, zip(*parts, strict=True))
            return BegunMap(
                tensors=[drawn[:MOST_HEADS].contiguous(), entropy, largest],
                finish=partial(self._finish, step=step, size=(heads, queries, keys)),
            )

    def _finish(
        self, copies: list[torch.Tensor], *, step: int, size: tuple[int, int, int]
    ) -> AttentionMap:
        """Return the map, given on the host what `begin` has worked out."""
        drawn, entropy, largest = copies
        heads, queries, keys = size
        return AttentionMap(
            source=self._source(),
            heads=heads,
            queries=queries,
            keys=keys,
            items=self.items,
            dropout=self.dropout,
            picture=Picture(sample(drawn), (1, step, step)),
            entropy=_numbers(entropy),
            largest_logit=_numbers(largest),
        )

    def _of_heads(
        self, query: torch.Tensor, key: torch.Tensor, start: int, step: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what is drawn of some heads, their entropies and their largest logits.

        One head with more logits than are worked out at once is taken in blocks of queries.

        Args:
            query: their queries.
            key: their keys.
            start: the number of the first of these heads.
            step: how far apart the queries and the keys lie that are drawn.
        """
        rows = max(1, AT_ONCE // max(1, len(query) * key.shape[1] * step)) * step
        blocks = [
            self._of_rows(query[:, row : row + rows], key, (start, row), step)
            for row in range(0, query.shape[1], rows)
        ]
        drawn, entropies, seeing, largest = zip(*blocks, strict=True)
        return torch.cat(drawn, 1), sum(entropies) / sum(seeing), torch.stack(largest).amax(0)

    def _of_rows(
        self, query: torch.Tensor, key: torch.Tensor, first: tuple[int, int], step: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what is drawn of some queries of some heads, and three numbers of each head.

        Args:
            query: the queries.
            key: all keys of these heads.
            first: the numbers of the first head and of its first query, a multiple of `step`.
            step: how far apart the queries and the keys lie that are drawn.

        Returns:
            What is drawn, the sum of the queries' entropies, how many queries see a key, and the
            largest logit.
        """
        head, row = first
        scale = 1 / sqrt(query.shape[-1]) if self.scale is None else self.scale
        logits = (query * scale) @ key.transpose(-2, -1)
        own = self.mask
        if own is not None:
            own = own[head : head + len(query)] if own.ndim == 3 and len(own) > 1 else own
            own = own[..., row : row + query.shape[1], :] if own.shape[-2] > 1 else own
            if own.dtype is torch.bool:
                logits.masked_fill_(~own, -torch.inf)
            else:
                logits += own
        if self.is_causal:
            later = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device)
            logits.masked_fill_(later.triu_(row + 1), -torch.inf)
        largest = logits.amax((-2, -1))
        sees_none = (logits == -torch.inf).all(-1)
        shares = torch.softmax(logits, -1).masked_fill_(sees_none[..., None], 0)
        entropies = torch.special.entr(shares).sum((-2, -1))
        drawn = shares[:, ::step, ::step]
        if step > 1:  # NaN fills the whole row of a query: of those between it is seen too
            sums = torch.nn.functional.max_pool1d(shares.sum(-1), step, ceil_mode=True)
            drawn = drawn + (sums - sums)[..., None]
        return drawn, entropies, (~sees_none).sum(-1), largest

    def _source(self) -> str:
        parts = ["q", "k"]
        if self.mask is not None:
            parts.append("mask")
        if self.is_causal:
            parts.append("is_causal")
        if self.scale is not None:
            parts.append("scale")
        return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values.detach().to(torch.promote_types(values.dtype, torch.float32))


def _numbers(values: torch.Tensor) -> tuple[float | None, ...]:
    return tuple(each if isfinite(each) else None for each in values.tolist())
