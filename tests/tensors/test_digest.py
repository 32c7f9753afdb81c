"""The digest of a tensor's bytes: equal where these are, on any device and with any strides."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnmagic.tensors.digest import begin_digest, digest_of, sum_of_words, whole_digest

FIRST_OF_SPLITMIX64 = 0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F
"""What the generator gives from the seed 0, by its authors' own program."""

DTYPES = (
    *(torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64),
    *(torch.bool, torch.int8, torch.int64, torch.float8_e4m3fn),
)

GOLDEN, ALL = 0x9E3779B97F4A7C15, (1 << 64) - 1


def by_hand(data):
    """The digest of bytes in Python's own numbers."""
    total = len(data) * GOLDEN
    for place, start in enumerate(range(0, len(data), 8), 1):
        mixed = (int.from_bytes(data[start : start + 8], "little") + place * GOLDEN) & ALL
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & ALL
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & ALL
        total += mixed ^ (mixed >> 31)
    return total & ALL


def test_words_of_zero_are_spread_as_splitmix64_does():
    zeros = torch.zeros(3, dtype=torch.int64)

    assert digest_of(zeros) % (1 << 64) == (sum(FIRST_OF_SPLITMIX64) + 24 * GOLDEN) & ALL


@given(st.binary(max_size=100))
def test_any_bytes_have_the_digest_that_is_worked_out_by_hand(data):
    values = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.zeros(0)
    digest = digest_of(values)

    assert digest % (1 << 64) == by_hand(data) or (digest, by_hand(data)) == (1, 0)
    assert whole_digest(int(begin_digest(values)), len(data)) == digest
    words = np.frombuffer(data + bytes(-len(data) % 8), np.uint64)
    assert whole_digest(sum_of_words(words, 0), len(data)) == digest


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_device_sums_up_what_the_host_does(dtype):
    tensor = (torch.randn(37, 5) * 9).to(dtype)

    for each in (tensor, tensor.t(), tensor[1:, 2], tensor[:0]):
        assert whole_digest(int(begin_digest(each)), each.nbytes) == digest_of(each)
        assert digest_of(each.contiguous()) == digest_of(each)


def test_a_large_tensor_is_summed_up_in_pieces():
    tensor = torch.randn(700_001)
    words = np.frombuffer(tensor.numpy().tobytes() + bytes(4), np.uint64)

    whole = digest_of(tensor)

    assert whole_digest(sum_of_words(words, 0), tensor.nbytes) == whole
    assert whole_digest(int(begin_digest(tensor)), tensor.nbytes) == whole


def distinct(*tensors):
    return len({digest_of(each) for each in tensors}) == len(tensors)


def test_what_is_equal_as_numbers_and_not_in_bytes_differs():
    nan = torch.tensor([0x7FC00000, 0x7FC00001, 0x7F800001], dtype=torch.int32).view(torch.float32)

    assert distinct(*nan[:, None])
    assert distinct(torch.zeros(4), -torch.zeros(4), torch.tensor([0.0, -0.0, -0.0, 0.0]))
    assert digest_of(nan) == digest_of(nan.clone())


def test_order_length_and_signs_count():
    a = torch.randn(64)
    signs = torch.ones(64)
    signs[[3, 5]] = -1

    assert distinct(a, a.flip(0), a.roll(2), a * signs, a[:63], torch.cat([a, torch.zeros(1)]))
    assert distinct(*(torch.ones(n) for n in range(6)))


def test_what_is_negated_or_conjugated_later_is_read_as_it_is():
    z = torch.randn(5, dtype=torch.complex64)

    assert digest_of(z.conj()) == digest_of(z.conj().resolve_conj()) != digest_of(z)
    imaginary = z.conj().imag
    assert imaginary.is_neg()
    assert digest_of(imaginary) == digest_of(imaginary.resolve_neg())


def test_what_cannot_be_read_has_no_digest():
    assert digest_of(torch.empty(3, device="meta")) is None
