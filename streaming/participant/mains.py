"""The hum of the mains: 50 Hz and its harmonics to 950 Hz, in one phase on all electrodes, wandering by 0.02 Hz."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.participant import draws

MAINS_HZ = 50.0
WANDER_HZ = 0.02
WANDER_KEEP = 0.998  # from one 20 ms block to the next: 10 s
HARMONICS = 19
TABLE = 4096


@dataclass(frozen=True, slots=True)
class MainsState:
    """Where the mains are: phase in turns, and how many Hz they are off."""

    turns: float
    off_hz: float


def _period() -> NDArray[np.float32]:
    """One period of unit rms; odd harmonics fall as 1/h², even ones are a fifth of that."""
    turn = 2 * np.pi * np.arange(TABLE) / TABLE
    phase = draws.at("mains").uniform(0, 2 * np.pi, HARMONICS + 1)
    wave = sum(np.sin(h * turn + phase[h]) / h**2 * (1.0 if h % 2 else 0.2) for h in range(1, HARMONICS + 1))
    return np.asarray(wave / np.std(wave), dtype=np.float32)


PERIOD = _period()


def mains(
    state: MainsState, path: tuple[int | str, ...], index: int, n: int, rate_hz: float
) -> tuple[NDArray[np.float32], MainsState]:
    """The next n samples of the hum, unit rms, and the state after them."""
    kick = np.sqrt(1 - WANDER_KEEP**2) * draws.at(*path, "mains", index).standard_normal()
    off_hz = WANDER_KEEP * state.off_hz + WANDER_HZ * float(kick)
    step = (MAINS_HZ + off_hz) / rate_hz
    place = ((state.turns + step * np.arange(n)) % 1.0) * TABLE
    low = place.astype(np.int64)
    part = (place - low).astype(np.float32)
    wave = PERIOD[low] * (1 - part) + PERIOD[(low + 1) % TABLE] * part
    return wave, MainsState((state.turns + step * n) % 1.0, off_hz)
