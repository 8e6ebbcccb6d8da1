"""The hidden state of the cortex, 1 kHz: excitability s, vigilance q and eight rhythm coordinates x.

s is what perception depends on. It is an Ornstein-Uhlenbeck process of 2 s plus q, one of 120 s, shared so that s has
unit variance. x is four damped rotations at 2, 5, 10 and 25 Hz of unit variance; its dynamics are the same on all days.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streaming.participant import draws
from streaming.participant.blocks import BlockStream
from streaming.participant.settings import BIN_RATE_HZ, ParticipantSettings

BLOCK_BINS = 100  # short, so that no block holds a live stream up for a millisecond
KEEP_EVERY = 160  # blocks between kept states
STATE_TAU_S = 2.0
VIGILANCE_TAU_S = 120.0
VIGILANCE_SD = 0.5
RHYTHM_HZ = (2.0, 5.0, 10.0, 25.0)
RHYTHM_TAU_S = (0.3, 0.2, 0.3, 0.06)
N_RHYTHM = 2 * len(RHYTHM_HZ)
PRESTIMULUS_BINS = 300


def rhythm_dynamics() -> NDArray[np.float64]:
    """A (8, 8) of x[t+1] = A x[t] + w with cov(w) = I - A Aᵀ, so that x has unit covariance."""
    a = np.zeros((N_RHYTHM, N_RHYTHM))
    for k, (frequency, tau) in enumerate(zip(RHYTHM_HZ, RHYTHM_TAU_S, strict=True)):
        turn = 2 * np.pi * frequency / BIN_RATE_HZ
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        a[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = np.exp(-1 / (tau * BIN_RATE_HZ)) * rotation
    return a


def state_autocovariance(bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """Covariance of s with itself so many bins later."""
    fast = (1 - VIGILANCE_SD**2) * np.exp(-bins / (STATE_TAU_S * BIN_RATE_HZ))
    return np.asarray(fast + VIGILANCE_SD**2 * np.exp(-bins / (VIGILANCE_TAU_S * BIN_RATE_HZ)))


def prestimulus_sd() -> float:
    """Standard deviation of the mean of s over 300 ms: the unit in which perception reads the state."""
    bins = np.arange(PRESTIMULUS_BINS)
    return float(np.sqrt(state_autocovariance(np.abs(bins[:, None] - bins)).mean()))


class Latent:
    """s, q and x of one session, by bin. A column of `read` each: s, q, x0 … x7."""

    def __init__(self, settings: ParticipantSettings) -> None:
        self._path = (settings.seed, settings.day, settings.session, "latent")
        first = draws.at(*self._path, "first").standard_normal(2 + N_RHYTHM)
        first[1] *= VIGILANCE_SD
        self._blocks = BlockStream[NDArray[np.float64], NDArray[np.float64]](first, self._make, KEEP_EVERY)
        self._dynamics = rhythm_dynamics()

    def block(self, index: int) -> NDArray[np.float64]:
        """Bins 100·index … 100·index + 99, (100, 10). Not to be written to."""
        return self._blocks.block(index)

    def read(self, first_bin: int, n: int) -> NDArray[np.float64]:
        """(n, 10) from `first_bin` on."""
        parts = []
        while n > 0:
            index, offset = divmod(first_bin, BLOCK_BINS)
            part = self.block(index)[offset : offset + n]
            parts.append(part)
            first_bin, n = first_bin + len(part), n - len(part)
        return np.concatenate(parts)

    def prestimulus(self, onset_bin: int) -> float:
        """Mean of s over the 300 ms before `onset_bin`, in units of its standard deviation."""
        first = max(0, onset_bin - PRESTIMULUS_BINS)
        return float(self.read(first, max(1, onset_bin - first))[:, 0].mean()) / prestimulus_sd()

    def _make(self, index: int, state: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        normals = draws.at(*self._path, index).standard_normal((BLOCK_BINS, 2 + N_RHYTHM))
        after = state.copy()
        block = _walk(normals, after, self._dynamics)
        block[:, 0] = np.sqrt(1 - VIGILANCE_SD**2) * block[:, 0] + block[:, 1]
        return block, after


@njit(cache=True, nogil=True)
def _walk(normals: NDArray[np.float64], state: NDArray[np.float64], a: NDArray[np.float64]) -> NDArray[np.float64]:
    keep_s = np.exp(-1 / (STATE_TAU_S * BIN_RATE_HZ))
    keep_q = np.exp(-1 / (VIGILANCE_TAU_S * BIN_RATE_HZ))
    kick_s = np.sqrt(1 - keep_s**2)
    kick_q = VIGILANCE_SD * np.sqrt(1 - keep_q**2)
    out = np.empty_like(normals)
    for t in range(len(normals)):
        out[t] = state
        state[0] = keep_s * state[0] + kick_s * normals[t, 0]
        state[1] = keep_q * state[1] + kick_q * normals[t, 1]
        for k in range(2, len(state), 2):
            i = k - 2
            kick = np.sqrt(1 - a[i, i] ** 2 - a[i + 1, i] ** 2)
            x = a[i, i] * state[k] + a[i, i + 1] * state[k + 1] + kick * normals[t, k]
            y = a[i + 1, i] * state[k] + a[i + 1, i + 1] * state[k + 1] + kick * normals[t, k + 1]
            state[k] = x
            state[k + 1] = y
    return out
