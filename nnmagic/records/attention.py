"""How one call attended: from each query to each key, head by head; or what that comes from."""

from dataclasses import dataclass

from nnmagic.records.tensor import Picture, Sample


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstItem:
    """What a layer that attends got of the first item of a batch, from which its map comes.

    Attributes:
        arguments: which of `values` each argument is, by the name that the layer's forward gives
            it; the same number for one tensor that is given twice.
        values: the arguments as tensors of a batch of one item.
        dtypes: the dtype of each, without the prefix.
        items: how many items the batch has.
        axis: the axis of the batch in what the layer returns; None where there is none.
        output: values of what it returned of that item, spread evenly.
    """

    arguments: dict[str, int]
    values: tuple[Sample, ...]
    dtypes: tuple[str, ...]
    items: int
    axis: int | None
    output: Sample
