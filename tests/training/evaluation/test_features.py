"""Splits that keep time in order, features against closed forms, and what may be known without the cortex."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from tests.training.evaluation.made import CHANNELS, made
from training.evaluation.features import PrincipalComponents, SpontaneousComponents, log_variance, raw
from training.evaluation.splits import by_session, stretches, temporal
from training.evaluation.without_cortex import everything, prior, running_rate, time_of_trial
from training.readout import balanced_accuracy, fit


def test_every_session_is_split_in_time():
    session = np.array(["b"] * 10 + ["a"] * 5 + ["c"])
    training, test = temporal(session)
    assert np.array_equal(np.sort(np.concatenate([training, test])), np.arange(16))
    assert training.tolist() == [*range(8), *range(10, 14), 15]
    assert [rows[0] for rows in by_session(session)] == [0, 10, 15]


def test_label_draws_are_runs_of_trials_that_do_not_overlap():
    rows = np.arange(100, 200)
    drawn = stretches(rows, 20, most=4)
    assert [(run[0], run[-1]) for run in drawn] == [(100, 119), (126, 145), (153, 172), (180, 199)]
    assert [run.tolist() for run in stretches(rows, 60, most=4)] == [list(range(140, 200))]
    assert stretches(rows, 101, most=4) == []


def test_log_variance_is_that_of_each_channel_at_each_scale():
    windows = made(n=5, sessions=1).windows
    found = log_variance(windows, (1, 4))
    assert found.shape == (5, 2 * CHANNELS)
    assert np.allclose(found[:, :CHANNELS], np.log(windows.var(axis=2)), atol=1e-4)
    means = windows.reshape(5, CHANNELS, 32, 4).mean(axis=3)
    assert np.allclose(found[:, CHANNELS:], np.log(means.var(axis=2)), atol=1e-4)


@pytest.mark.parametrize("n", [30, 400])  # fewer and more trials than features
def test_principal_components_are_scikit_learns(n: int):
    flat = made(n=n, sessions=1).windows[:, :, ::8].reshape(n, -1)
    mine = PrincipalComponents.fitted(flat, 50).features(flat)
    theirs = PCA(min(50, n - 1), svd_solver="full").fit_transform(flat)
    assert mine.shape == theirs.shape
    assert np.allclose(np.abs(mine[:, :10]), np.abs(theirs[:, :10]), atol=2e-3)
    assert np.allclose(mine @ mine.T, theirs @ theirs.T, rtol=1e-3, atol=0.05)


def test_lagged_covariances_are_those_of_the_patterns():
    trials = made(n=60, sessions=1)
    components = SpontaneousComponents.fitted(trials.windows, components=3)
    assert np.allclose(components.patterns.T @ components.patterns, np.eye(3), atol=1e-6)
    place = np.random.default_rng(99).standard_normal(CHANNELS)
    assert abs(components.patterns[:, 0] @ place) > 0.95 * np.linalg.norm(place)  # the rhythm is what moves most
    found = components.features(trials.windows)
    assert found.shape == (60, 3 + 3 + 6 + 5 * 9)
    course = trials.windows.reshape(60, CHANNELS, 16, 8).mean(axis=3).swapaxes(1, 2) @ components.patterns
    course = course - course.mean(axis=1, keepdims=True)
    assert np.allclose(found[:, 6], (course[:, :, 0] ** 2).mean(axis=1), rtol=1e-4)
    after_two = (course[:, :-2, 1] * course[:, 2:, 2]).mean(axis=1)
    assert np.allclose(found[:, 6 + 6 + 9 + 5], after_two, rtol=1e-3, atol=1e-5)


def test_power_is_read_by_the_rivals_and_not_by_raw_samples():
    trials = made(n=250, sessions=2, strength=3.0)
    training, test = temporal(trials.session)
    components = SpontaneousComponents.fitted(trials.windows[training], components=3)

    def decodes(features: np.ndarray) -> float:
        readout = fit(features[training], trials.perceived[training])
        called = readout.probability(features[test]) > readout.prevalence
        return balanced_accuracy(trials.perceived[test], called)

    assert decodes(components.features(trials.windows)) > 0.7
    assert decodes(log_variance(trials.windows, (1, 4, 16))) > 0.7
    assert decodes(raw(trials.windows[:, :, ::4])) < 0.65


def test_reports_are_known_only_after_they_came():
    trials = made(n=30, sessions=2)
    before = running_rate(trials)
    trials.perceived[20:30] = ~trials.perceived[20:30]
    after = running_rate(trials)
    assert np.array_equal(before[:21], after[:21])  # trial 20 is told what came before it
    assert not np.array_equal(before[21:30], after[21:30])
    assert np.array_equal(before[30:], after[30:])  # nor does one session tell of another
    assert before[0].tolist() == before[30].tolist() == [0.5, 0]
    assert after[25, 0] == pytest.approx(trials.perceived[15:25].mean())


def test_the_prior_knows_session_and_electrode_and_nothing_of_the_test_trials():
    trials = made(n=200, sessions=3, strength=0.0, drift=2.0)
    training, test = temporal(trials.session)
    told = prior(trials, training)
    for session, rate in (("s0", 0.12), ("s1", 0.5), ("s2", 0.88)):
        assert told[trials.session == session].mean() == pytest.approx(rate, abs=0.08)
    trials.perceived[test] = ~trials.perceived[test]
    assert np.array_equal(told, prior(trials, training))
    without = training[trials.session[training] != "s2"]
    unknown = prior(trials, without)[trials.session == "s2"]
    assert unknown.mean() == pytest.approx(trials.perceived[without].mean(), abs=0.05)  # as everywhere


def test_time_begins_anew_with_each_session():
    trials = made(n=30, sessions=2)
    found = time_of_trial(trials)
    assert np.array_equal(found[:30], found[30:])
    assert found[0].tolist() == [0, 0, 0]
    assert found[12, 0] == 1.0
    assert everything(trials).shape == (60, 2 * 3 + 2 + 3)
