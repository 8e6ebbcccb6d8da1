"""What is learned without labels: slow directions, poolings, a supervised network beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.networks.masked_autoencoder import PRESETS, build, pool
from tests.training.evaluation.made import BINS, CHANNELS, made
from training.evaluation.attention import attend, learn
from training.evaluation.embedding import POOLINGS, embeddings, learned, tokens
from training.evaluation.rest import Rest, sample
from training.evaluation.slow import SlowMap
from training.evaluation.supervised import log_odds, supervised
from training.readout import balanced_accuracy

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return build(replace(PRESETS["nano"], channels=CHANNELS)).encoder.eval()


def resting(n: int = 96) -> Rest:
    """Pairs of windows whose rhythm has one size in both; half of them in each of two sessions."""
    rng = np.random.default_rng(1)
    size, place = np.exp(rng.standard_normal(n)), np.random.default_rng(99).standard_normal(CHANNELS)

    def windows() -> np.ndarray:
        phase = rng.uniform(0, 2 * np.pi, n)[:, None] + 2 * np.pi * 25 * np.arange(BINS) / 1000
        drawn = size[:, None, None] * place[:, None] * np.cos(phase)[:, None]
        return (drawn + rng.standard_normal((n, CHANNELS, BINS))).astype(np.float16)

    usable, session = np.ones((2 * n, CHANNELS), bool), np.tile(np.repeat([0, 1], n // 2), 2)
    both, rows = np.concatenate([windows(), windows()]), np.arange(n)
    held_out = windows(), usable[:n], session[:n], np.full(n, "2031-01-01")
    return Rest(both, usable, session, rows, rows + n, *held_out)


def test_slow_directions_find_what_lasts_and_not_what_says_which_session():
    n, session = 3000, np.repeat([0, 1, 2], 1000)
    slow, offset = RNG.standard_normal(n), 5.0 * session
    mixing = RNG.standard_normal((10, 10))

    def seen() -> np.ndarray:
        return np.column_stack([slow + 0.1 * RNG.standard_normal(n), offset, 9 * RNG.standard_normal((n, 8))]) @ mixing

    first, second = seen(), seen()
    found = SlowMap.learned(first, second, session)
    assert found.directions.shape == (10, 2)
    for one in range(3):  # what is constant in a session was not there to be learned, and shifts it as a whole
        rows = session == one
        now, later = found(first[rows])[:, 0], found(second[rows])[:, 0]
        assert abs(np.corrcoef(now, slow[rows])[0, 1]) > 0.95
        assert np.corrcoef(now, later)[0, 1] > 0.9


def test_slow_directions_of_more_features_than_pairs_are_finite():
    session = np.zeros(40, int)
    found = SlowMap.learned(RNG.standard_normal((40, 100)), RNG.standard_normal((40, 100)), session)
    assert np.isfinite(found(RNG.standard_normal((5, 100)))).all()
    still = SlowMap.learned(np.ones((40, 3)), np.ones((40, 3)), session)
    assert np.isfinite(still(np.ones((5, 3)))).all()


def test_attention_learns_to_look_at_the_token_that_lasts():
    """Of six tokens one is alike in both windows of a pair, and marked in a dimension of its own."""
    torch.manual_seed(0)
    n, width = 256, 16
    first, second = torch.randn(2, n, 6, width)
    first[:, 2, :8] = second[:, 2, :8] = 2 * torch.randn(n, 8)
    for window in (first, second):
        window[:, :, -1] = 0
        window[:, 2, -1] = 3
    visible = torch.ones(n, 6, dtype=torch.bool)
    queries = learn(first, second, visible, torch.arange(n) // 64)
    weight = torch.einsum("ntw,qw->nqt", first, queries).softmax(dim=2).mean(dim=0)
    assert weight[:, 2].max() > 0.45  # of a query; a sixth is its share by chance
    visible[:, 2] = False
    first[:, 2] = torch.nan_to_num(first[:, 2]) + 1e6
    assert attend(first, visible, queries).abs().max() < 1e3


def test_poolings_are_what_they_say(encoder):
    trials = made(n=20, sessions=1)
    trials.usable[:, 3] = False
    trials.windows[:, 3] = np.nan
    pooling = learned(encoder, resting())
    found = embeddings(encoder, pooling, trials.windows, trials.usable)
    assert set(found) == set(POOLINGS)
    assert all(np.isfinite(one).all() for one in found.values())
    latents, registers, visible = tokens(encoder, trials.windows, trials.usable)
    assert np.allclose(found["mean"], pool(latents, visible), atol=1e-5)
    kept = latents[visible].view(20, -1, encoder.config.width)
    assert np.allclose(found["mean_and_spread"][:, 64:], kept.std(dim=1, correction=0), atol=1e-4)
    assert np.allclose(found["registers"], registers.flatten(1), atol=1e-5)
    with torch.no_grad():  # the registers are those that the encoder leaves out
        whole, _ = encoder(torch.from_numpy(trials.windows), torch.from_numpy(trials.usable))
    assert np.allclose(latents, whole, atol=1e-6)
    assert found["place"].shape[1] == 128 + 3 * CHANNELS + 24
    assert np.allclose(found["place"][:, :128], found["mean_and_spread"], atol=1e-6)


def test_what_rest_is_read_by_roughly_is_what_trials_are_read_by_exactly(encoder):
    trials = made(n=60, sessions=1)
    pooling = learned(encoder, resting())
    exact, roughly = (embeddings(encoder, pooling, trials.windows, trials.usable, one) for one in (True, False))
    for name in ("mean", "mean_and_spread", "attention", "place"):
        away = roughly[name] - exact[name]
        assert 0 < np.square(away).sum() < 1e-3 * np.square(exact[name] - exact[name].mean(axis=0)).sum()


def test_the_supervised_network_reads_power():
    trials = made(n=300, sessions=2, strength=3.0)
    network = supervised(trials.windows[:480], trials.perceived[:480])
    called = log_odds(network, trials.windows[480:]) > 0
    assert balanced_accuracy(trials.perceived[480:], called) > 0.7


def test_resting_pairs_follow_each_other_and_held_out_windows_are_others(tmp_path):
    from tests.training.sessions import small_session
    from training.batches import split

    sessions = [small_session(tmp_path, f"s{k}", date=f"2031-01-0{k + 1}", seconds=20, seed=k) for k in range(6)]
    found = sample(sessions, *split(sessions, 128), 128, windows=80, held_out_windows=20)
    assert set(found.session) == {0, 1}  # four dates are held out
    assert set(found.held_out_session) == {2, 3, 4, 5}
    assert set(found.held_out_date) == {f"2031-01-0{k + 1}" for k in (2, 3, 4, 5)}
    z = sessions[0].z.astype(np.float16)
    rows = found.session[found.first] == 0
    assert rows.sum() > 10
    starts: list[int] = []
    for first, second in zip(found.first[rows], found.second[rows], strict=True):
        at, behind = (
            np.flatnonzero((z[:-1, 0] == one[0, 0]) & (z[1:, 0] == one[0, 1]))[0]
            for one in (found.windows[first], found.windows[second])
        )
        assert 400 <= behind - at <= 1200
        assert np.array_equal(found.windows[second], z[behind : behind + 128].T)
        starts.append(at)
    assert starts == sorted(starts)
