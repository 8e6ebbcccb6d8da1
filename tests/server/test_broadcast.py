"""Laws of the broadcast: a reader gets every item once and in order, or is told exactly how many it lost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.broadcast import Dropped, History, Subscription


def drain(subscription):
    out = []
    while (item := subscription.take()) is not None:
        out.append(item)
    return out


def test_history_holds_by_time_and_by_count():
    history: History[str] = History(hold_s=10.0, capacity=5)
    for seq in range(8):
        history.push(seq, f"item {seq}", now=float(seq))
    assert (history.first_seq, history.next_seq, len(history)) == (3, 8, 5)
    history.push(8, "item 8", now=15.5)
    assert [history[seq] for seq in history.since(-1, 10)] == ["item 6", "item 7", "item 8"]
    assert list(history.since(6, 1)) == [7]
    assert 5 not in history
    with pytest.raises(ValueError, match="expected it to rise"):
        history.push(3, "again", now=16.0)


@given(
    depth=st.integers(1, 8),
    capacity=st.integers(1, 40),
    steps=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=40),
    joined_after=st.integers(0, 20),
    since=st.none() | st.integers(-1, 30),
)
def test_every_item_once_in_order_or_counted(depth, capacity, steps, joined_after, since):
    history: History[int] = History(hold_s=1e9, capacity=capacity)
    for seq in range(joined_after):
        history.push(seq, seq, now=0.0)
    reader = Subscription(history, depth, since_seq=since)
    have = joined_after - 1 if since is None or since >= joined_after else since
    start, got, lost = have, 0, 0
    for pushes, reads in steps:
        for _ in range(pushes):
            history.push(history.next_seq, history.next_seq, now=0.0)
        for _ in range(reads):
            item = reader.take()
            if item is None:
                assert have == history.next_seq - 1
                break
            if isinstance(item, Dropped):
                assert item.count == item.resume_seq - have - 1 > 0
                have = item.resume_seq - 1
                lost += item.count
                assert reader.take() == item.resume_seq  # resume_seq is what really comes next
                have += 1
            else:
                assert item == have + 1
                have = item
            assert history[have] == have
            got += 1
    assert have - start == got + lost
    assert reader.dropped == lost


def test_a_reader_never_lags_more_than_its_depth():
    history: History[int] = History(1e9, 1000)
    reader = Subscription(history, depth=4)
    for seq in range(100):
        history.push(seq, seq, 0.0)
    assert drain(reader) == [Dropped(96, 96), 96, 97, 98, 99]


def test_who_asks_for_old_items_gets_all_that_are_held():
    history: History[int] = History(1e9, 50)
    for seq in range(100):
        history.push(seq, seq, 0.0)
    assert drain(Subscription(history, depth=4, since_seq=9)) == [Dropped(40, 50), *range(50, 100)]
    assert drain(Subscription(history, depth=4, since_seq=97)) == [98, 99]


def test_a_reader_of_another_run_starts_with_the_next_item():
    history: History[int] = History(1e9, 50)
    history.push(0, 0, 0.0)
    reader = Subscription(history, depth=4, since_seq=4711)
    assert drain(reader) == []
    history.push(1, 1, 0.0)
    assert drain(reader) == [1]


@given(max_hz=st.floats(0.5, 200.0), hop_s=st.sampled_from([0.001, 0.01, 0.02]))
def test_thinning(max_hz, hop_s):
    history: History[int] = History(1e9, 10_000)
    reader = Subscription(history, depth=5000, max_hz=max_hz, time_of=lambda seq: 50.0 + seq * hop_s)
    for seq in range(1000):
        history.push(seq, seq, 0.0)
    seqs = drain(reader)
    assert seqs[0] == 0
    assert all((b - a) * hop_s >= 1 / max_hz - 1e-5 for a, b in itertools.pairwise(seqs))
    assert all((b - a) * hop_s <= 1 / max_hz + hop_s + 1e-5 for a, b in itertools.pairwise(seqs))
    assert reader.dropped == 0


def test_thinning_starts_anew_with_a_clock_that_went_back():
    times = [10.0, 10.01, 3.0, 3.01]
    history: History[int] = History(1e9, 10)
    reader = Subscription(history, depth=10, max_hz=1.0, time_of=times.__getitem__)
    for seq in range(4):
        history.push(seq, seq, 0.0)
    assert drain(reader) == [0, 2]
