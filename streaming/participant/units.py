"""Neurons near the electrodes: 0 to 3 each. Their rates follow the latent drive; their waveforms are the spikes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streaming.participant import draws
from streaming.participant.anatomy import Anatomy
from streaming.participant.drift import UNITS_PER_ELECTRODE
from streaming.participant.settings import ParticipantSettings

TEMPLATE_S = 1.6e-3
SUBSAMPLES = 4  # a spike falls between samples; its waveform is kept at this many offsets
REFRACTORY_S = 2e-3
BURST_LOSS, BURST_TAU_S = 0.2, 8e-3  # amplitude lost right after a spike, and how fast it returns
SILENT_S = -1.0
RATE_GAIN = 4.0  # ln(rate) per unit of drive


@dataclass(frozen=True, slots=True)
class Units:
    """Neurons by index: 0-based electrode, ln of the resting rate in Hz, waveforms (U, 4, template samples) in µV."""

    electrode: NDArray[np.int64]
    log_rate: NDArray[np.float64]
    template_uv: NDArray[np.float32]

    def rates_hz(self, drive: NDArray[np.float32]) -> NDArray[np.float64]:
        """λ of each unit, (n, U), for a drive of (n, 96)."""
        return np.asarray(np.exp(self.log_rate + RATE_GAIN * drive[:, self.electrode]))


def units(settings: ParticipantSettings, anatomy: Anatomy) -> Units:
    """The neurons of the day: a slot whose neuron was replaced holds another one."""
    electrode, log_rate, template = [], [], []
    for e, generations in enumerate(anatomy.truth.unit_generation):
        n = draws.at(settings.seed, "units", e).choice(UNITS_PER_ELECTRODE + 1, p=(0.3, 0.4, 0.2, 0.1))
        for slot in range(n):
            rng = draws.at(settings.seed, "unit", e, slot, int(generations[slot]))
            peak_uv = np.clip(70 * np.exp(0.4 * rng.standard_normal()), 40, 250)
            electrode.append(e)
            log_rate.append(np.log(6.0) + 0.6 * rng.standard_normal())
            template.append(-peak_uv * _waveform(rng, settings.rate_hz))
    return Units(np.array(electrode), np.array(log_rate), np.array(template, dtype=np.float32))


def _waveform(rng: np.random.Generator, rate_hz: int) -> NDArray[np.float64]:
    """A trough of height 1 with its shoulders, (4, samples): row k begins k/4 of a sample before the first sample."""
    n = round(TEMPLATE_S * rate_hz)
    ms = 1000 * (np.arange(n) - np.arange(SUBSAMPLES)[:, None] / SUBSAMPLES) / rate_hz
    trough_ms, width_ms = 0.45, rng.uniform(0.08, 0.14)
    late_ms, early = rng.uniform(0.30, 0.45), rng.uniform(0.0, 0.25)
    shape = (
        np.exp(-0.5 * ((ms - trough_ms) / width_ms) ** 2)
        - rng.uniform(0.2, 0.45) * np.exp(-0.5 * ((ms - trough_ms - late_ms) / (1.8 * width_ms)) ** 2)
        - early * np.exp(-0.5 * ((ms - trough_ms + 0.25) / width_ms) ** 2)
    )
    return np.asarray(shape)


@njit(cache=True, nogil=True)
def fire(
    key: np.uint64,
    first_bin: int,
    rates_hz: NDArray[np.float64],
    samples_per_bin: int,
    last_s: NDArray[np.float64],
    electrode: NDArray[np.int64],
    template_uv: NDArray[np.float32],
    out: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Draw the spikes of some bins and add their waveforms to `out` (samples + template, 96).

    At most one spike in a bin, so a rate above 1000 Hz is one; `last_s` (U,) is each unit's newest spike in seconds,
    brought up to date. Returns spike times in samples (fractional, absolute) and units, in order of bins.
    """
    n_bins, n_units = rates_hz.shape
    rate = 1000 * samples_per_bin
    times = np.empty(n_bins * n_units)
    which = np.empty(n_bins * n_units, np.int32)
    n = 0
    for b in range(n_bins):
        for u in range(n_units):
            probability = min(rates_hz[b, u] * 1e-3, 1.0)
            draw = draws.uniform(key, (first_bin + b) * n_units + u)
            if draw >= probability:
                continue
            within = draw / probability * samples_per_bin  # given that it fired, uniform in the bin
            sample = (first_bin + b) * samples_per_bin + within
            since_s = sample / rate - last_s[u]
            if since_s < REFRACTORY_S:
                continue
            last_s[u] = sample / rate
            size = np.float32(1 - BURST_LOSS * np.exp(-since_s / BURST_TAU_S))
            steps = int(np.ceil((b * samples_per_bin + within) * SUBSAMPLES))
            start = (steps + SUBSAMPLES - 1) // SUBSAMPLES
            waveform = template_uv[u, start * SUBSAMPLES - steps]
            e = electrode[u]
            for i in range(min(waveform.size, out.shape[0] - start)):
                out[start + i, e] += size * waveform[i]
            times[n] = sample
            which[n] = u
            n += 1
    return times[:n].copy(), which[:n].copy()
