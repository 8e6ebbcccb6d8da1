"""Rest: pairs of windows that no stimulation touches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.errors import OperatorFault
from models.networks.masked_autoencoder import PRESETS
from tests.training.sessions import small_session
from training import slow_pooling
from training.data import Trial
from training.resting import AFTER_S, APART_BINS, following, pairs, quiet, spread


def test_windows_of_rest_keep_clear_of_stimulation(tmp_path: Path):
    rest = small_session(tmp_path, "rest", seconds=40)
    stimulated = small_session(tmp_path, "stimulated", seconds=40, trials=8)
    found = quiet([rest, stimulated], {0: 40_000, 1: 30_000}, 128)
    assert len(found[0]) == 40_000 - 127
    assert found[1].max() <= 30_000 - 128
    for trial in stimulated.header.trials:
        onset = 1000 * trial.onset_s
        assert not ((found[1] + 128 > onset) & (found[1] <= onset + 1000 * AFTER_S)).any()


def test_both_windows_of_a_pair_are_of_rest_and_of_one_session(tmp_path: Path):
    sessions = [small_session(tmp_path, f"s{k}", seconds=40, trials=8, seed=k) for k in range(2)]
    starts = quiet(sessions, {0: 40_000, 1: 40_000}, 128)
    found = pairs(sessions, starts, 128, 200)
    assert set(found.session) == {0, 1}
    assert 100 < len(found.first) < len(found.windows) < 250
    z = sessions[1].z.astype(np.float16)
    rows = found.session[found.first] == 1
    assert (found.session[found.second] == found.session[found.first]).all()
    both = found.windows[found.first[rows]], found.windows[found.second[rows]]
    for first, second in zip(*both, strict=True):
        (at,) = np.flatnonzero((z[:-1, 0] == first[0, 0]) & (z[1:, 0] == first[0, 1]))
        (behind,) = np.flatnonzero((z[:-1, 0] == second[0, 0]) & (z[1:, 0] == second[0, 1]))
        assert {at, behind} <= set(starts[1].tolist())
        assert APART_BINS[0] <= behind - at <= APART_BINS[1]


@pytest.mark.parametrize("n", [500, 5000, 50_000])
def test_no_rhythm_has_one_phase_in_both_windows_of_a_pair(n: int):
    start = spread(np.arange(600_000), 128, n)
    first, second = following(np.zeros(len(start), int), start, 128)
    apart_s = (start[second] - start[first]) / 1000
    for hz in (10, 25, 50, 60, 100):
        for seconds in (apart_s, start / 1000):
            assert abs(np.exp(2j * np.pi * hz * seconds).mean()) < (0.15 if n < 1000 else 0.1)


@pytest.mark.parametrize("length", [10, 128, 256, 512])
@pytest.mark.parametrize("n", [300, 3000])
def test_windows_are_spread_over_all_rest_and_pairs_never_overlap(length: int, n: int):
    start = spread(np.arange(400_000), length, n)
    assert 0.6 * n < len(start) < 1.4 * n
    assert (np.diff(start) > 0).all()
    assert start[0] < 60_000
    assert start[-1] > 340_000
    first, second = following(np.zeros(len(start), int), start, length)
    behind = start[second] - start[first]
    assert behind.max() <= max(APART_BINS[1], 2 * length + APART_BINS[1] - APART_BINS[0])
    assert len(first) > 0.4 * len(start)
    assert behind.min() >= max(length, APART_BINS[0])


def test_of_many_sessions_each_is_seen_from_begin_to_end():
    start = spread(np.arange(600_000), 128, 20)  # a hundred sessions, two thousand windows
    assert len(start) < 100
    assert np.diff(np.sort(start)).max() < 160_000
    assert 60_000 < start[0] < 90_000 < 510_000 < start[-1]


def test_a_minute_of_rest_is_not_read_many_times(tmp_path: Path):
    session = small_session(tmp_path, seconds=60)
    found = pairs([session], {0: np.arange(59_800)}, 128, 60_000)
    assert len(found.windows) < 500


def test_rest_in_small_pieces_counts_where_pairs_fit_into_them(tmp_path: Path):
    session = small_session(tmp_path, seconds=100)
    trials = tuple(Trial(2.2 * k, 1, 10.0, True) for k in range(1, 45))
    busy = replace(session, header=replace(session.header, trials=trials))
    assert len(quiet([busy], {0: 100_000}, 128)[0]) > 30_000


def test_the_sessions_of_pairs_keep_apart():
    start = np.tile(np.arange(0, 20_000, 128), 2)
    session = np.repeat([3, 7], len(start) // 2)
    first, second = following(session, start, 128)
    assert (session[first] == session[second]).all()
    assert set(session[first]) == {3, 7}
    alone = following(np.array([1, 2]), np.array([0, 500]), 128)
    assert [len(one) for one in alone] == [0, 0]


def test_unusable_channels_are_still(tmp_path: Path):
    session = small_session(tmp_path, seconds=40)
    usable = np.array(session.usable)
    usable[20_000:, 3] = False
    found = pairs([replace(session, usable=usable)], {0: np.arange(39_800)}, 128, 100)
    assert found.usable[:, 3].any()
    assert not found.usable[:, 3].all()
    assert (found.windows[:][~found.usable] == 0).all()
    assert np.array_equal(found.windows[5:9], found.windows[np.arange(5, 9)])


def test_half_a_minute_of_rest_is_the_least(tmp_path: Path):
    session = small_session(tmp_path, seconds=25)
    with pytest.raises(OperatorFault, match="found 24 s of rest, expected at least 30 s"):
        quiet([session], {0: 25_000}, 128)


def test_a_large_network_or_array_reads_fewer_windows(monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []
    monkeypatch.setattr(slow_pooling, "pairs", lambda *one: asked.append(one[3]))
    monkeypatch.setattr(slow_pooling, "quiet", lambda *one: {})
    for config in (PRESETS["ci"], replace(PRESETS["ci"], channels=1024), PRESETS["paper"]):
        slow_pooling.resting([], {}, config)
    assert asked == [60_000, 5_625, 5_000]
