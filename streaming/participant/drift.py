"""What changes from day to day: gains, noise floor, thresholds, dropouts, a shift of the array, the units.

Each is a walk whose step of day d is drawn at the address (seed, name, d), so that day 7 is the same whether or not
day 6 was ever made. Days before day 0 are walked to from it, the other way. The truth is kept, so that an adaptation
can be scored on what it recovers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.participant import draws
from streaming.participant.settings import N_ELECTRODES

GAIN_STEP, GAIN_SD = 0.05, 0.25  # of ln(gain): per day, and in the long run
FLOOR_STEP, FLOOR_SD = 0.05, 0.20  # of ln(noise floor)
OFFSET_STEP, OFFSET_SD = 0.02, 0.10  # of the resting envelope, as a fraction of it
THRESHOLD_STEP = 0.05  # of ln(threshold), a free walk
SHIFT_STEP_MM, SHIFT_SD_MM, SHIFT_LIMIT_MM = 0.02, 0.07, 0.2
STATE_OFFSET_SD = 0.3  # the mean of s on a day; 0 on day 0
DROPOUT_PER_DAY, RETURN_PER_DAY = 0.02, 0.10
UNIT_TAU_DAYS = 30.0
UNITS_PER_ELECTRODE = 3


@dataclass(frozen=True, slots=True)
class DayTruth:
    """The drift of one day. Arrays are by electrode, (96,) unless said otherwise."""

    gain: NDArray[np.float64]
    floor: NDArray[np.float64]  # factor on the noise
    offset: NDArray[np.float64]  # added to a resting envelope of 1
    log_threshold_walk: NDArray[np.float64]
    shift_mm: NDArray[np.float64]  # (2,)
    state_offset: float
    connected: NDArray[np.bool_]
    unit_generation: NDArray[np.int64]  # (96, 3): which neuron, by how often it was replaced; below 0 before day 0


def day_truth(seed: int, day: int) -> DayTruth:
    """The drift between day 0 and `day`."""
    onwards = 1 if day > 0 else -1
    connected = np.ones(N_ELECTRODES, dtype=bool)
    generation = np.zeros((N_ELECTRODES, UNITS_PER_ELECTRODE), dtype=np.int64)
    threshold = np.zeros(N_ELECTRODES)
    for d in _days(day):
        fate = draws.at(seed, "dropout", d).random(N_ELECTRODES)
        connected = np.where(connected, fate >= DROPOUT_PER_DAY, fate < RETURN_PER_DAY)
        replaced = draws.at(seed, "turnover", d).random(generation.shape) < -np.expm1(-1 / UNIT_TAU_DAYS)
        generation = generation + onwards * replaced
        threshold = threshold + THRESHOLD_STEP * draws.at(seed, "threshold walk", d).standard_normal(N_ELECTRODES)
    shift = _stationary_walk(seed, "shift", day, 2, SHIFT_STEP_MM, SHIFT_SD_MM)
    return DayTruth(
        gain=np.exp(_stationary_walk(seed, "gain", day, N_ELECTRODES, GAIN_STEP, GAIN_SD)),
        floor=np.exp(_stationary_walk(seed, "floor", day, N_ELECTRODES, FLOOR_STEP, FLOOR_SD)),
        offset=_stationary_walk(seed, "offset", day, N_ELECTRODES, OFFSET_STEP, OFFSET_SD),
        log_threshold_walk=threshold,
        shift_mm=shift * min(1.0, SHIFT_LIMIT_MM / max(float(np.hypot(*shift)), 1e-12)),
        state_offset=0.0 if day == 0 else STATE_OFFSET_SD * float(draws.at(seed, "state", day).standard_normal()),
        connected=connected,
        unit_generation=generation,
    )


def _days(day: int) -> range:
    """Those behind day 0, up to `day`."""
    return range(1, day + 1) if day > 0 else range(-1, day - 1, -1)


def _stationary_walk(seed: int, name: str, day: int, n: int, step: float, sd: float) -> NDArray[np.float64]:
    """AR(1) over days with standard deviation `sd` and, for small steps, increments of `step`."""
    keep = 1 - 0.5 * (step / sd) ** 2
    value = sd * draws.at(seed, name, 0).standard_normal(n)
    for d in _days(day):
        value = keep * value + sd * np.sqrt(1 - keep**2) * draws.at(seed, name, d).standard_normal(n)
    return value
