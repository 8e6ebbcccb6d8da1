"""Trials made by hand: a rhythm over channels whose size, not mean, tells the answer."""

from __future__ import annotations

import numpy as np

from training.trials import Trials

CHANNELS, BINS = 12, 128


def made(n: int = 240, sessions: int = 4, seed: int = 0, strength: float = 2.0, drift: float = 0.0) -> Trials:
    """`n` trials of each of `sessions` sessions. ln of the rhythm's size is a state s; P(perceived) = σ(strength s +
    drift by session)."""
    rng = np.random.default_rng(seed)
    total = n * sessions
    state = rng.standard_normal(total)
    phase = rng.uniform(0, 2 * np.pi, total)[:, None] + 2 * np.pi * 25 * np.arange(BINS) / 1000
    place = np.random.default_rng(99).standard_normal(CHANNELS)
    windows = np.exp(0.6 * state)[:, None, None] * place[:, None] * np.cos(phase)[:, None]
    windows = windows + rng.standard_normal((total, CHANNELS, BINS))
    session = np.repeat([f"s{k}" for k in range(sessions)], n)
    odds = strength * state + drift * np.repeat(np.linspace(-1, 1, sessions), n)
    return Trials(
        windows=windows.astype(np.float32),
        usable=np.ones((total, CHANNELS), bool),
        perceived=rng.random(total) < 1 / (1 + np.exp(-odds)),
        electrode=1 + np.arange(total) % 3,
        current_ua=10.0 * (1 + np.arange(total) % 2),
        session=session,
        onset_s=np.tile(5.0 * np.arange(n), sessions),
        state_known=np.full(total, np.nan),
        window_known=np.full(total, np.nan),
        rejected=0,
    )
