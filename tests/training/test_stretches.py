"""Runs instead of arrays: whatever is asked of them is what NumPy says of the plain array."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from training.stretches import Stretches, Usable, UsableRuns

PLAIN = of_numpy.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 3)))


@given(PLAIN, st.integers(1, 8), st.integers(0, 45), st.integers(0, 45))
def test_runs_say_what_the_array_says(plain: np.ndarray, length: int, first: int, end: int):
    usable = Usable.of(plain)
    bins = len(plain)
    assert (usable.shape, len(usable)) == (plain.shape, bins)
    np.testing.assert_array_equal(usable, plain)
    np.testing.assert_array_equal(usable[first:end], plain[first:end])
    np.testing.assert_array_equal(usable[first:end:3, 0], plain[first:end:3, 0])
    np.testing.assert_array_equal(usable.sum(axis=0), plain.sum(axis=0))
    np.testing.assert_array_equal(usable.sum(axis=1), plain.sum(axis=1))
    np.testing.assert_array_equal(usable.any(axis=1), plain.any(axis=1))
    assert usable.vouched_bins() == plain.any(axis=1).sum()
    mine = np.arange(plain.shape[1]) > 0
    np.testing.assert_array_equal(usable.only(mine), plain & mine)

    starts = np.array([b for b in range(first, min(end, bins) - length + 1) if plain[b : b + length].any(1).all()], int)
    found = usable.windows(length, first, end)
    np.testing.assert_array_equal(found, starts)
    assert len(found) == len(starts)
    every = np.arange(-1, bins + 1)
    np.testing.assert_array_equal(found.contains(every), np.isin(every, starts))
    if len(starts):
        np.testing.assert_array_equal(found[np.arange(len(starts))], starts)
        assert (found[0], found[-1]) == (starts[0], starts[-1])
        whole = np.stack([plain[b : b + length].all(axis=0) for b in starts])
        np.testing.assert_array_equal(usable.throughout(starts, length), whole)


@given(PLAIN, st.lists(st.integers(0, 40), max_size=5))
def test_however_the_bins_were_cut(plain: np.ndarray, cuts: list[int]):
    runs = UsableRuns(plain.shape[1])
    for block in np.split(plain, sorted(cuts)):
        runs.push(block)
    found, expected = runs.finish(), Usable.of(plain)
    np.testing.assert_array_equal(found.firsts, expected.firsts)
    np.testing.assert_array_equal(found.rows, expected.rows)
    assert (np.diff(found.rows, axis=0)).any(axis=1).all()  # none is said twice


def test_there_is_no_number_behind_the_last():
    found = Stretches(np.array([3, 10]), np.array([5, 11]))
    assert np.asarray(found).tolist() == [3, 4, 10]
    for n in (3, -4):
        with pytest.raises(IndexError, match="expected less than 3"):
            found[n]
