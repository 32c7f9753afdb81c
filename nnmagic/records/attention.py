"""How one call attended: from each query to each key, head by head."""

from dataclasses import dataclass

from nnmagic.records.tensor import Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionMap:
    """How the queries of the first item of a batch attend to its keys, before dropout.

    Attributes:
        source: what it is worked out from: `"q, k and a mask"`.
        heads: how many heads there are.
        queries: how many queries.
        keys: how many keys.
        items: how many items the batch has; it is of the first.
        dropout: the probability of the dropout that follows it, 0 for none.
        picture: its values, at most 128 x 128 of at most 64 heads; None where there is no room.
        entropy: for each head the entropy of a query's shares, in nats, the mean of all queries
            that have a key; None where none has.
        largest_logit: for each head the largest of the logits, scaled and masked; None if there is
            no finite one.
    """

    source: str
    heads: int
    queries: int
    keys: int
    items: int
    dropout: float
    picture: Picture | None
    entropy: tuple[float | None, ...]
    largest_logit: tuple[float | None, ...]
