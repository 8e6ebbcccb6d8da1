"""Statistics of a window: what they are, which are known, and what becomes of short windows and few electrodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from models.networks.fewer_electrodes import FewerElectrodes
from models.networks.masked_autoencoder import PRESETS, build
from models.networks.slow_pooling import Embedder, slow_statistics
from models.networks.window_statistics import LAGS, STEP_BINS, log_variance, movements, statistics
from training.resting import Pairs
from training.slow_pooling import learn, learn_window, see_window

CHANNELS, BINS = 12, 128
ALL = torch.ones(3, CHANNELS, dtype=torch.bool)


def rest(n: int, channels: int = CHANNELS, bins: int = BINS) -> Pairs:
    """Windows of noise, of one size in both of a pair."""
    rng = np.random.default_rng(0)
    size = np.exp(0.5 * rng.standard_normal(n))
    both = [size[:, None, None] * rng.standard_normal((n, channels, bins)) for _ in range(2)]
    rows, session = np.arange(n), np.tile(np.repeat([0, 1, 2], n // 3), 2)
    return Pairs(np.concatenate(both).astype(np.float16), np.ones((2 * n, channels), bool), session, rows, rows + n)


def test_they_are_what_numpy_makes_of_the_window():
    window = np.random.default_rng(1).standard_normal((3, CHANNELS, BINS)).astype(np.float32)
    by_scale = [window.reshape(3, CHANNELS, -1, bins).mean(axis=3) for bins in (1, 4, 16)]
    expected = np.log(np.hstack([one.var(axis=2) for one in by_scale]) + 1e-6)
    assert np.allclose(log_variance(torch.from_numpy(window)), expected, atol=1e-5)
    patterns = np.eye(CHANNELS, 2, dtype=np.float32)  # the first two channels
    found = movements(torch.from_numpy(window), ALL, torch.from_numpy(patterns)).numpy()
    course = window[:, :2].reshape(3, 2, -1, STEP_BINS).mean(axis=3)
    assert np.allclose(found[:, :2], course.mean(axis=2), atol=1e-6)
    course = course - course.mean(axis=2, keepdims=True)
    assert found.shape[1] == 2 + 2 + 3 + 4 * LAGS
    behind = (course[:, 0, :-1] * course[:, 1, 1:]).mean(axis=1)  # the second one a step later
    assert np.allclose(found[:, 7 + 1], behind, atol=1e-6)


def test_a_pattern_seems_no_weaker_with_an_electrode_lost():
    rng = np.random.default_rng(2)
    patterns = torch.from_numpy(np.linalg.qr(rng.standard_normal((CHANNELS, 3)))[0].astype(np.float32))
    course = torch.from_numpy(np.array([10, 1, 0.1])[:, None] * rng.standard_normal((3, 3, BINS))).float()
    window, usable = patterns @ course, ALL.clone()
    whole = movements(window, usable, patterns)
    usable[:, 3] = False
    lost = movements(window * usable[:, :, None], usable, patterns)
    assert torch.allclose(lost, whole, rtol=0.01, atol=0.01)


def test_a_channel_that_is_lost_is_at_its_usual_and_not_silent():
    pairs = rest(300)
    patterns, loading, slow = learn_window(pairs)
    windows, usable = pairs.windows[:40].astype(np.float32), np.ones((40, CHANNELS), bool)
    whole = see_window(windows, usable, patterns, loading, slow)
    usable[:, 4] = False
    windows[:, 4] = np.nan
    lost = see_window(windows, usable, patterns, loading, slow)
    assert np.isfinite(lost).all()
    assert np.corrcoef(whole[:, 0], lost[:, 0])[0, 1] > 0.9
    silent = see_window(np.nan_to_num(windows), np.ones_like(usable), patterns, loading, slow)
    assert abs((lost - whole)[:, 0].mean()) < 0.1 * abs((silent - whole)[:, 0].mean())
    known = statistics(torch.from_numpy(windows), torch.from_numpy(usable), torch.from_numpy(patterns))[1].numpy()
    assert (~known).sum(axis=1).tolist() == [4] * 40  # its mean, and its variance at three scales


def test_an_artifact_at_one_electrode_says_little():
    pairs = rest(300)
    patterns, loading, slow = learn_window(pairs)
    windows, usable = pairs.windows[:40].astype(np.float32), np.ones((40, CHANNELS), bool)
    whole = see_window(windows, usable, patterns, loading, slow)
    windows[:, 4, :3] = 60.0
    assert np.abs(see_window(windows, usable, patterns, loading, slow) - whole).max() < 1.5
    windows[:, :, :40] = 1e4  # on all of them it may say much, but not more than rest ever does
    assert np.abs(see_window(windows, usable, patterns, loading, slow)).max() <= 8


def test_where_nothing_is_usable_nothing_is_said():
    patterns, loading, slow = learn_window(rest(60))
    usable = np.ones((2, CHANNELS), bool)
    usable[1] = False
    found = see_window(np.ones((2, CHANNELS, BINS), np.float32), usable, patterns, loading, slow)
    assert np.isnan(found).tolist() == [[False] * 2, [True] * 2]


def test_a_channel_that_was_never_usable_changes_nothing():
    pairs = rest(300)
    dead = pairs.usable.copy()
    dead[:, 2] = False
    windows = np.array(pairs.windows[:])
    windows[:, 2] = 0
    patterns, loading, slow = learn_window(replace(pairs, windows=windows, usable=dead))
    seen = windows[:10].astype(np.float32)
    found = see_window(seen, dead[:10], patterns, loading, slow)
    seen[:, 2] = 100.0
    assert np.array_equal(see_window(seen, dead[:10], patterns, loading, slow), found)


def test_short_windows_have_no_movements():
    pairs = rest(90, bins=10)
    patterns, loading, slow = learn_window(pairs)
    assert patterns.shape == (CHANNELS, 0)
    assert len(slow.centre) == 3 * CHANNELS  # mean, and ln variance of one bin and of four
    assert np.isfinite(see_window(pairs.windows[:5], pairs.usable[:5], patterns, loading, slow)).all()


def test_who_looks_at_fewer_electrodes_reads_the_statistics_of_these():
    torch.manual_seed(0)
    encoder = build(replace(PRESETS["nano"], channels=CHANNELS, bins=BINS)).encoder.eval()
    looks_at = [1, 4, 9]
    fewer = FewerElectrodes(encoder, looks_at).eval()
    pairs = rest(60)
    slow = learn(fewer, pairs)
    assert slow.patterns.shape[0] == len(looks_at)
    embedder = Embedder(fewer, slow).eval()
    window = torch.from_numpy(pairs.windows[:4].astype(np.float32))
    other = window.clone()
    other[:, 0] = 7.0  # none of theirs
    usable = torch.ones(4, CHANNELS, dtype=torch.bool)
    with torch.no_grad():
        found = embedder(window, usable)
        assert torch.equal(embedder(other, usable), found)
        learned = [
            torch.from_numpy(one) for name, one in slow.arrays().items() if name.startswith(("patterns", "window_"))
        ]
        expected = slow_statistics(window[:, looks_at], usable[:, looks_at], *learned)
    assert torch.allclose(found[:, 2:4], expected)
