"""Filling in what was hidden: each way against a closed form, on windows whose truth is known."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from models.networks.masked_autoencoder import MaeConfig, build
from training.fill_in import Task, explained, filled_in, hide, hide_tokens, interpolated, rebuilt
from training.probable_components import Components, Spectrum

N, CHANNELS, BINS, PATCH, RANK = 1200, 6, 4, 2, 4
SHAPE = (N, CHANNELS, BINS)


@pytest.fixture(scope="module")
def made() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows of four hidden causes and noise, their true covariance, and which channels are usable in each."""
    rng = np.random.default_rng(0)
    axes = rng.standard_normal((CHANNELS * BINS, RANK))
    windows = rng.standard_normal((N, RANK)) @ axes.T + 0.3 * rng.standard_normal((N, CHANNELS * BINS)) + 1.0
    covariance = axes @ axes.T + 0.09 * np.eye(CHANNELS * BINS)
    return windows.reshape(SHAPE).astype(np.float32), covariance, rng.random((N, CHANNELS)) > 0.1


def nano() -> torch.nn.Module:
    torch.manual_seed(0)
    config = MaeConfig(CHANNELS, BINS, PATCH, 16, 1, 2, 8, 16, reconstructor_depth=1, sessions=1)
    return build(config).eval()


def test_so_many_channels_and_bins_are_hidden_and_no_patch_by_half():
    hidden = hide(SHAPE, channels=2, bins=2, patch_bins=PATCH)
    assert (hidden.all(axis=2).sum(axis=1) == 2).all()
    assert (hidden.all(axis=1).sum(axis=1) == 2).all()
    patches = hidden.reshape(N, CHANNELS, -1, PATCH)
    np.testing.assert_array_equal(patches.any(axis=3), patches.all(axis=3))
    assert len(np.unique(hidden.reshape(N, -1), axis=0)) == 15 * 2  # every pair of channels with either patch
    np.testing.assert_array_equal(hidden, hide(SHAPE, 2, 2, PATCH))


def test_a_share_of_tokens_is_hidden_anywhere():
    hidden = hide_tokens(SHAPE, 0.75, PATCH).reshape(N, CHANNELS, -1, PATCH)
    np.testing.assert_array_equal(hidden.any(axis=3), hidden.all(axis=3))
    assert (hidden.all(axis=3).sum(axis=(1, 2)) == 9).all()
    np.testing.assert_allclose(hidden.mean(axis=(0, 3)), 0.75, atol=0.05)


def test_a_straight_line_joins_what_is_seen_and_ends_flat():
    window = np.array([[[0, 9, 2, 9, 9, 9], [9, 9, 9, 9, 9, 9]]], np.float32)
    hidden = np.array([[[0, 1, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1]]], bool)
    window[0, 1, :4], window[0, 0, 5] = 3, 8
    usable = np.ones((1, 2), bool)
    assert interpolated(window, usable, hidden, axis=2)[0].tolist() == [[0, 1, 2, 4, 6, 8], [3] * 6]
    over_channels = np.zeros((1, 4, 1), np.float32) + np.array([[[1], [50], [70], [4]]], np.float32)
    hidden = np.array([[[0], [1], [0], [0]]], bool)
    gone = np.array([[True, True, False, True]])
    filled = interpolated(over_channels, gone, hidden, axis=1)
    assert filled[0, 1, 0] == 2.0  # between channels 1 and 4: channel 3 is not usable, so it says nothing


