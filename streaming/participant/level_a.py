"""Level A: the 1 kHz envelope written directly. Fast, and its ideal observer is known exactly.

m = resting + scale · drive + noise; the noise is AR(1) of 1.5 ms (a low-passed envelope's memory) with covariance
0.7 δ + 0.3 exp(-d / 0.8 mm). The chain's own delay of 3.5 ms is not in it.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streaming.participant import draws
from streaming.participant.anatomy import Anatomy
from streaming.participant.blocks import BlockStream
from streaming.participant.participant import Participant
from streaming.participant.settings import N_ELECTRODES

BLOCK_BINS = 200
KEEP_EVERY = 160  # blocks between kept states
NOISE_TAU_MS = 1.5
NOISE_KEEP = float(np.exp(-1 / NOISE_TAU_MS))


def noise_correlation(anatomy: Anatomy) -> NDArray[np.float64]:
    """Correlation of the envelope noise between electrodes, (96, 96)."""
    away = anatomy.position_mm[:, None] - anatomy.position_mm[None]
    distance = np.hypot(away[..., 0], away[..., 1])
    return np.asarray(0.7 * np.eye(len(distance)) + 0.3 * np.exp(-distance / 0.8))


class LevelA:
    """Reads the participant's MUA envelope in microvolts, 1 kHz, bin after bin."""

    def __init__(self, participant: Participant) -> None:
        self.participant = participant
        self.position = 0  # the next bin
        settings = participant.settings
        self._path = (settings.seed, settings.day, settings.session, "envelope noise")
        self._mixing = np.linalg.cholesky(noise_correlation(participant.anatomy)).T.astype(np.float32)
        self._noise = BlockStream[NDArray[np.float32], NDArray[np.float32]](
            self._white("first", 1)[0], self._make_noise, KEEP_EVERY
        )

    def seek(self, bin_index: int) -> None:
        """Read from `bin_index` next, forward or back."""
        self.position = bin_index

    def read(self, n_bins: int) -> NDArray[np.float32]:
        """The next bins, (n_bins, 96) float32 in microvolts. Channels without contact are 0."""
        a, first = self.participant.anatomy, self.position
        out = self.participant.drive(first, n_bins)
        out *= a.scale_uv.astype(np.float32)
        out += a.resting_uv.astype(np.float32)
        done = 0
        while done < n_bins:
            index, offset = divmod(first + done, BLOCK_BINS)
            part = self._noise.block(index)[offset : offset + n_bins - done]
            out[done : done + len(part)] += part * a.noise_uv.astype(np.float32)
            done += len(part)
        if self.participant.settings.faults:
            out[:, ~a.truth.connected] = 0
        self.position += n_bins
        self.participant.handed_out(self.position * self.participant.settings.samples_per_bin)
        return out

    def _white(self, index: int | str, n: int) -> NDArray[np.float32]:
        normals = draws.at(*self._path, index).standard_normal((n, N_ELECTRODES), dtype=np.float32)
        return normals @ self._mixing

    def _make_noise(self, index: int, state: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        after = state.copy()
        return _autoregress(self._white(index, BLOCK_BINS), after, np.float32(NOISE_KEEP)), after


@njit(cache=True, nogil=True)
def _autoregress(white: NDArray[np.float32], state: NDArray[np.float32], keep: np.float32) -> NDArray[np.float32]:
    """Unit-variance AR(1) down the rows of `white`, in place."""
    kick = np.float32(np.sqrt(1 - keep * keep))
    for t in range(white.shape[0]):
        for c in range(white.shape[1]):
            state[c] = keep * state[c] + kick * white[t, c]
            white[t, c] = state[c]
    return white
