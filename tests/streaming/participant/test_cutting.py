"""Any cutting gives the same samples; seeking goes back to them; what was handed out never changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.participant.broadband import Broadband
from streaming.participant.level_a import LevelA
from streaming.participant.participant import Participant
from streaming.participant.settings import ParticipantSettings
from streaming.participant.stimulation import train

BINS = 2500
SAMPLES = 24_000
LOUD = ParticipantSettings(ignition=5.0, beta_state=0.0, median_threshold_ua=2.0)


def stimulated(onset_sample: int) -> Participant:
    participant = Participant(LOUD)
    participant.stimulate(train(34, 40.0), onset_sample)
    return participant


@pytest.fixture(scope="module")
def whole_a() -> np.ndarray:
    return LevelA(stimulated(30 * 700)).read(BINS)


@pytest.fixture(scope="module")
def whole_b() -> np.ndarray:
    return Broadband(stimulated(9001)).read_counts(SAMPLES)


def cuts(total: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, total), max_size=12).map(lambda at: np.diff([0, *sorted(at), total]).tolist())


@settings(max_examples=15, deadline=None)
@given(pieces=cuts(BINS))
def test_level_a_does_not_depend_on_the_cutting(pieces, whole_a):
    reader = LevelA(stimulated(30 * 700))
    np.testing.assert_array_equal(np.concatenate([reader.read(n) for n in pieces]), whole_a)


@settings(max_examples=10, deadline=None)
@given(pieces=cuts(SAMPLES))
def test_level_b_does_not_depend_on_the_cutting(pieces, whole_b):
    reader = Broadband(stimulated(9001))
    np.testing.assert_array_equal(np.concatenate([reader.read_counts(n) for n in pieces]), whole_b)


@pytest.mark.parametrize("at", [0, 599, 600, 9000, 15_123])
def test_seeking_gives_the_same_samples_forward_and_back(at, whole_b):
    reader = Broadband(stimulated(9001))
    for _ in range(2):
        reader.seek(at)
        np.testing.assert_array_equal(reader.read_counts(700), whole_b[at : at + 700])
    reader.seek(SAMPLES - 100)
    reader.read_counts(100)
    reader.seek(at)
    np.testing.assert_array_equal(reader.read_counts(700), whole_b[at : at + 700])


def test_level_a_seeks(whole_a):
    reader = LevelA(stimulated(30 * 700))
    for at in (2100, 10, 1999):
        reader.seek(at)
        np.testing.assert_array_equal(reader.read(300), whole_a[at : at + 300])


def test_a_stimulation_in_the_middle_of_a_block_changes_what_follows_and_nothing_before(whole_b):
    unstimulated = Broadband(Participant(LOUD)).read_counts(SAMPLES)
    participant = Participant(LOUD)
    reader = Broadband(participant)
    before = reader.read_counts(9001)
    participant.stimulate(train(34, 40.0), 9001)
    after = reader.read_counts(SAMPLES - 9001)
    np.testing.assert_array_equal(np.concatenate([before, after]), whole_b)
    np.testing.assert_array_equal(whole_b[:9001], unstimulated[:9001])
    assert np.abs(whole_b[9001:9061].astype(int) - unstimulated[9001:9061]).max() > 4000


def test_what_was_handed_out_cannot_be_stimulated():
    participant = Participant(LOUD)
    reader = Broadband(participant)
    reader.read_counts(1000)
    reader.seek(0)
    with pytest.raises(ValueError, match="handed out"):
        participant.stimulate(train(1, 10.0), 999)
    participant.stimulate(train(1, 10.0), 1000)


def test_both_levels_may_look_at_one_participant(whole_a, whole_b):
    participant = stimulated(9001)
    envelope, broadband = LevelA(participant), Broadband(participant)
    for _ in range(8):
        envelope.read(100)
        broadband.read_counts(3000)
    broadband.seek(0)
    np.testing.assert_array_equal(broadband.read_counts(SAMPLES), whole_b)


def test_seeds_days_and_sessions_differ():
    reads = [
        LevelA(Participant(ParticipantSettings(**which))).read(50)
        for which in ({}, {"seed": 1}, {"day": 1}, {"session": 1})
    ]
    for i, one in enumerate(reads):
        assert all(np.abs(one - other).max() > 0.1 for other in reads[i + 1 :])


@pytest.mark.parametrize("rate_hz", [15_000, 24_000, 40_000])
def test_other_rates(rate_hz):
    reader = Broadband(Participant(ParticipantSettings(rate_hz=rate_hz)))
    counts = reader.read_counts(rate_hz // 2)
    assert counts.shape == (rate_hz // 2, 96)
    assert 10 < counts.std() * 0.25 < 500
