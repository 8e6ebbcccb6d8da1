"""Rows and their chain."""

import math

import numpy as np
import orjson
import pytest

from server.journal.rows import GENESIS, LARGEST_FIELDS, Entry, JournalFault, Row, chain, encode, walk


def entries(n):
    return [Entry("fault", {"n": i, "x": 0.1 * i}, 1e9 + i, 5.0 + i, 7.0 + i) for i in range(n)]


def test_numbers_are_finite_or_null_and_keys_sorted():
    fields = {"z": math.nan, "b": math.inf, "a": -math.inf, "n": np.float64("nan"), "k": np.arange(2), 3: 1.5}
    assert encode(fields) == '{"3":1.5,"a":null,"b":null,"k":[0,1],"n":null,"z":null}'


class Unspeakable:
    def __str__(self):
        raise RuntimeError("no word for it")


@pytest.mark.parametrize("value", [Unspeakable(), 2**70, "\ud800", [[]]])
def test_what_json_cannot_hold_is_told_and_never_raises(value):
    if value == [[]]:
        for _ in range(2000):
            value = [value]
    text = encode({"x": value})
    assert set(orjson.loads(text)) == {"not_json"}


def test_an_object_becomes_its_word():
    assert encode({"path": ValueError("why")}) == '{"path":"why"}'


def test_fields_are_bounded():
    text = encode({"x": "y" * LARGEST_FIELDS})
    assert len(text) < 2000
    assert orjson.loads(text)["too_long"] > LARGEST_FIELDS


def test_a_chain_walks_whole_or_from_any_row():
    rows = chain("r1", entries(6), 0, GENESIS)
    assert list(walk(rows)) == rows
    more = chain("r2", entries(3), rows[-1].seq, rows[-1].sha256)  # over the end of a run
    assert list(walk(rows + more)) == rows + more
    assert list(walk(rows[3:], 3, rows[2].sha256)) == rows[3:]
    assert rows[2].load() == {"n": 2, "x": 0.2}


@pytest.mark.parametrize("column", range(9))
def test_every_column_is_under_the_seal(column):
    rows = chain("r1", entries(4), 0, GENESIS)
    value = rows[2][column]
    other = value + type(value)(1) if isinstance(value, int | float) else value.swapcase() + " "
    changed = Row(*rows[2][:column], other, *rows[2][column + 1 :])
    with pytest.raises(JournalFault, match="row 3 "):
        list(walk([*rows[:2], changed, rows[3]]))


def test_a_type_is_under_the_seal_too():
    rows = chain("r1", [Entry("fault", {}, 1.0, 2.0, 3.0)], 0, GENESIS)
    for column, other in ((2, 1), (5, b"fault"), (6, None)):
        with pytest.raises(JournalFault, match="row 1 was changed"):
            list(walk([(*rows[0][:column], other, *rows[0][column + 1 :])]))