def test_components_give_the_mean_of_what_is_hidden_given_what_is_seen(made):
    windows, _, usable = made
    components = Components.of(Spectrum.fit(windows, usable), RANK)
    hidden = hide(SHAPE, 2, 0, PATCH)
    filled = components.fill(windows[:5], usable[:5], hidden[:5]).reshape(5, -1)
    model = components.axes @ components.axes.T + components.noise * np.eye(CHANNELS * BINS)
    for k in range(5):
        seen = (~hidden[k] & usable[k, :, None]).ravel()
        away = windows[k].ravel()[seen] - components.mean[seen]
        expected = components.mean[~seen] + model[np.ix_(~seen, seen)] @ np.linalg.solve(
            model[np.ix_(seen, seen)], away
        )
        np.testing.assert_allclose(filled[k, ~seen], expected, atol=1e-4)
        np.testing.assert_array_equal(filled[k, seen], windows[k].ravel()[seen])


def test_a_covariance_does_not_hang_on_what_channels_hold_while_they_are_not_usable(made):
    windows, covariance, usable = made
    spoiled = np.where(usable[:, :, None], windows, np.nan).astype(np.float32)
    spectrum = Spectrum.fit(spoiled, usable)
    found = spectrum.vectors * spectrum.values @ spectrum.vectors.T
    np.testing.assert_allclose(found, covariance, atol=0.15 * np.abs(covariance).max())
    np.testing.assert_allclose(spectrum.mean, 1.0, atol=0.35)


def test_the_network_sees_nothing_of_what_is_hidden(made):
    windows, _, usable = made
    hidden = hide(SHAPE, 2, 2, PATCH)[:8]
    network = nano()
    told = rebuilt(network, windows[:8], usable[:8], hidden)
    other = np.where(hidden | ~usable[:8, :, None], 1e3, windows[:8]).astype(np.float32)
    np.testing.assert_array_equal(rebuilt(network, other, usable[:8], hidden), told)
    moved = np.where(hidden, windows[:8], -windows[:8])
    assert np.abs(rebuilt(network, moved, usable[:8], hidden) - told).max() > 1e-4


def test_shares_are_of_the_distance_from_the_mean_and_intervals_over_groups(made):
    windows, _, usable = made
    hidden = hide(SHAPE, 2, 0, PATCH)
    mean = np.full(SHAPE, 1.0, np.float32)
    filled = {"mean": mean, "mae": windows, "half": (windows + mean) / 2}
    groups = np.arange(N) // 10
    found = explained(windows, usable, hidden, filled, groups)
    assert {name: one["explained"] for name, one in found.items()} == pytest.approx({"mean": 0, "mae": 1, "half": 0.75})
    assert found["half"]["mae_ahead_interval"] == pytest.approx([0.25, 0.25])
    noisy = {"mean": mean, "mae": windows + np.random.default_rng(0).standard_normal(SHAPE)}
    low, high = explained(windows, usable, hidden, noisy, groups)["mae"]["interval"]
    assert low < explained(windows, usable, hidden, noisy, groups)["mae"]["explained"] < high < low + 0.2
    unscored = {"mean": mean, "mae": np.where(hidden & usable[:, :, None], windows, 1e6)}
    assert explained(windows, usable, hidden, unscored, groups)["mae"]["explained"] == 1


def test_all_ways_on_windows_of_four_causes(made):
    windows, _, usable = made
    training, test = ((windows[at], usable[at]) for at in (slice(900), slice(900, None)))
    tasks = {
        "channels": Task(partial(hide, channels=2, bins=0, patch_bins=PATCH), 1),
        "tokens": Task(partial(hide_tokens, share=0.5, patch_bins=PATCH), 2),
    }
    found = filled_in(nano(), training, test, np.arange(300), tasks)
    for task in found.values():
        assert task["components"] == RANK
        assert task["windows"] == 300
        assert task["ways"]["mean"]["explained"] == 0
        assert task["ways"]["pca"]["explained"] > 0.8
        assert task["ways"]["mae"]["explained"] < 0.1  # it has learned nothing
        assert task["ways"]["pca"]["mae_ahead_interval"][1] < 0
    spoiled = (windows[900:] * 5, usable[900:])
    assert filled_in(nano(), training, spoiled, np.arange(300), tasks)["channels"]["components"] == RANK
