"""Laws of the client's buffer: what is not vouched for is NaN and there, what is lost is counted, a new run is new."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phosphene_client.buffer import WITHDRAWN, Buffer


def frame(seq, **changes):
    return {
        "type": "prediction",
        "run_id": "one",
        "seq": seq,
        "epoch": 0,
        "sample_time": 100.0 + seq * 0.01,
        "probability": 0.5,
        "usable_channels": 96,
        "flags": [],
    } | changes


def held(buffer):
    return [one["seq"] for one in buffer.newest(None)]


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({}, True),
        ({"flags": ["overload"]}, True),
        ({"flags": ["drift"]}, False),
        ({"flags": ["of a later version"]}, False),
        ({"probability": None, "flags": ["gap"]}, False),
        ({"probability": None}, False),  # an experiment that is blind
    ],
)
def test_what_is_not_vouched_for_is_nan_and_there(changes, valid):
    buffer = Buffer(10.0)
    buffer.push(frame(7, **changes))
    data, times = buffer.take(None)
    assert data.shape == (3, 1)
    assert times == pytest.approx([100.07])
    assert (bool(np.isfinite(data[0, 0])), bool(data[1, 0]), data[2, 0]) == (valid, valid, 96)


@given(
    steps=st.lists(st.floats(0.001, 3.0), min_size=1, max_size=60),
    winsize=st.none() | st.floats(0.01, 20.0),
    seconds=st.floats(0.5, 10.0),
)
def test_a_window_is_the_newest_of_sample_time(steps, winsize, seconds):
    buffer, times = Buffer(seconds), 50.0 + np.cumsum(steps)
    for seq, time in enumerate(times):
        buffer.push(frame(seq, sample_time=float(time)))
    data, found = buffer.take(winsize)
    since = min(seconds, np.inf if winsize is None else winsize)
    assert set(times[times > times[-1] - since]) <= set(found) <= set(times[times >= times[-1] - since])
    assert data.shape == (3, len(found))
    assert np.all(np.diff(found) > 0)


def test_it_is_bounded_by_number_too():
    buffer = Buffer(2.0)
    for seq in range(5000):
        buffer.push(frame(seq, sample_time=1.0))  # a clock that stands
    assert len(held(buffer)) == 2001


def test_new_ones_are_counted_until_they_are_taken():
    buffer = Buffer(1.0)
    for seq in range(5):
        buffer.push(frame(seq))
    assert buffer.new == 5
    buffer.take(0.01)
    assert buffer.new == 0
    buffer.push(frame(5))
    assert buffer.new == 1


def test_what_was_lost_is_counted():
    buffer = Buffer(1.0)
    buffer.push(frame(3))
    buffer.push({"type": "dropped", "count": 6, "resume_seq": 10})
    assert (buffer.lost, buffer.seq) == (6, 9)
    buffer.push(frame(10))
    assert held(buffer) == [3, 10]
    buffer.push({"type": "of a later version"})
    assert (buffer.lost, buffer.seq) == (6, 10)


def test_another_run_begins_anew():
    buffer = Buffer(10.0)
    for seq in range(5):
        buffer.push(frame(seq))
    buffer.push(frame(0, run_id="two"))
    assert (held(buffer), buffer.run_id, buffer.runs, buffer.new) == ([0], "two", 2, 1)


def test_a_time_that_went_back_begins_anew():
    buffer = Buffer(10.0)
    for seq in range(5):
        buffer.push(frame(seq))
    buffer.push(frame(5, sample_time=2.0, epoch=1))
    assert (held(buffer), buffer.runs) == ([5], 1)


@pytest.mark.parametrize(
    ("back_s", "epoch", "held_then"),
    [(0.002, 0, [0, 1, 2, 3, 4, 5]), (0.9, 0, [0, 1, 2, 3, 4, 5]), (1.1, 0, [5]), (0.002, 1, [5]), (-9.0, 1, [4, 5])],
)
def test_stamps_that_jitter_are_no_other_time(back_s, epoch, held_then):
    buffer = Buffer(9.0)
    for seq in range(5):
        buffer.push(frame(seq))
    buffer.push(frame(5, sample_time=100.04 - back_s, epoch=epoch))
    assert held(buffer) == held_then


def test_what_is_withdrawn_is_nan_afterwards():
    buffer = Buffer(10.0)
    for seq in range(6):
        buffer.push(frame(seq, embedding=np.ones(2)))
    buffer.withdraw("another run", 0, 5, "late_marker")
    buffer.withdraw("one", 2, 3, "late_marker")
    buffer.withdraw("one", 3, 3, "late_marker")
    data, _ = buffer.take(None)
    assert np.flatnonzero(np.isnan(data[0])).tolist() == [2, 3]
    assert [one["flags"] for one in buffer.newest(None)[2:4]] == [["late_marker"], ["late_marker"]]
    assert buffer.newest(None)[2]["embedding"] is None


def test_what_is_withdrawn_before_it_comes_is_nan_too():
    """The two WebSockets keep no order between them."""
    buffer = Buffer(10.0)
    buffer.push(frame(0))
    for _ in range(3):  # told again with every connection
        buffer.withdraw("one", 1, 2, "late_marker")
    buffer.withdraw("two", 0, 0, "late_marker")  # of a service that has begun again
    buffer.withdraw(None, 0, 9, "late_marker")
    for seq in range(1, 4):
        buffer.push(frame(seq))
    assert np.flatnonzero(np.isnan(buffer.take(None)[0][0])).tolist() == [1, 2]
    assert len(buffer._withdrawn) == 2
    buffer.push(frame(0, run_id="two"))
    buffer.push(frame(1, run_id="two"))
    assert np.flatnonzero(np.isnan(buffer.take(None)[0][0])).tolist() == [0]
    for seq in range(500):
        buffer.withdraw("one", seq, seq, "late_marker")
    assert len(buffer._withdrawn) == WITHDRAWN
