"""Rest: pairs of windows that no stimulation touches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.errors import OperatorFault
from tests.training.sessions import small_session
from training.resting import AFTER_S, APART_BINS, apart, pairs, quiet


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
    found = pairs(sessions, starts, 128, 40)
    assert set(found.session) == {0, 1}
    z = sessions[1].z.astype(np.float16)
    rows = found.session == 1
    for first, second in zip(found.first[rows], found.second[rows], strict=True):
        (at,) = np.flatnonzero((z[:-1, 0] == first[0, 0]) & (z[1:, 0] == first[0, 1]))
        (behind,) = np.flatnonzero((z[:-1, 0] == second[0, 0]) & (z[1:, 0] == second[0, 1]))
        assert {at, behind} <= set(starts[1].tolist())
        assert APART_BINS[0] <= behind - at <= APART_BINS[1]


def test_no_rhythm_has_one_phase_in_both_windows_of_a_pair():
    for step in (1, 6, 36):  # bins from one pair to the next
        apart_s = apart(step * np.arange(2000), 128) / 1000
        for hz in (10, 25, 50, 60, 100):
            assert abs(np.exp(2j * np.pi * hz * apart_s).mean()) < 0.1


@pytest.mark.parametrize("length", [128, 256, 512])
def test_the_windows_of_a_pair_never_overlap(length: int):
    starts = np.arange(5000)
    behind = apart(starts, length)
    assert behind.min() >= length
    assert np.ptp(behind) == APART_BINS[1] - APART_BINS[0]


def test_unusable_channels_of_either_window_are_still(tmp_path: Path):
    session = small_session(tmp_path, seconds=40)
    usable = np.array(session.usable)
    usable[20_000:, 3] = False
    found = pairs([replace(session, usable=usable)], {0: np.arange(39_800)}, 128, 50)
    assert found.usable[:, 3].any()
    assert not found.usable[:, 3].all()
    assert (found.first[~found.usable] == 0).all()
    assert (found.second[~found.usable] == 0).all()


def test_half_a_minute_of_rest_is_the_least(tmp_path: Path):
    session = small_session(tmp_path, seconds=25)
    with pytest.raises(OperatorFault, match="found 24 s of rest, expected at least 30 s"):
        quiet([session], {0: 25_000}, 128)
