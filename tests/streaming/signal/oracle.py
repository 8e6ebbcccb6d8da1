"""The signal chain in plain NumPy and SciPy, float64, whole recording at once: what the kernel is held against."""

from __future__ import annotations

import numpy as np
from scipy import signal

from streaming.signal.settings import ChainSettings


def bin_of(n_samples: int, rate_hz: float) -> np.ndarray:
    return np.array([int(1000 * i // rate_hz) for i in range(n_samples)])


def bridged(samples: np.ndarray, blanks: list[tuple[int, int]]) -> np.ndarray:
    """Straight lines from the last good sample before each [start, end) to the first good one behind it."""
    samples = samples.astype(np.float64)
    for start, end in blanks:
        anchor = samples[start - 1] if start > 0 else samples[end]
        along = (np.arange(start, end) - start + 1) / (end - start + 1)
        samples[start:end] = anchor + along[:, None] * (samples[end] - anchor)
    return samples


def envelope(
    samples: np.ndarray,
    rate_hz: float,
    settings: ChainSettings | None = None,
    blanks: list[tuple[int, int]] | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """(bins, channels), whole bins only."""
    settings = settings or ChainSettings()
    x = bridged(samples, blanks or [])
    mask = np.ones(x.shape[1], bool) if mask is None else mask
    if mask.sum() > 1:  # one channel alone is not referenced to itself
        x = x - x[:, mask].mean(axis=1, keepdims=True)
    x = np.clip(x, -settings.clip_uv, settings.clip_uv)
    band = signal.butter(4, settings.band_hz, "bandpass", fs=rate_hz, output="sos")
    rest = signal.sosfilt_zi(band)[:, :, None] * x[0]
    x, _ = signal.sosfilt(band, x, axis=0, zi=rest)
    low = signal.butter(4, settings.lowpass_hz, "lowpass", fs=rate_hz, output="sos")
    x = signal.sosfilt(low, np.abs(x), axis=0)
    bins = bin_of(len(x) + 1, rate_hz)
    whole, bins = bins[-1], bins[:-1]
    edges = np.searchsorted(bins, np.arange(whole + 1))
    return np.add.reduceat(x[: edges[-1]], edges[:-1], axis=0) / np.diff(edges)[:, None]


def rolling_z(values: np.ndarray, ok: np.ndarray, settings: ChainSettings) -> np.ndarray:
    """z of each bin against the trailing window, itself included; 0 where it is not vouched for; `ok` as `values`."""
    normaliser = settings.normaliser
    window, least = round(normaliser.window_s * 1000), round(normaliser.min_history_s * 1000)
    z = np.zeros_like(values)
    for channel in range(values.shape[1]):
        for at in np.flatnonzero(ok[:, channel]):
            first = max(0, at + 1 - window)
            past = values[first : at + 1, channel][ok[first : at + 1, channel]]
            if len(past) >= least:
                z[at, channel] = (past[-1] - past.mean()) / max(past.std(), normaliser.floor_uv)
    return z


def rolling_robust_z(values: np.ndarray, settings: ChainSettings) -> np.ndarray:
    """The same with median and MAD, every bin good."""
    normaliser = settings.normaliser
    window, least = round(normaliser.window_s * 1000), round(normaliser.min_history_s * 1000)
    z = np.zeros(values.shape)
    for at in range(least - 1, len(values)):
        past = values[max(0, at + 1 - window) : at + 1].astype(np.float64)
        centre = np.median(past, axis=0)
        mad = np.median(np.abs(past - centre), axis=0)
        z[at] = (past[-1] - centre) / np.maximum(1.4826 * mad, normaliser.floor_uv)
    return z
