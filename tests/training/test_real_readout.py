"""Readouts of real recordings, on made data: what is there is found, and nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.real_readout import FOLDS, _areas, contrast_score, fit, resampled, side_by_side, velocity_score

N = 1500
TRIALS = np.arange(N) // 10
RNG = np.random.default_rng(0)
CAUSES = RNG.standard_normal((N, 3))
MOVED = CAUSES @ RNG.standard_normal((3, 2))
LEVELS = RNG.integers(10, size=N)
EARLY, LATE = slice(1000), slice(1000, None)


def test_folds_are_contiguous_and_part_no_trial():
    uneven = np.repeat(np.arange(40), np.arange(5, 45))
    folds = fit(CAUSES[: len(uneven)], MOVED[: len(uneven)], uneven)[1].cv.test_fold
    assert (np.diff(folds) >= 0).all()
    assert len(np.unique(folds)) == FOLDS
    assert all(len(np.unique(folds[uneven == trial])) == 1 for trial in range(40))


def velocity(features: np.ndarray, moved: np.ndarray = MOVED) -> dict:
    return velocity_score(features[EARLY], moved[EARLY], TRIALS[EARLY], features[LATE], moved[LATE], TRIALS[LATE])[0]


def test_velocity_is_read_where_it_is_and_as_much_of_it_as_is_there():
    assert velocity(CAUSES)["r2"] > 0.999
    noisy = MOVED + MOVED.std(axis=0) * np.random.default_rng(1).standard_normal(MOVED.shape)
    half = velocity(CAUSES, noisy)
    assert half["interval"][0] < 0.5 < half["interval"][1]
    assert half["correlation"] == pytest.approx([0.5**0.5] * 2, abs=0.06)
    assert half["chance"][1] < 0 < half["chance"][2] < half["interval"][0] - 0.2


def test_nothing_is_read_from_noise():
    found = velocity(np.random.default_rng(2).standard_normal((N, 20)))
    assert found["r2"] < 0.02
    assert found["chance"][1] < found["r2"] < found["chance"][2] + 0.03


def contrast(features: np.ndarray) -> dict:
    return contrast_score(features[EARLY], LEVELS[EARLY], TRIALS[EARLY], features[LATE], LEVELS[LATE], TRIALS[LATE])[0]


def test_contrast_is_read_where_it_is_and_not_from_noise():
    rng = np.random.default_rng(3)
    found = contrast(LEVELS[:, None] + 2.0 * rng.standard_normal((N, 1)))
    assert found["interval"][0] > 0.9
    assert found["presentations"] == np.isin(LEVELS[LATE], [0, 1, 8, 9]).sum()
    assert found["chance"][0] == pytest.approx(0.5, abs=0.02)
    assert found["chance"][1] < 0.5 < found["chance"][2] < found["auc"]
    nothing = contrast(rng.standard_normal((N, 8)))
    assert nothing["interval"][0] < 0.5 < nothing["interval"][1]


def test_the_area_of_a_resample_is_scikit_learns():
    rng = np.random.default_rng(4)
    said, high = rng.integers(8, size=300) / 8, rng.random(300) > 0.4  # ties
    group, drawn = resampled(np.arange(300) // 15, rng)
    expected = [roc_auc_score(high, said, sample_weight=times[group]) for times in drawn[:50]]
    np.testing.assert_allclose(_areas(said, high, group, drawn[:50]), expected)


def test_features_are_compared_on_the_same_resamples():
    def score(training: np.ndarray, test: np.ndarray):
        return velocity_score(training, MOVED[EARLY], TRIALS[EARLY], test, MOVED[LATE], TRIALS[LATE])

    see = {"mae": lambda at: CAUSES[at], "same": lambda at: 2 * CAUSES[at], "less": lambda at: CAUSES[at, :1]}
    found = side_by_side(see, score, EARLY, LATE)
    assert found["mae"]["mae_ahead_interval"] == [0, 0]
    assert found["same"]["mae_ahead_interval"] == pytest.approx([0, 0], abs=1e-3)
    assert found["less"]["mae_ahead_interval"][0] > 0.1
