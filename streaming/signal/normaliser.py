"""Envelope in, z values out: the chain's last step by itself, for cached MUA and for fitting frozen statistics.

The same compiled function as in the chain, so training on a cache sees the very numbers that the service sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.errors import OperatorFault
from streaming.signal import kernel as kn
from streaming.signal.robust import RobustWindow
from streaming.signal.settings import BIN_RATE_HZ, NormaliserSettings

BLOCK_BINS = 1000

Frozen = tuple[NDArray[np.float64], NDArray[np.float64]]  # median_uv, mad_uv, each (channels,)


@dataclass(frozen=True, slots=True)
class Statistics:
    """Median and MAD of each channel, microvolts, float64 (channels,); NaN where a channel was never usable."""

    median_uv: NDArray[np.float64]
    mad_uv: NDArray[np.float64]


def fit_statistics(envelope_uv: NDArray[np.float32], usable: NDArray[np.bool_]) -> Statistics:
    """Median and MAD of a calibration block, for `robust_frozen`, or of the training part of a session, for
    `robust_session` (offline only: never of trials that are tested on). Both (bins, channels)."""
    median, mad = np.full(envelope_uv.shape[1], np.nan), np.full(envelope_uv.shape[1], np.nan)
    for channel in range(envelope_uv.shape[1]):
        values = envelope_uv[usable[:, channel], channel].astype(np.float64)
        if len(values):
            median[channel] = np.median(values)
            mad[channel] = np.median(np.abs(values - median[channel]))
    return Statistics(median, mad)


def frozen_statistics(settings: NormaliserSettings, n_channels: int, found: Frozen | None) -> Frozen | None:
    """The statistics that a normaliser of this kind is given; None for the kinds that make their own.

    Raises:
        OperatorFault: none for these channels where the kind needs them.
    """
    if settings.kind in ("rolling_z", "robust_trailing"):
        return None
    if found is None or any(np.shape(part) != (n_channels,) for part in found):
        raise OperatorFault(
            f"normaliser {settings.kind}: found no median and MAD for {n_channels} channels; fit them on a calibration "
            "block first"
        )
    return found


def freeze(f64: NDArray[np.float64], n_channels: int, frozen: Frozen) -> None:
    """Write centre and divisor, 1.4826 MAD, of each channel into the kernel's float64 state."""
    tiles, lanes = kn.tiling(n_channels)
    rows = f64[: tiles * kn.N_F64 * kn.MOST_LANES].reshape(tiles, kn.N_F64, kn.MOST_LANES)
    for row, values in ((kn.CENTRE, frozen[0]), (kn.SCALE, 1.4826 * frozen[1])):
        padded = np.pad(values, (0, tiles * lanes - n_channels), constant_values=1.0)
        rows[:, row, :lanes] = padded.reshape(tiles, lanes)


class Normaliser:
    """Causal, and the same for any cutting. `frozen` is (median_uv, mad_uv) for the kinds that need it.

    Raises:
        OperatorFault: a frozen kind without its statistics.
    """

    def __init__(
        self,
        settings: NormaliserSettings,
        n_channels: int,
        frozen: Frozen | None = None,
    ) -> None:
        self.n_channels = n_channels
        self._floor_uv = np.float32(settings.floor_uv)
        tiles, lanes = kn.tiling(n_channels)
        padded = tiles * lanes
        window, least = (round(seconds * BIN_RATE_HZ) for seconds in (settings.window_s, settings.min_history_s))
        self._rings = kn.aligned((window + BLOCK_BINS, kn.N_PLANES, padded))
        self._f64 = kn.aligned((tiles * kn.N_F64 * kn.MOST_LANES,), np.float64)
        self._k = np.zeros(kn.N_K, np.int64)
        self._k[[kn.K_TILES, kn.K_LANES, kn.K_WINDOW, kn.K_MIN_HISTORY]] = tiles, lanes, window, least
        self._next_bin = 0
        self._robust = None
        if settings.kind == "robust_trailing":
            self._robust = RobustWindow(window, least, settings.floor_uv, padded, 0)
        if (statistics := frozen_statistics(settings, n_channels, frozen)) is not None:
            self._k[kn.K_FROZEN] = 1
            freeze(self._f64, n_channels, statistics)

    def push(
        self, envelope_uv: NDArray[np.float32], valid: NDArray[np.bool_], usable: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """z (bins, channels) of the next bins, 0 where it is not vouched for; `valid` (bins,), `usable` as envelope."""
        z = np.empty(envelope_uv.shape, np.float32)
        ok = (usable & valid[:, None]).astype(np.float32)
        # what is not vouched for may be NaN in a file, and 0 times NaN would poison the sums
        envelope = np.where(ok > 0, envelope_uv, np.float32(0)).astype(np.float32)
        for start in range(0, len(z), BLOCK_BINS):
            end = min(start + BLOCK_BINS, len(z))
            slots = np.arange(self._next_bin, self._next_bin + end - start) % len(self._rings)
            self._rings[slots, kn.ENVELOPE, : self.n_channels] = envelope[start:end]
            self._rings[slots, kn.OK, : self.n_channels] = ok[start:end]
            if self._robust is None:
                _normalise(self._f64, self._rings, self._next_bin, end - start, self._k, self._floor_uv)
            else:
                self._robust.advance(self._rings, self._next_bin + end - start)
            z[start:end] = np.nan_to_num(self._rings[slots, kn.Z, : self.n_channels])
            self._next_bin += end - start
        return z


@njit(nogil=True, cache=True)
def _normalise(f64, rings, first, n, k, floor):  # type: ignore[no-untyped-def]
    for at in range(first, first + n):
        kn.normalise(f64, rings, at, k, floor)
