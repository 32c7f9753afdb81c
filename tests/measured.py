"""A tensor as nnmagic measures it, outside of any run."""

from nnmagic.records.tensor import tensor_record
from nnmagic.tensors.measure import measure
from nnmagic.tensors.metadata import metadata_of


def record(tensor, **options):
    """Return the record of a tensor of the host."""
    return tensor_record(metadata_of(tensor), *measure(tensor, **options))
