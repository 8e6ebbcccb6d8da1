"""Slow potentials under the spikes, made at 1 kHz: the local field and what moving the head adds to all electrodes.

The field is 1/f^1.75 (Ornstein-Uhlenbeck processes two octaves apart, steeper above 80 Hz) on smooth spatial modes,
with the 10 and 25 Hz rhythms of the latent state travelling over it: 90 µV rms, 7 µV of it above 100 Hz. Straight lines
between its points at 1 kHz leave 0.9 µV rms in the spike band, under 12 µV of noise, and alike on all electrodes.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streaming.participant import draws
from streaming.participant.blocks import BlockStream
from streaming.participant.latent import BLOCK_BINS, KEEP_EVERY
from streaming.participant.participant import Participant
from streaming.participant.settings import BIN_RATE_HZ, N_ELECTRODES

FIELD_UV = 80.0
FIELD_EXPONENT = 1.75
FIELD_LENGTH_MM = 3.0
CORNER_HZ = (0.5, 2.0, 8.0, 32.0)
STEEPER_HZ = 80.0
N_MODES = 12
RHYTHM_UV = (40.0, 15.0)  # 10 and 25 Hz
MOVEMENT_UV = 150.0  # per standard deviation by which the slow part of the movement passes 1.2
MOVEMENT_HZ, EPISODE_HZ = 8.0, 0.1


class Background:
    """The slow potential of every electrode, 1 kHz, in blocks of 100 ms; stimulation does not touch it."""

    def __init__(self, participant: Participant) -> None:
        settings, a = participant.settings, participant.anatomy
        self._path = (settings.seed, settings.day, settings.session, "background")
        self._latent = participant.latent
        corner = np.array(CORNER_HZ)
        share = corner ** (1 - FIELD_EXPONENT)
        away = a.position_mm[:, None] - a.position_mm[None]
        values, vectors = np.linalg.eigh(np.exp(-(away**2).sum(-1) / (2 * FIELD_LENGTH_MM**2)))
        self._modes = (vectors * np.sqrt(np.maximum(values, 0)))[:, -N_MODES:].T
        self._size = FIELD_UV * np.sqrt(share / share.sum())
        self._keep = np.exp(-2 * np.pi * np.array([*np.tile(corner, N_MODES), MOVEMENT_HZ, EPISODE_HZ]) / BIN_RATE_HZ)
        self._rhythm = np.zeros((N_ELECTRODES, 8))
        for columns, microvolts in ((slice(4, 6), RHYTHM_UV[0]), (slice(6, 8), RHYTHM_UV[1])):
            pattern = (a.rhythm + a.wave)[:, columns]
            self._rhythm[:, columns] = microvolts * pattern / np.linalg.norm(pattern, axis=1, keepdims=True)
        self._movement_gain = 1 + 0.02 * draws.at(settings.seed, "movement").standard_normal(N_ELECTRODES)
        first = np.concatenate(
            [draws.at(*self._path, "first").standard_normal(len(self._keep)), np.zeros(N_MODES)]
        )  # the last are the low-passed modes
        self._blocks = BlockStream[NDArray[np.float32], NDArray[np.float64]](first, self._make, KEEP_EVERY)

    def block(self, index: int) -> NDArray[np.float32]:
        """Bins 100·index … 100·index + 99, (100, 96) in microvolts."""
        return self._blocks.block(index)

    def _make(self, index: int, state: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        after = state.copy()
        normals = draws.at(*self._path, index).standard_normal((BLOCK_BINS, len(self._keep)))
        walks = _walk(normals, after[: len(self._keep)], self._keep)
        field = walks[:, :-2].reshape(BLOCK_BINS, N_MODES, len(CORNER_HZ)) @ self._size
        _smooth(field, after[len(self._keep) :], 1 - np.exp(-2 * np.pi * STEEPER_HZ / BIN_RATE_HZ))
        movement = MOVEMENT_UV * np.maximum(walks[:, -1] - 1.2, 0) * walks[:, -2]
        out = field @ self._modes + self._latent.block(index)[:, 2:] @ self._rhythm.T
        out += movement[:, None] * self._movement_gain
        return out.astype(np.float32), after


@njit(cache=True, nogil=True)
def _walk(normals: NDArray[np.float64], state: NDArray[np.float64], keep: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit-variance AR(1) processes down the rows of `normals`, in place; `state` ends as the last row."""
    kick = np.sqrt(1 - keep * keep)
    for t in range(normals.shape[0]):
        for k in range(normals.shape[1]):
            state[k] = keep[k] * state[k] + kick[k] * normals[t, k]
            normals[t, k] = state[k]
    return normals


@njit(cache=True, nogil=True)
def _smooth(values: NDArray[np.float64], state: NDArray[np.float64], step: float) -> None:
    """One-pole low-pass down the rows of `values`, in place; `state` ends as the last row."""
    for t in range(values.shape[0]):
        for k in range(values.shape[1]):
            state[k] += step * (values[t, k] - state[k])
            values[t, k] = state[k]
