"""What the stimulator's current itself does to the amplifiers: nothing neural, and up to a hundred millivolts.

Each pulse is cathodic first (170 µs, 60 µs gap, 170 µs), falls between samples, and leaves tails. The stimulated
electrode saturates and recovers with 1 and 8 ms; the others see 0.5-8 mV at 81 µA, falling with distance, with tails of
0.3 and 3 ms, and a slow drift of the electrode's potential. The ADC clips, and the analog filter smooths, afterwards.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from streaming.participant import draws
from streaming.participant.anatomy import Anatomy
from streaming.participant.settings import ParticipantSettings
from streaming.participant.stimulation import Delivered

FOLLOWED_S = 0.6
TAIL = ((0.03, 0.3e-3), (0.006, 3e-3), (0.0003, 100e-3))  # share of the amplitude and time constant, other electrodes
TAIL_OWN = ((0.10, 1e-3), (0.02, 8e-3), (0.0003, 100e-3))  # the stimulated electrode; without fast settle it is
TAIL_OWN_SETTLED = ((0.01, 1e-3), (0.001, 8e-3), (0.0003, 100e-3))  # beyond 3 z until 5 ms into the decoding window
JITTER_SAMPLES = 0.1


def artifact(
    settings: ParticipantSettings, anatomy: Anatomy, delivered: Delivered
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Waveforms (n, 2) from the onset sample on, and their size in µV at each electrode (2, 96).

    Column 0 is seen by all other electrodes, column 1 by the stimulated one. The size depends on the current and the
    electrodes only, never on the percept.
    """
    stimulation, rate = delivered.stimulation, settings.rate_hz
    electrode, current = stimulation.electrode or 1, stimulation.current_ua or 0.0
    rng = draws.at(settings.seed, "artifact", settings.day, settings.session, delivered.number)
    pulses = stimulation.pulses or 1
    period = rate / (stimulation.frequency_hz or 300.0)
    start = np.arange(pulses) * period + rng.uniform(0, 1) + JITTER_SAMPLES * rng.uniform(0, 1, pulses)
    phase = (stimulation.phase_us or 170.0) * 1e-6 * rate
    gap = (stimulation.interphase_us or 60.0) * 1e-6 * rate
    n = round(FOLLOWED_S * rate)
    pulse = _boxes(start + phase + gap, phase, n) - _boxes(start, phase, n)
    end = start + 2 * phase + gap
    own_tail = TAIL_OWN_SETTLED if settings.fast_settle else TAIL_OWN
    wave = np.stack([pulse + _tails(end, TAIL, rate, n), pulse + _tails(end, own_tail, rate, n)], axis=1)

    own = electrode - 1
    coupling = draws.at(settings.seed, "coupling", own)
    millivolts = np.clip(2 * np.exp(0.8 * coupling.standard_normal(len(anatomy.scale_uv))), 0.5, 8)
    size = 1000 * millivolts * current / 81 / (1 + anatomy.distance_mm(electrode) / 0.8)
    size[own] = 0
    size_own = np.zeros_like(size)
    size_own[own] = 1000 * coupling.uniform(20, 100) * min(1.0, current / 20)
    return wave.astype(np.float32), np.stack([size, size_own]).astype(np.float32)


def _boxes(start: NDArray[np.float64], width: float, n: int) -> NDArray[np.float64]:
    """Boxes of height 1, each sample the mean over its interval: what an integrating converter sees. (n,)."""
    edges = np.arange(n + 1)
    covered = np.zeros(n + 1)
    for s in start:
        covered += np.clip(edges - s, 0, width)
    return np.asarray(np.diff(covered))


def _tails(
    end: NDArray[np.float64], parts: tuple[tuple[float, float], ...], rate_hz: float, n: int
) -> NDArray[np.float64]:
    """Exponentials that begin at the fractional samples `end`, (n,)."""
    out = np.zeros(n)
    first = np.ceil(end).astype(int)
    for share, tau_s in parts:
        impulses = np.zeros(n)
        np.add.at(impulses, first[first < n], share * np.exp(-(first - end) / (tau_s * rate_hz))[first < n])
        out += lfilter([1.0], [1.0, -np.exp(-1 / (tau_s * rate_hz))], impulses)
    return out
