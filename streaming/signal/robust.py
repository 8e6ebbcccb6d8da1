"""Exact rolling median and MAD, every bin, over a trailing window.

Each channel keeps its window sorted. A new value replaces the leaving one by one move of the memory between their two
places (memmove: a few hundred values a nanosecond-scale copy). The MAD needs no second sort: around the median, the
distances |x − median| are two sorted runs, left and right, and their middle element is found by bisection. `np.median`
twice costs 400 times as much (docs/performance.md).
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from streaming.signal.kernel import ENVELOPE, NAN, OK, Z


@intrinsic
def move(typingctx, values, to, start, count):  # type: ignore[no-untyped-def]
    """memmove inside one float32 row: values[to : to+count] = values[start : start+count], overlap allowed."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array = cgutils.create_struct_proxy(signature.args[0])(context, builder, value=arguments[0])
        destination = builder.gep(array.data, [arguments[1]])
        origin = builder.gep(array.data, [arguments[2]])
        cgutils.raw_memmove(builder, destination, origin, arguments[3], ir.Constant(ir.IntType(64), 4))
        return context.get_dummy_value()

    return types.void(values, types.intp, types.intp, types.intp), generate


@njit(nogil=True, cache=True)
def _place(row, n, value):  # type: ignore[no-untyped-def]
    """How many of the n sorted values are below `value`."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if row[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@njit(nogil=True, cache=True)
def _insert(row, n, value):  # type: ignore[no-untyped-def]
    at = _place(row, n, value)
    move(row, at + 1, at, n - at)
    row[at] = value


@njit(nogil=True, cache=True)
def _remove(row, n, value):  # type: ignore[no-untyped-def]
    at = _place(row, n, value)
    move(row, at, at + 1, n - at - 1)


@njit(nogil=True, cache=True)
def _replace(row, n, old, new):  # type: ignore[no-untyped-def]
    gone, at = _place(row, n, old), _place(row, n, new)
    if at > gone:
        at -= 1
        move(row, gone, gone + 1, at - gone)
    else:
        move(row, at + 1, at, gone - at)
    row[at] = new


@njit(nogil=True, cache=True)
def _kth_distance(row, n, centre, split, k):  # type: ignore[no-untyped-def]
    """The k-th smallest (from 0) of |row − centre|; `split` values are below the centre.

    Left distances are centre − row[split−1−i], right ones row[split+j] − centre, both rising; bisect on how many of the
    k+1 smallest come from the left.
    """
    low, high = max(0, k + 1 - (n - split)), min(k + 1, split)
    while low < high:
        left = (low + high) // 2
        right = k + 1 - left
        # are too few taken from the left: is the next left one smaller than the last right one?
        if right > 0 and centre - row[split - 1 - left] < row[split + right - 1] - centre:
            low = left + 1
        else:
            high = left
    right = k + 1 - low
    best = np.float64(0)
    if low > 0:
        best = centre - row[split - low]
    if right > 0:
        best = max(best, row[split + right - 1] - centre)
    return best


@njit(nogil=True, cache=True)
def median_and_mad(row, n):  # type: ignore[no-untyped-def]
    """(median, MAD) of n sorted float32 values, as np.median gives them, in float64."""
    half = n // 2
    even = n % 2 == 0
    centre = np.float64(row[half])
    if even:
        centre = (np.float64(row[half - 1]) + np.float64(row[half])) / 2
    split = _place(row, n, centre)
    mad = _kth_distance(row, n, centre, split, half)
    if even:
        mad = (mad + _kth_distance(row, n, centre, split, half - 1)) / 2
    return centre, mad


@njit(nogil=True, cache=True)
def _advance(rings, values, counts, at, window, min_history, floor):  # type: ignore[no-untyped-def]
    n_slots, padded = rings.shape[0], rings.shape[2]
    slot, leaving = at % n_slots, (at - window) % n_slots
    for c in range(padded):
        row, n = values[c], counts[c]
        comes, goes = rings[slot, OK, c] > 0, rings[leaving, OK, c] > 0
        new, old = rings[slot, ENVELOPE, c], rings[leaving, ENVELOPE, c]
        if comes and goes:
            _replace(row, n, old, new)
        elif comes:
            _insert(row, n, new)
            n += 1
        elif goes:
            _remove(row, n, old)
            n -= 1
        counts[c] = n
        rings[slot, Z, c] = NAN
        if comes and n >= min_history:
            centre, mad = median_and_mad(row, n)
            rings[slot, Z, c] = (new - centre) / max(1.4826 * mad, floor)


@njit(nogil=True, cache=True)
def _undo(rings, values, counts, at, window):  # type: ignore[no-untyped-def]
    n_slots, padded = rings.shape[0], rings.shape[2]
    slot, leaving = at % n_slots, (at - window) % n_slots
    for c in range(padded):
        if rings[slot, OK, c] > 0:
            _remove(values[c], counts[c], rings[slot, ENVELOPE, c])
            counts[c] -= 1
        if rings[leaving, OK, c] > 0:
            _insert(values[c], counts[c], rings[leaving, ENVELOPE, c])
            counts[c] += 1


class RobustWindow:
    """The sorted windows of all channels. They are sets, so undoing a bin is exact: no snapshot is needed."""

    def __init__(self, window: int, min_history: int, floor_uv: float, padded: int, first_bin: int) -> None:
        self._window, self._min_history, self._floor_uv = window, max(min_history, 1), floor_uv
        self._values = np.zeros((padded, window + 1), np.float32)
        self._counts = np.zeros(padded, np.int64)
        self._next_bin = first_bin

    def advance(self, rings: NDArray[np.float32], end_bin: int) -> None:
        """Write z of the bins up to `end_bin` into the rings."""
        for at in range(self._next_bin, end_bin):
            _advance(rings, self._values, self._counts, at, self._window, self._min_history, self._floor_uv)
        self._next_bin = max(self._next_bin, end_bin)

    def rewind(self, rings: NDArray[np.float32], to_bin: int) -> None:
        """Take back the bins from `to_bin` on, while the rings still hold them as they were."""
        while self._next_bin > to_bin:
            self._next_bin -= 1
            _undo(rings, self._values, self._counts, self._next_bin, self._window)
