"""Scores and intervals against closed forms and other people's implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.calibration import calibration_curve
from sklearn.metrics import balanced_accuracy_score

from training.evaluation.statistics import (
    Resamples,
    balanced,
    brier,
    calibration_error,
    difference,
    efficiency,
    interval,
    mcnemar,
    over_participants,
    reliability,
    within_cells,
)

RNG = np.random.default_rng(0)
N = 800
LABELS = RNG.random(N) < 0.4
SESSION = np.repeat(["a", "b", "c", "d"], N // 4)


def calls(hit_rate: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(N) < hit_rate


def test_balanced_accuracy_is_scikit_learns():
    called = np.where(calls(0.7, 1), LABELS, ~LABELS)
    assert balanced(LABELS, called == LABELS) == pytest.approx(balanced_accuracy_score(LABELS, called))


def test_every_sample_draws_each_session_whole():
    weights = Resamples.drawn(SESSION, resamples=50).weights
    for one in np.unique(SESSION):
        assert (weights[:, one == SESSION].sum(axis=1) == N // 4).all()
    assert weights.std() > 0.9  # of a Poisson-like count with mean 1


def test_the_interval_is_as_wide_as_two_binomials_make_it():
    right, n_yes = calls(0.7, 2), LABELS.sum()
    low, high = interval(Resamples.drawn(SESSION).balanced_accuracy(LABELS, right))
    p, q = right[LABELS].mean(), right[~LABELS].mean()
    error = 0.5 * np.sqrt(p * (1 - p) / n_yes + q * (1 - q) / (N - n_yes))
    assert (high - low) / 2 == pytest.approx(norm.ppf(0.975) * error, rel=0.1)
    assert low < balanced(LABELS, right) < high


def test_sessions_that_differ_do_not_widen_a_stratified_interval():
    right = np.where(SESSION == "a", True, SESSION == "b")  # all of a and b, none of c and d
    low, high = interval(Resamples.drawn(SESSION).mean(right))
    assert low == high == 0.5
    low, high = interval(Resamples.drawn(np.zeros(N)).mean(right))
    assert high - low > 0.05


def test_intervals_of_differences_are_paired():
    """Two classifiers that agree but on few trials: the difference is known far better than either score."""
    right = calls(0.6, 3)
    other = right.copy()
    other[:20] = ~other[:20]
    resamples = Resamples.drawn(SESSION)
    found = difference(LABELS, right, other, resamples)
    low, high = found["interval"]
    alone = interval(resamples.balanced_accuracy(LABELS, right))
    assert high - low < 0.4 * (alone[1] - alone[0])
    assert found["balanced_accuracy"] == pytest.approx(balanced(LABELS, right) - balanced(LABELS, other))
    assert difference(LABELS, right, right, resamples)["interval"] == [0.0, 0.0]


def test_the_interval_of_a_difference_covers_as_often_as_it_says():
    """Of 200 pairs of equal classifiers, about 5 % seem different."""
    missed = 0
    for k in range(200):
        rng = np.random.default_rng(k)
        labels, session = rng.random(300) < 0.5, np.arange(300) // 100
        one, other = rng.random((2, 300)) < 0.6
        low, high = difference(labels, one, other, Resamples.drawn(session, resamples=400))["interval"]
        missed += not low <= 0 <= high
    assert 3 <= missed <= 20


def test_mcnemar_is_a_coin_on_the_discordant_trials():
    right, other = np.zeros(100, bool), np.zeros(100, bool)
    right[:30] = other[20:50] = True  # 20 only ours, 20 only theirs
    assert mcnemar(right, other) == {"only_first": 20, "only_second": 20, "p": 1.0}
    other[20:50] = False
    other[:2] = True
    assert mcnemar(right, other)["p"] == pytest.approx(2 * 0.5**28)
    assert mcnemar(right, right)["p"] == 1.0


def test_efficiency_is_a_ratio_of_distances_from_chance():
    ideal = calls(0.75, 4)
    resamples = Resamples.drawn(SESSION)
    assert efficiency(LABELS, ideal, ideal, resamples)["value"] == 1.0
    assert efficiency(LABELS, ideal, ideal, resamples)["interval"] == pytest.approx([1.0, 1.0])
    half = ideal & (np.cumsum(ideal) % 6 > 0)
    found = efficiency(LABELS, half, ideal, resamples)
    assert found["value"] == pytest.approx((balanced(LABELS, half) - 0.5) / (balanced(LABELS, ideal) - 0.5))
    assert found["interval"][0] < found["value"] < found["interval"][1]


def test_who_reads_the_stimulus_alone_is_at_chance_within_cells():
    current = RNG.integers(0, 6, N)
    perceived = RNG.random(N) < 0.1 + 0.16 * current
    by_current = within_cells(perceived, current > 2, current.astype(float), current)
    assert balanced(perceived, (current > 2) == perceived) > 0.65
    assert (by_current["balanced_accuracy"], by_current["auc"], by_current["cells"]) == (0.5, 0.5, 6)
    told = within_cells(perceived, perceived, perceived.astype(float), current)
    assert (told["balanced_accuracy"], told["auc"]) == (1.0, 1.0)
    alone = within_cells(perceived, perceived, perceived.astype(float), np.arange(N))
    assert alone == {"balanced_accuracy": None, "auc": None, "cells": 0}


def test_reliability_is_scikit_learns():
    probability = RNG.random(N)
    labels = RNG.random(N) < probability**2  # miscalibrated
    bins = reliability(labels, probability)
    found, said = calibration_curve(labels, probability, n_bins=10, strategy="quantile")
    assert np.allclose([one.found for one in bins], found)
    assert np.allclose([one.said for one in bins], said)
    assert calibration_error(bins) == pytest.approx(1 / 6, abs=0.03)  # the mean of p - p²
    assert brier(labels, np.full(N, labels.mean()))["skill"] == pytest.approx(0)


def test_over_participants_is_students_interval():
    found = over_participants([0.60, 0.62, 0.64])
    assert found["mean"] == pytest.approx(0.62)
    assert found["interval"] == pytest.approx([0.62 - 4.3027 * 0.02 / np.sqrt(3), 0.62 + 4.3027 * 0.02 / np.sqrt(3)])
    assert over_participants([0.6])["interval"] is None
