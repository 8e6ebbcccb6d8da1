"""Where the electrodes sit and what each of them hears: the map, the loadings, the thresholds.

Loadings are draws of smooth random fields over the cortex, evaluated where the electrodes are today, so that a shift of
the array changes them as it would. Envelopes are fractions of an electrode's resting envelope (8 µV in the median).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.chunk import ArrayMap
from streaming.participant import draws
from streaming.participant.drift import DayTruth, day_truth
from streaming.participant.latent import N_RHYTHM
from streaming.participant.settings import N_ELECTRODES, ParticipantSettings

Array = NDArray[np.float64]

PITCH_MM = 0.4
GRID = 10
FIELD_LENGTH_MM = 1.0
NUGGET = 0.2  # share of a loading's variance that is the electrode's own
RESTING_UV = 8.0  # median resting envelope
WAVE_SPEED_MM_S = (200.0, 400.0)

# Standard deviations as fractions of the resting envelope. With NOISE they put 15-30 % of a bin's variance and 60-80 %
# of a 128 ms mean's into the latent part; STATE makes the window's reliability about s near 0.5 (tests/…/observers).
NOISE = 0.15
RHYTHM = (0.03, 0.03, 0.03)  # the pairs at 2, 5 and 10 Hz
WAVE = 0.05  # the pair at 25 Hz
STATE = {"linear": 0.004, "mixed": 0.003, "power": 0.0}
STATE_ON_WAVE = {"linear": 0.0, "mixed": 0.3, "power": 0.6}
EVOKED = 0.8
IGNITION = 0.02


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The participant on one day, in one session; arrays by electrode, in id order."""

    column_row: NDArray[np.int64]  # (96, 2) place on the grid, 0-based
    position_mm: Array  # (96, 2) of the grid place; the array's shift of the day is in the loadings
    resting_uv: Array  # resting envelope with today's gain and offset
    scale_uv: Array  # microvolts per unit of drive: resting envelope times today's gain
    noise_uv: Array  # standard deviation of the envelope's noise
    rhythm: Array  # C, (96, 8)
    wave: Array  # P in the columns of the 25 Hz pair, (96, 8)
    state: Array  # c
    state_on_wave: float  # a(s) = exp(state_on_wave · s)
    ignition: Array  # w
    threshold_ua: Array  # T today
    staircase_ua: Array  # what today's staircase found: T with an error
    truth: DayTruth

    @property
    def map(self) -> ArrayMap:
        labels = tuple(f"elec{i + 1}" for i in range(N_ELECTRODES))
        return ArrayMap(labels, tuple((float(c), float(r)) for c, r in self.column_row))

    def distance_mm(self, electrode: int) -> Array:
        """From each electrode to `electrode` (1-based), (96,)."""
        away = self.position_mm - self.position_mm[electrode - 1]
        return np.asarray(np.hypot(away[:, 0], away[:, 1]))


def anatomy(settings: ParticipantSettings) -> Anatomy:
    """Everything about the participant of `settings` that stands still during a session."""
    seed, code = settings.seed, settings.state_code
    truth = day_truth(seed, settings.day)
    column_row = _wiring(seed)
    position = PITCH_MM * column_row.astype(np.float64)
    cortex = position + truth.shift_mm
    resting = RESTING_UV * np.exp(0.15 * draws.at(seed, "resting").standard_normal(N_ELECTRODES))
    phase = _wave_phase(settings, cortex)
    rhythm = np.zeros((N_ELECTRODES, N_RHYTHM))
    for pair, size in enumerate(RHYTHM[:2]):
        for axis in range(2):
            rhythm[:, 2 * pair + axis] = size * smooth_field(cortex, seed, "rhythm", pair, axis)
    rhythm[:, 4:6] = RHYTHM[2] * smooth_field(cortex, seed, "alpha")[:, None] * phase(10.0)
    wave = np.zeros_like(rhythm)
    wave[:, 6:8] = WAVE * np.abs(1 + 0.3 * smooth_field(cortex, seed, "wave"))[:, None] * phase(25.0)
    log_threshold = settings.threshold_spread * draws.at(seed, "threshold").standard_normal(N_ELECTRODES)
    threshold = settings.median_threshold_ua * np.exp(log_threshold + truth.log_threshold_walk)
    staircase = draws.at(seed, "staircase", settings.day, settings.session).standard_normal(N_ELECTRODES)
    return Anatomy(
        column_row=column_row,
        position_mm=position,
        resting_uv=truth.gain * resting * (1 + truth.offset),
        scale_uv=truth.gain * resting,
        noise_uv=NOISE * resting * truth.gain * truth.floor,
        rhythm=rhythm,
        wave=wave,
        state=STATE[code] * smooth_field(cortex, seed, "state"),
        state_on_wave=STATE_ON_WAVE[code],
        ignition=IGNITION * smooth_field(cortex, seed, "ignition"),
        threshold_ua=threshold,
        staircase_ua=threshold * np.exp(0.1 * staircase),
        truth=truth,
    )


def smooth_field(position_mm: Array, *path: int | str) -> Array:
    """A draw, with unit variance, of a Gaussian process of length 1 mm plus each electrode's own part, (96,).

    128 random Fourier features (Rahimi and Recht 2007) make it a function of place: it can be asked anywhere.
    """
    rng = draws.at("field", *path)
    n = 128
    frequency = rng.standard_normal((n, 2)) / FIELD_LENGTH_MM
    angle = rng.uniform(0, 2 * np.pi, n)
    smooth = np.sqrt(2 / n) * np.cos(position_mm @ frequency.T + angle) @ rng.standard_normal(n)
    return np.asarray(np.sqrt(1 - NUGGET) * smooth + np.sqrt(NUGGET) * rng.standard_normal(len(position_mm)))


def _wiring(seed: int) -> NDArray[np.int64]:
    """Grid place (column, row) of electrode 1 … 96: a permutation of the 10 × 10 grid without its corners."""
    corners = {0, GRID - 1, GRID * (GRID - 1), GRID * GRID - 1}
    places = np.array([[i % GRID, i // GRID] for i in range(GRID * GRID) if i not in corners])
    return draws.at(seed, "wiring").permutation(places)


class _wave_phase:
    """cos and sin of a plane wave's phase at each electrode, (96, 2), by frequency. The direction is the session's."""

    def __init__(self, settings: ParticipantSettings, cortex_mm: Array) -> None:
        rng = draws.at(settings.seed, "wave direction", settings.day, settings.session)
        direction, speed = rng.uniform(0, 2 * np.pi), rng.uniform(*WAVE_SPEED_MM_S)
        self._delay_s = cortex_mm @ np.array([np.cos(direction), np.sin(direction)]) / speed

    def __call__(self, frequency_hz: float) -> Array:
        angle = 2 * np.pi * frequency_hz * self._delay_s
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
