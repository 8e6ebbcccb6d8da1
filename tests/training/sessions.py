"""Small sessions for the tests: 12 channels that hear a slow state and a rhythm, trials that depend on the state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from streaming.signal.settings import ChainSettings
from training.data import Session, SessionHeader, Trial, read_session, write_session

CHANNELS = 12


def small_session(
    folder: Path,
    name: str = "s0",
    date: str = "2031-01-01",
    seconds: float = 20.0,
    trials: int = 0,
    seed: int = 0,
    odds_per_state: float = 3.0,
    memory: float = 0.998,
    **changes: object,
) -> Session:
    """One session in `folder`; `memory`: of the state, from bin to bin.
    `changes` replace fields of its header."""
    rng, bins = np.random.default_rng(seed), round(seconds * 1000)
    state = lfilter([np.sqrt(1 - memory**2)], [1, -memory], rng.standard_normal(bins + 3000))[3000:]
    phase = 2 * np.pi * 10 * np.arange(bins) / 1000
    loading = np.random.default_rng(99).standard_normal((2, CHANNELS))
    z = 0.6 * state[:, None] * loading[0] + np.sin(phase)[:, None] * loading[1] + rng.standard_normal((bins, CHANNELS))
    onsets = np.linspace(300, bins - 400, trials).astype(int) if trials else np.empty(0, int)
    odds = odds_per_state * np.array([state[b - 128 : b].mean() for b in onsets])
    told = rng.random(trials) < 1 / (1 + np.exp(-odds))
    header = SessionHeader(
        name=name,
        date=date,
        participant="tester",
        labels=tuple(f"elec{i + 1}" for i in range(CHANNELS)),
        positions=None,
        rate_hz=30000.0,
        chain=ChainSettings().to_dict(),
        trials=tuple(
            Trial(onset_s=(b + 0.7) / 1000, electrode=1 + k % 3, current_ua=10.0 * (1 + k % 2), perceived=bool(y))
            for k, (b, y) in enumerate(zip(onsets, told, strict=True))
        ),
    )
    usable = np.ones(z.shape, bool)
    header = SessionHeader(**{**header.__dict__, **changes})
    return read_session(write_session(folder, header, z.astype(np.float32), usable))
