"""The tracker against a model of the rig: what was lost, doubled or turned back is known to the sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.chunk import SourceCounters
from streaming.sources.stamps import Segment, StampTracker

RATE_HZ = 30000.0
T0 = 83211.6180339


def exact(first: int, n: int, t0: float = T0) -> np.ndarray:
    """Stamps of samples [first, first + n) of a rig that counts."""
    return t0 + np.arange(first, first + n) / RATE_HZ


class Rig:
    """Feeds a tracker in pulls; keeps what the tracker said of every row."""

    def __init__(self) -> None:
        self.counters = SourceCounters()
        self.tracker = StampTracker(RATE_HZ, self.counters)
        self.segments: list[Segment] = []

    def send(self, stamps: np.ndarray, arrival: float | None = None) -> list[Segment]:
        segments = self.tracker.push(stamps, float(stamps[-1]) + 1e-4 if arrival is None else arrival)
        self.segments += segments
        return segments

    def settle(self, samples: int = 9000, chunk: int = 300) -> int:
        for first in range(0, samples, chunk):
            self.send(exact(first, chunk))
        return samples


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.floats(0, 1e6))
def test_any_cutting_of_exact_stamps_gives_the_same_indices(cuts: list[int], t0: float) -> None:
    rig, first = Rig(), 0
    for n in cuts:
        for segment in rig.send(exact(first, n, t0)):
            assert segment.first_sample == first + segment.start
        first += n
    assert rig.counters == SourceCounters(samples=first)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["fine", "lost", "doubled"]), st.integers(1, 600), st.integers(1, 3000)), max_size=40
    ),
    st.integers(1, 700),
)
def test_losses_and_doubled_chunks_are_counted_exactly_however_they_are_pulled(
    happenings: list[tuple[str, int, int]], pull: int
) -> None:
    """The rig sends chunks, loses some samples, repeats the last chunk; pulls cut its stream anywhere."""
    rig = Rig()
    at = rig.settle()
    stamps, indices, lost, doubled, gaps = [], [], 0, 0, 0
    for what, chunk, jump in happenings:
        if what == "lost":
            at, lost, gaps = at + jump, lost + jump, gaps + 1
        sent = np.arange(at, at + chunk)
        at += chunk
        stamps.append(exact(int(sent[0]), chunk))
        indices.append(sent)
        if what == "doubled":
            stamps.append(stamps[-1])
            indices.append(np.full(chunk, -1))
            doubled += chunk
    if not stamps:
        return
    every, truth = np.concatenate(stamps), np.concatenate(indices)
    found = np.full(len(every), -1)
    for start in range(0, len(every), pull):
        part = every[start : start + pull]
        for segment in rig.send(part, float(part.max()) + 1e-4):
            rows = segment.stop - segment.start
            found[start + segment.start : start + segment.stop] = np.arange(rows) + segment.first_sample
    np.testing.assert_array_equal(found, truth)
    counters = rig.counters
    assert (counters.lost_samples, counters.gaps, counters.doubled_timestamps) == (lost, gaps, doubled)
    assert counters.backward_timestamps == 0


@pytest.mark.parametrize("jump", [1, 2, 29, 30, 4500])
def test_one_lost_sample_is_a_gap(jump: int) -> None:
    rig = Rig()
    at = rig.settle()
    (segment,) = rig.send(exact(at + jump, 30))
    assert segment.first_sample == at + jump
    assert (rig.counters.gaps, rig.counters.lost_samples) == (1, jump)
    assert f"{jump} samples lost" in rig.counters.last_problem


@pytest.mark.parametrize("chunk", [1, 30, 300, 3000])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(
    "late_s",
    [
        lambda rng: rng.exponential(1e-3),
        lambda rng: rng.uniform(0, 5e-3),
        lambda rng: rng.exponential(1e-4) + (rng.random() < 0.01) * 0.02,
    ],
    ids=["exponential", "uniform", "rarely-very-late"],
)
def test_stamps_taken_at_the_push_invent_no_gap(late_s, chunk: int, parts: int) -> None:
    rng, rig = np.random.default_rng(chunk), Rig()
    samples = 12000 if chunk == 1 else 90000
    for first in range(0, samples, chunk):
        end = T0 + (first + chunk - 1) / RATE_HZ * (1 + 3e-5) + late_s(rng)
        for part in np.array_split(end + np.arange(1 - chunk, 1) / RATE_HZ, min(parts, chunk)):
            rig.send(part, end + 1e-4)
    assert (rig.counters.gaps, rig.counters.doubled_timestamps, rig.tracker.epoch) == (0, 0, 0)
    assert rig.segments[-1].next_sample == samples


def test_a_loss_behind_jitter_is_found_once_it_persists_and_in_doubt_until_then() -> None:
    rng, rig = np.random.default_rng(1), Rig()
    lost, backlog_at = 3000, []
    for first in range(0, 60000, 30):
        at = first + (lost if first >= 30000 else 0)
        end = T0 + (at + 29) / RATE_HZ + rng.exponential(5e-4)
        for segment in rig.send(end + np.arange(-29, 1) / RATE_HZ, end + 1e-4):
            if segment.backlog:
                backlog_at.append(first)
    assert rig.counters.gaps == 1
    assert abs(rig.counters.lost_samples - lost) < 60
    assert backlog_at[0] == 30000
    assert backlog_at[-1] < 37000


@pytest.mark.parametrize("held_s", [0.02, 0.15, 0.24])
def test_a_sender_that_was_held_up_and_catches_up_lost_nothing(held_s: float) -> None:
    """Each chunk is stamped at its push, even those that were due while the sender stood still."""
    rng, rig = np.random.default_rng(3), Rig()
    now = T0
    for chunk in range(3000):
        due = T0 + (chunk + 1) * 1e-3
        now = max(due, now + 4e-4) + (held_s if chunk == 1000 else 0.0)
        pushed = now + rng.exponential(1e-4)
        rig.send(pushed + np.arange(-29, 1) / RATE_HZ, pushed + 1e-4)
    assert (rig.counters.gaps, rig.counters.lost_samples) == (0, 0)
    assert (rig.tracker.epoch, rig.segments[-1].next_sample) == (0, 90000)
    if held_s > 0.1:
        assert rig.counters.backlog_samples > 0.5 * held_s * RATE_HZ


def test_a_clock_set_back_is_a_new_epoch_and_counts_from_zero() -> None:
    rig = Rig()
    at = rig.settle()
    arrival = T0 + at / RATE_HZ
    for k in range(30):
        rig.send(exact(at + 300 * k, 300, T0 - 50.0), arrival + 0.01 * (k + 1))
    assert rig.counters.backward_timestamps == 1
    assert rig.segments[-1].epoch == 1
    first_of_new = next(segment for segment in rig.segments if segment.epoch == 1)
    assert first_of_new.first_sample == 0
    assert rig.counters.lost_samples == 0
    assert rig.segments[-1].backlog  # stamps 50 s off the arrival clock are not "now"


def test_a_long_loss_behind_jitter_is_a_loss_and_no_new_clock() -> None:
    rng, rig = np.random.default_rng(1), Rig()
    for first in range(0, 60000, 30):
        at = first + (10 * 30000 if first >= 30000 else 0)
        end = T0 + (at + 29) / RATE_HZ + rng.exponential(5e-4)
        rig.send(end + np.arange(-29, 1) / RATE_HZ, end + 1e-4)
    assert (rig.counters.gaps, rig.tracker.epoch) == (1, 0)
    assert rig.counters.lost_samples == pytest.approx(300000, abs=60)


def test_a_clock_set_forward_is_no_loss() -> None:
    rig = Rig()
    at = rig.settle()
    for k in range(30):
        rig.send(exact(at + 300 * k, 300, T0 + 3600), T0 + at / RATE_HZ + 0.01 * (k + 1))
    assert rig.segments[-1].epoch == 1
    assert rig.counters.lost_samples == 0


@pytest.mark.parametrize("one_pull", [True, False])
@pytest.mark.parametrize("rest", [1, 200])
def test_a_stream_joined_in_the_midst_of_a_chunk_lost_nothing(one_pull: bool, rest: int) -> None:
    """liblsl deduces the chunk's rest from a time of zero: no loss of as many samples as the sender's clock is old."""
    rig, deduced, arrival = Rig(), np.arange(1, rest + 1) / RATE_HZ, T0 + 0.01
    if one_pull:
        rig.send(np.concatenate([deduced, exact(0, 300)]), arrival)
    else:
        rig.send(deduced, arrival - 0.001)
        rig.send(exact(0, 300), arrival)
    for k in range(1, 40):
        rig.send(exact(300 * k, 300), arrival + 0.01 * k)
    assert (rig.counters.lost_samples, rig.counters.gaps) == (0, 0)
    last = rig.segments[-1]
    assert (last.epoch, last.backlog) == (1, False)
    assert last.newest_time == pytest.approx(T0 + (300 * 40 - 1) / RATE_HZ)


def test_a_clock_that_stands_still_loses_one_chunk_not_all() -> None:
    rig = Rig()
    at = rig.settle()
    for k in range(20):
        rig.send(exact(at, 30), T0 + at / RATE_HZ + 1e-3 * (k + 1))
    assert rig.counters.doubled_timestamps <= 60
    assert rig.counters.backward_timestamps > 0
    assert rig.segments[-1].next_sample >= at + 18 * 30


@pytest.mark.parametrize("bad", [slice(0, 30), slice(0, 7), slice(20, 30), slice(10, 20)])
def test_stamps_that_are_not_numbers_are_named_and_no_sample_is_lost(bad: slice) -> None:
    rig = Rig()
    at = rig.settle()
    stamps = exact(at, 30)
    stamps[bad] = np.nan
    rig.send(stamps, T0 + (at + 30) / RATE_HZ)
    rig.send(exact(at + 30, 30))
    assert rig.segments[-1].next_sample == at + 60
    assert (rig.counters.gaps, rig.counters.backward_timestamps) == (0, 1)
    assert "not finite" in rig.counters.last_problem


def test_the_very_first_stamp_may_be_no_number() -> None:
    rig = Rig()
    (segment,) = rig.send(np.full(30, np.nan), T0)
    assert segment == Segment(0, 30, 0, T0, 0, False)


def test_no_samples_are_no_segments() -> None:
    assert StampTracker(RATE_HZ, SourceCounters()).push(np.zeros(0), T0) == []


@given(st.integers(0, 20000))
def test_a_marker_falls_on_the_sample_of_its_time_inside_gaps_too(sample: int) -> None:
    rig = Rig()
    at = rig.settle()
    rig.send(exact(at + 6000, 300))
    assert rig.tracker.sample_of(T0 + sample / RATE_HZ) == sample


def test_notes_stay_bounded() -> None:
    rig = Rig()
    at = rig.settle()
    for _ in range(50):
        at += 40
        rig.send(exact(at, 30))
        at += 30
    assert len(rig.counters.notes) == 20
    assert rig.counters.notes[-1] == rig.counters.last_problem
