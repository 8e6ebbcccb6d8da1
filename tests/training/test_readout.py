"""The readout against closed forms, and the leak tests: labels that mean nothing give chance."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from training.readout import _area, _basis, _path, balanced_accuracy, chance, fit, permuted, score


def trials(n: int, dimensions: int, strength: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian features of odd scale and place; the log odds are `strength` times the first of them, standardised."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, dimensions))
    labels = rng.random(n) < 1 / (1 + np.exp(-strength * latent[:, 0]))
    return latent * np.linspace(0.1, 9, dimensions) + 5, labels


def test_finds_what_is_there_and_is_calibrated():
    features, labels = trials(2000, 10, strength=2.0)
    test_features, test_labels = trials(4000, 10, strength=2.0, seed=1)
    readout = fit(features, labels)
    best = balanced_accuracy(test_labels, test_features[:, 0] > 5)
    found = score(readout.probability(test_features), test_labels, readout.prevalence)
    assert found["balanced_accuracy"] == pytest.approx(best, abs=0.015)
    assert found["interval"][0] < found["balanced_accuracy"] < found["interval"][1]
    assert found["calibration_error"] < 0.03


def test_calibration_does_not_hang_on_the_size_of_the_scores():
    features, labels = trials(2000, 10, strength=2.0)
    test_features, test_labels = trials(4000, 10, strength=2.0, seed=1)
    strongly_penalised = fit(features, labels, c=1e-10)
    found = score(strongly_penalised.probability(test_features), test_labels, strongly_penalised.prevalence)
    assert found["balanced_accuracy"] > 0.75
    assert found["calibration_error"] < 0.03


def test_calibration_holds_at_uneven_prevalence():
    """Balanced classes shift the scores by the log odds of the prevalence; Platt's scaling takes it back."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6000, 3))
    labels = rng.random(6000) < 1 / (1 + np.exp(-(1.5 * x[:, 0] - 2)))
    readout = fit(x[:3000], labels[:3000])
    found = readout.probability(x[3000:])
    assert found.mean() == pytest.approx(labels[3000:].mean(), abs=0.02)
    assert score(found, labels[3000:], readout.prevalence)["calibration_error"] < 0.03


def test_folded_weights_are_the_same_readout():
    features, labels = trials(300, 6, strength=2.0)
    readout = fit(features, labels)
    unfolded = features @ readout.weight + readout.bias
    expected = 1 / (1 + np.exp(-(readout.slope * unfolded + readout.offset)))
    assert np.allclose(readout.probability(features), expected)


@pytest.mark.parametrize("dimensions", [5, 400])
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_regression_is_scikit_learns_also_where_features_outnumber_trials(dimensions: int, precision: type):
    features, labels = trials(120, dimensions, strength=2.0)
    basis = _basis(features.astype(precision))
    weight, bias = basis.unscaled(*_path(basis.values, labels, (0.001, 0.01), basis)[1])
    oracle = LogisticRegression(C=0.01, class_weight="balanced", max_iter=5000, tol=1e-8)
    oracle.fit(StandardScaler().fit_transform(features), labels)
    mine = features @ weight + bias
    theirs = oracle.decision_function(StandardScaler().fit_transform(features))
    assert np.allclose(mine, theirs, atol=5e-3)


@pytest.mark.parametrize("dimensions", [5, 400])
def test_free_features_are_read_whatever_the_penalty(dimensions: int):
    """The answers hang on what is free alone: at the strongest penalty it is read as if there were none."""
    rng = np.random.default_rng(0)
    known = rng.standard_normal((600, 2)) * [1, 100] + [0, 50]
    labels = rng.random(600) < 1 / (1 + np.exp(-2 * known[:, 0]))
    noise = rng.standard_normal((600, dimensions))
    readout = fit(noise, labels, c=1e-5, free=known)
    weight, _ = readout.folded()
    assert weight[dimensions] == pytest.approx(2, abs=0.3)
    assert abs(weight[dimensions + 1]) < 0.01
    assert np.abs(weight[:dimensions]).max() < 0.01
    found = readout.probability(np.hstack([noise, known]))
    assert score(found, labels, readout.prevalence)["calibration_error"] < 0.06


def test_permuted_labels_give_chance():
    features, labels = trials(600, 20, strength=3.0)
    test_features, test_labels = trials(2000, 20, strength=3.0, seed=1)
    luck = chance(permuted(features, labels, 0.01), test_features, test_labels)
    assert luck["interval"][0] < 0.5 < luck["interval"][1]
    assert luck["balanced_accuracy"] == pytest.approx(0.5, abs=0.03)


def test_features_that_know_nothing_give_chance():
    features, labels = trials(600, 20, strength=0.0)
    test_features, test_labels = trials(4000, 20, strength=0.0, seed=1)
    readout = fit(features, labels)
    found = score(readout.probability(test_features), test_labels, readout.prevalence)
    assert found["interval"][0] <= 0.5 <= found["interval"][1]


def test_interval_covers_as_a_binomials_does():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2 == 0
    probability = np.where(rng.random(400) < 0.7, labels, ~labels).astype(float)
    low, high = score(probability, labels, 0.5)["interval"]
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.7 * 0.3 / 400), rel=0.15)


def test_one_kind_of_answer_cannot_be_fitted():
    with pytest.raises(ValueError, match="one kind of answer"):
        fit(np.zeros((50, 2)), np.ones(50, bool))


@pytest.mark.parametrize("n", [2, 3, 19, 95, 2000])
def test_the_area_that_chooses_a_penalty_is_scikit_learns_to_the_last_bit(n: int):
    """With ties, with none, and where all scores are the same."""
    rng = np.random.default_rng(n)
    for k in range(200):
        labels = rng.permutation(np.arange(n) < rng.integers(1, n))
        score = rng.standard_normal(n) + labels
        score = (score, np.round(score, 1), np.round(score), np.zeros(n))[k % 4]
        assert _area(labels, score) == roc_auc_score(labels, score)
