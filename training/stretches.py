"""Bins kept as runs: which bins, and which channels are usable at which bin, in the memory of the interruptions.

A day of recording has 86 million bins and a few hundred interruptions. A list of the bins at which a window may begin
would take 700 MB of it, a flag for each bin and channel 8 GB; the runs take some kilobytes, whatever the length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Stretches:
    """Whole numbers in rising order, as runs [first, end): what `len`, `[n]` and `np.asarray` make of a sorted array,
    without the array. `firsts`, `ends` (runs,) int64, disjoint, none empty."""

    firsts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @cached_property
    def _before(self) -> NDArray[np.int64]:
        """How many numbers lie before each run, and in all of them."""
        return np.concatenate([[0], np.cumsum(self.ends - self.firsts)])

    def __len__(self) -> int:
        return int(self._before[-1])

    def __getitem__(self, n: Any) -> Any:
        """The n-th number; of an array of indices, an array.

        Raises:
            IndexError: there are not so many.
        """
        n = np.asarray(n)
        if ((n < -len(self)) | (n >= len(self))).any():
            raise IndexError(f"found index {n}, expected less than {len(self)}")
        n = np.where(n < 0, n + len(self), n)
        run = np.searchsorted(self._before, n, side="right") - 1
        return self.firsts[run] + n - self._before[run]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[np.arange(len(self))] if len(self) else np.empty(0, np.int64), dtype)

    def contains(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of `numbers` are in some run."""
        run = np.searchsorted(self.firsts, numbers, side="right") - 1
        return (run >= 0) & (numbers < self.ends[run]) if len(self.firsts) else np.zeros(np.shape(numbers), bool)


@dataclass(frozen=True, eq=False)
class Usable:
    """Which channels are usable at which bin: run r holds `rows[r]` from bin `firsts[r]` to the next run's. Slices and
    `np.asarray` give the plain (bins, channels) bool array. `firsts` begins with 0 where there are bins at all."""

    firsts: NDArray[np.int64]
    rows: NDArray[np.bool_]
    bins: int

    @classmethod
    def of(cls, plain: NDArray[np.bool_]) -> Usable:
        """The runs of a plain array (bins, channels)."""
        runs = UsableRuns(plain.shape[1])
        runs.push(plain)
        return runs.finish()

    @property
    def shape(self) -> tuple[int, int]:
        return self.bins, self.rows.shape[1]

    def __len__(self) -> int:
        return self.bins

    def __getitem__(self, key: Any) -> NDArray[Any]:
        bins, *channels = key if isinstance(key, tuple) else (key,)
        wanted = np.arange(self.bins)[bins] if not isinstance(bins, slice) else np.arange(*bins.indices(self.bins))
        found = self.rows[np.searchsorted(self.firsts, wanted, side="right") - 1]
        return found[(..., *channels)] if channels else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)

    def only(self, channels: NDArray[np.bool_]) -> Usable:
        """Of these channels (channels,) alone; the others never."""
        return Usable(self.firsts, self.rows & channels, self.bins)

    def any(self, axis: int = 1) -> NDArray[np.bool_]:
        return self._each(self.rows.any(axis=1)) if axis == 1 else self.rows.any(axis=0)

    def sum(self, axis: int = 0) -> NDArray[np.int64]:
        """Usable bins of each channel (axis 0), or usable channels of each bin."""
        return self._lengths @ self.rows if axis == 0 else self._each(self.rows.sum(axis=1))

    def vouched_bins(self) -> int:
        """Bins in which at least one channel is usable."""
        return int(self._lengths @ self.rows.any(axis=1))

    def throughout(self, first_bins: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
        """The channels usable in every bin of the windows that start there, (n, channels)."""
        first = np.searchsorted(self.firsts, first_bins, side="right") - 1
        end = np.searchsorted(self.firsts, np.asarray(first_bins) + length, side="left")
        found = self.rows[first]
        for n in np.flatnonzero(end - first > 1):
            found[n] = self.rows[first[n] : end[n]].all(axis=0)
        return found

    def windows(self, length: int, first: int = 0, end: int | None = None) -> Stretches:
        """First bins of all windows inside [first, end) that hold no bin without a usable channel."""
        good = np.concatenate([[False], self.rows.any(axis=1), [False]])
        edges = np.append(self.firsts, self.bins)
        begins, stops = edges[np.flatnonzero(good[1:] & ~good[:-1])], edges[np.flatnonzero(~good[1:] & good[:-1])]
        begins = np.maximum(begins, first)
        stops = np.minimum(stops, self.bins if end is None else end) - length + 1
        return Stretches(begins[stops > begins], stops[stops > begins])

    @property
    def _lengths(self) -> NDArray[np.int64]:
        return np.diff(self.firsts, append=self.bins)

    def _each(self, of_runs: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(of_runs, self._lengths)


class UsableRuns:
    """Makes `Usable` of blocks (bins, channels) as they come."""

    def __init__(self, channels: int) -> None:
        self._last = np.zeros((0, channels), bool)  # the newest row, once there is one
        self._firsts: list[NDArray[np.int64]] = []
        self._rows = [self._last]
        self._bins = 0

    def push(self, block: NDArray[np.bool_]) -> None:
        if not len(block):
            return
        joined = np.concatenate([self._last, block])
        changed = np.flatnonzero((joined[1:] != joined[:-1]).any(axis=1)) + 1 - len(self._last)
        if not len(self._last):
            changed = np.concatenate([[0], changed])
        self._firsts.append(self._bins + changed)
        self._rows.append(block[changed])
        self._last = block[-1:].copy()
        self._bins += len(block)

    def finish(self) -> Usable:
        firsts = np.concatenate([np.empty(0, np.int64), *self._firsts]).astype(np.int64)
        return Usable(firsts, np.concatenate(self._rows), self._bins)
