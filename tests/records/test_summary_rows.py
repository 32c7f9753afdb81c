"""Rows that are made when they are first read."""

import pickle

import torch
from torch import nn

import nnmagic
from nnmagic.records.summary_rows import FIELDS, LayerShape, LayerShapes


def rows():
    return nnmagic.summary(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.rand(4, 3)).rows


def test_rows_are_the_tuple_of_them():
    found = rows()

    made = tuple(LayerShape(**{name: getattr(row, name) for name in FIELDS}) for row in found)

    assert found == made
    assert made == found
    assert hash(found) == hash(made)
    assert repr(found) == repr(made)
    assert (len(found), found[-1], found[1:]) == (3, made[-1], made[1:])
    assert found != made[1:]
    assert found != list(made)


def test_rows_are_equal_before_and_after_they_are_made():
    read, unread = rows(), rows()
    list(read)

    assert read == unread
    assert read != LayerShapes(())
    assert pickle.loads(pickle.dumps(unread)) == read
    assert pickle.loads(pickle.dumps(read)) == unread


def test_a_row_is_one_record():
    found = rows()

    assert found[0] is found[0]
    assert found[0].params == 3 * 2 + 2
