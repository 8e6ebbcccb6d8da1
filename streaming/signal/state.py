"""The state of a stream: the three arrays that the kernel carries, whose parts kernel.py names; a snapshot copies them.

What never changes (filters, constants, frozen statistics) stands in them too, because a call of the kernel unboxes each
array.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streaming.signal import kernel as kn
from streaming.signal.design import BinGrid, design
from streaming.signal.normaliser import Frozen, freeze
from streaming.signal.settings import BIN_RATE_HZ, ChainSettings

Snapshot = tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]


class State:
    """The state of one stream; `begin` before the first sample. `frozen` is (median_uv, mad_uv), each (channels,)."""

    def __init__(
        self, settings: ChainSettings, grid: BinGrid, rate_hz: float, n_channels: int, frozen: Frozen | None
    ) -> None:
        self._grid, self._n_channels, self._frozen = grid, n_channels, frozen
        self._settle = int(settings.start_settle_s * rate_hz)
        self.tiles, self.lanes = kn.tiling(n_channels)
        self.padded = self.tiles * self.lanes
        self.f32 = kn.aligned((self.tiles * kn.N_TILE_ROWS * kn.MOST_LANES + kn.N_F32_ROWS * self.padded + kn.TAIL,))
        self.f64 = kn.aligned((self.tiles * kn.N_F64 * kn.MOST_LANES + kn.N_FILTERS64,), np.float64)
        self.i64 = kn.aligned((kn.N_SCALARS + kn.N_FACTS * self.padded + kn.N_K,), np.int64)
        self._write_constants(settings, rate_hz)

    def _write_constants(self, settings: ChainSettings, rate_hz: float) -> None:
        """The tails of the three arrays."""
        found, normaliser = design(settings, rate_hz), settings.normaliser
        sums = np.zeros((2, kn.LONGEST, 5), np.float32)
        sums[:, : found.sums.shape[1]] = found.sums
        self.f32[-kn.N_FILTERS32 :] = np.concatenate([found.feedback.ravel(), sums.ravel()])
        self.f64[-kn.N_FILTERS64 :] = np.concatenate([found.step.ravel(), found.carry.ravel(), [normaliser.floor_uv]])
        k = self.i64[-kn.N_K :]
        k[kn.K_CHANNELS] = self._n_channels
        k[[kn.K_NUMERATOR, kn.K_DENOMINATOR]] = self._grid.numerator, self._grid.denominator
        k[kn.K_WINDOW] = round(normaliser.window_s * BIN_RATE_HZ)
        k[kn.K_MIN_HISTORY] = round(normaliser.min_history_s * BIN_RATE_HZ)
        k[kn.K_SETTLE_START] = self._settle
        k[kn.K_DEAD_BINS] = round(settings.dead_after_s * BIN_RATE_HZ)
        k[kn.K_FROZEN] = self._frozen is not None
        k[[kn.K_SHORT, kn.K_TILES, kn.K_LANES]] = found.lengths[0], self.tiles, self.lanes
        k[kn.K_CLIP] = round(settings.clip_uv)
        k[kn.K_DIRECT] = settings.rewind_s == 0 and self._n_channels == self.padded

    def begin(self, first_sample: int, mask: NDArray[np.bool_]) -> None:
        """Everything new, from this sample on."""
        self.f32[: -kn.N_FILTERS32] = 0
        self.f64[: -kn.N_FILTERS64] = 0
        self.i64[: -kn.N_K] = 0
        at = self._grid.bin_of(first_sample)
        self.i64[[kn.NEXT_SAMPLE, kn.NEXT_BIN]] = first_sample, at
        self.i64[[kn.BIN_START, kn.BIN_END]] = self._grid.first_sample(at), self._grid.first_sample(at + 1)
        self.i64[kn.FRESH] = 1
        self.i64[kn.SETTLE_START] = first_sample + self._settle
        self._facts()[kn.MASK, : self._n_channels] = mask
        kn.weigh(self.f32, self.i64, self.padded)
        if self._frozen is not None:
            freeze(self.f64, self._n_channels, self._frozen)

    @property
    def next_sample(self) -> int:
        """The next sample to be processed."""
        return int(self.i64[kn.NEXT_SAMPLE])

    @property
    def next_bin(self) -> int:
        """The bin that is open."""
        return int(self.i64[kn.NEXT_BIN])

    @property
    def usable(self) -> NDArray[np.bool_]:
        """bool (channels,): in the mask and alive."""
        facts = self._facts()
        return np.asarray((facts[kn.MASK] != 0) & (facts[kn.DEAD] == 0))[: self._n_channels]

    @property
    def last_sample(self) -> NDArray[np.float32] | None:
        """The last sample that was processed, (padded channels,); None where the filters start anew."""
        return None if self.i64[kn.FRESH] else kn.last_sample(self.f32, self.padded)

    def set_mask(self, mask: NDArray[np.bool_]) -> None:
        row = self._facts()[kn.MASK, : self._n_channels]
        if not np.array_equal(row != 0, mask):
            row[:] = mask
            self.i64[kn.WEIGH] = 1

    def distrust(self, gap_until: int, blank_until: int) -> None:
        """Bins that begin before these samples are not vouched for."""
        self.i64[kn.SETTLE_GAP] = max(self.i64[kn.SETTLE_GAP], gap_until)
        self.i64[kn.SETTLE_BLANK] = max(self.i64[kn.SETTLE_BLANK], blank_until)

    def settling(self, sample: int) -> int:
        """Why a bin that begins with this sample would not be vouched for, blanks apart; as bits."""
        gap = kn.REASON_GAP if sample < self.i64[kn.SETTLE_GAP] else 0
        return gap | (kn.REASON_START if sample < self.i64[kn.SETTLE_START] else 0)

    def snapshot(self) -> Snapshot:
        return self.f32.copy(), self.f64.copy(), self.i64.copy()

    def restore(self, snapshot: Snapshot) -> None:
        self.f32[:], self.f64[:], self.i64[:] = snapshot

    def _facts(self) -> NDArray[np.int64]:
        return self.i64[kn.N_SCALARS : -kn.N_K].reshape(kn.N_FACTS, self.padded)
