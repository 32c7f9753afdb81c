import base64
import json
import struct
import zlib

import numpy as np
import pytest

from nnmagic.widget.packing import Packing, pictures_in, thinned


def unpacked(text):
    """The content, and the bytes behind it."""
    whole = zlib.decompress(base64.b64decode(text))
    (length,) = struct.unpack_from("<I", whole)
    return json.loads(whole[4 : 4 + length]), whole[4 + length :]


def test_bytes_are_packed_once_and_found_by_their_place():
    packing = Packing()

    content, data = unpacked(
        packing.packed(packing.placed({"a": [b"xyz", b"", b"xyz"], "b": b"w"}))
    )

    assert content == {
        "a": [{"$bytes": [0, 3]}, {"$bytes": [3, 0]}, {"$bytes": [0, 3]}],
        "b": {"$bytes": [3, 1]},
    }
    assert data == b"xyzw"


def test_numbers_that_are_no_json_are_unknown():
    assert Packing().placed([float("nan"), float("inf"), 1.5]) == [None, None, 1.5]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e30])
def test_floats_keep_three_digits_and_what_is_odd(scale):
    values = np.array([1.0, -0.123456, 0.001, 0.0, np.nan, np.inf], "<f4") * np.float32(scale)
    packing = Packing()

    content, data = unpacked(packing.packed(packing.floats(values)))

    offset, length = content["$halves"]
    halves = np.frombuffer(data[offset : offset + length], "<f2").astype(float) * content["scale"]
    np.testing.assert_allclose(halves, values, rtol=5e-4)


def test_ids_stay_exact():
    packing = Packing()

    content, data = unpacked(packing.packed(packing.floats(np.array([50256.0, 7.0], "<f4"))))

    assert np.frombuffer(data[: content["$bytes"][1]], "<f4").tolist() == [50256.0, 7.0]


@pytest.mark.parametrize(
    ("shape", "most", "left", "steps"),
    [
        ((3, 8, 10, 10), 3000, (3, 8, 10, 10), [1, 1, 2, 2]),
        ((3, 8, 10, 10), 800, (1, 8, 10, 10), [1, 1, 2, 2]),
        ((3, 8, 10, 10), 630, (1, 6, 10, 10), [1, 1, 2, 2]),
        ((3, 8, 10, 10), 300, (1, 3, 10, 10), [1, 1, 2, 2]),
        ((3, 8, 10, 10), 100, (1, 3, 5, 5), [1, 1, 4, 4]),
        ((30, 40), 400, (15, 20), [4, 4]),
        ((1000,), 300, (250,), [8]),
    ],
)
def test_a_picture_loses_items_then_tiles_then_rows_and_columns(shape, most, left, steps):
    last = [2, 2][-len(shape) :]
    picture = {"shape": list(shape), "steps": [1] * (len(shape) - len(last)) + last}
    picture |= {"kind": "channels", "caption": "all values", "names": []}

    cut = thinned(picture, np.arange(np.prod(shape)).reshape(shape), most)

    assert cut.shape == left
    assert cut.size <= most
    assert picture["shape"] == list(left)
    assert picture["steps"] == steps
    assert ("in this page" in picture["caption"]) == (left != shape)


def test_nan_and_inf_between_the_rows_that_are_left_are_seen():
    picture = {"kind": "matrix", "shape": [30, 40], "steps": [1, 1], "caption": "", "names": []}
    values = np.zeros((30, 40), "<f4")
    values[5, 3], values[29, 39] = np.nan, -np.inf

    cut = thinned(picture, values, 400)

    assert picture["steps"] == [2, 2]
    assert np.isnan(cut[2, 1])
    assert np.isneginf(cut[14, 19])
    assert np.isfinite(cut).sum() == cut.size - 2


@pytest.mark.parametrize(
    ("kind", "shape", "most", "left"),
    [
        ("rgb", (2, 3, 10, 10), 80, (1, 3, 5, 5)),
        ("kernels", (64, 3, 7, 7), 1000, (6, 3, 7, 7)),
        ("kernels", (64, 3, 7, 7), 200, (3, 3, 4, 4)),
    ],
)
def test_what_is_in_colours_keeps_red_green_and_blue(kind, shape, most, left):
    picture = {"kind": kind, "shape": list(shape), "steps": [1] * 4, "caption": "", "names": []}

    assert thinned(picture, np.zeros(shape), most).shape == left


def test_pictures_are_found_anywhere_in_a_panel():
    panel = {"a": [{"picture": {"buffer": 1}}, {"picture": None}], "b": {"c": {"buffer": 0}}}

    assert list(pictures_in(panel)) == [{"buffer": 1}, {"buffer": 0}]
