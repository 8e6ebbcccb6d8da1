"""The fused kernel: raw samples to envelope bins to z values, for all channels at once, allocating nothing.

Layout. Channels are padded to `tiles × lanes`, lanes a multiple of 16. Inside a tile the rows of state stand a constant
MOST_LANES apart, so that the compiler proves that they do not overlap; the cascade itself is in lanes.py. Arrays begin
on 64-byte lines (a third faster, measured).
All that a stream carries stands in three arrays, so that a snapshot is three copies: `f32` (filters), `f64` (low-pass,
normaliser), `i64` (counts, health of each channel).

Bits. Every operation runs over channels and not over time, in the same order for every sample, so any cutting of the
same samples gives the same bits. `fastmath` allows contraction and reordering, never "no NaN": a sample that is not
finite must be seen.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streaming.signal.lanes import LANES, filter_lanes

FAST = {"contract", "reassoc", "nsz", "arcp"}
EXACT = {"nsz"}  # where two functions must give the same bits
MOST_LANES = 128
SEGMENT = 64  # rows of scratch: longer than the longest bin (41 samples at 40 kHz)

# i64: scalars, then one row of `padded` for each channel fact
NEXT_SAMPLE, NEXT_BIN, BIN_START, BIN_END, FRESH, SETTLE_START, SETTLE_BLANK, SETTLE_GAP = range(8)
WEIGH, ANY_BAD, ALL_MOVED, TROUBLE, HISTORY, WHOLE_RUN = 8, 9, 10, 11, 12, 13
N_SCALARS = 16
MASK, DEAD, STILL_RUN, LIVE_RUN, SETTLE, BAD, MOVED = range(7)  # channel facts
N_FACTS = 7
# f64 rows
LOW0, SUM1, SUM2, COUNT, CENTRE, SCALE = 0, 4, 5, 6, 7, 8
N_F64 = 9
# f32: tiles of 13 rows × lanes (8 band-pass states, 5 sums), then rows of `padded`
N_TILE_ROWS = 13
N_F32_ROWS = 3  # weight in the reference, last watched value, last sample (held where one is not finite)
# rings[bin, plane, channel]: what one bin needs lies together; Z is NaN where it is not vouched for
ENVELOPE, Z, OK = range(3)
N_PLANES = 3
# reasons why a bin is not vouched for
REASON_START, REASON_BLANK, REASON_GAP = 1, 2, 4
REASON_HISTORY = 8  # the envelope is good, but the normaliser has not seen enough yet
ALL_REASONS, COUNT_SHIFT = 0xFF, 8  # above the reasons of a bin stands its number of channels in the mask and alive
# Each array ends with what never changes, because a call unboxes arrays at 60 ns each:
# f32 with SEGMENT means and the filters (feedback 4 × 2, sums 2 × longest × 5, see design.py),
# f64 with step (2, 16), carry (2, 4), floor; i64 with the constants below
NAN = np.float32(np.nan)
LONGEST = 42  # samples of the longest bin, and one
N_FILTERS32 = 8 + 2 * LONGEST * 5
TAIL = SEGMENT + N_FILTERS32
STEP, CARRY, FLOOR, N_FILTERS64 = 0, 32, 40, 41
(
    K_CHANNELS,
    K_NUMERATOR,
    K_DENOMINATOR,
    K_WINDOW,
    K_MIN_HISTORY,
    K_SETTLE_START,
    K_DEAD_BINS,
    K_FROZEN,
    K_SHORT,
    K_TILES,
    K_LANES,
) = range(11)
K_CLIP, K_DIRECT, N_K = 11, 12, 13  # clip in whole microvolts


def aligned(shape: tuple[int, ...], dtype: type = np.float32) -> NDArray[Any]:
    """Zeros that begin on a 64-byte line."""
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(n_bytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + n_bytes].view(dtype).reshape(shape)


def tiling(n_channels: int) -> tuple[int, int]:
    """(tiles, lanes) that hold `n_channels` with the least padding: lanes is a multiple of 16, at most 128."""
    tiles = -(-n_channels // MOST_LANES)
    lanes = -(-n_channels // (16 * tiles)) * 16
    return tiles, lanes


def last_sample(f32: NDArray[np.float32], padded: int) -> NDArray[np.float32]:
    """A view of the last sample that was processed, where one was not finite the one before it."""
    return f32[len(f32) - TAIL - 3 * padded : len(f32) - TAIL - 2 * padded]


@njit(nogil=True, cache=True, fastmath=FAST)
def filter_segment(source, row, n, f32, k, filters32, sums_at):  # type: ignore[no-untyped-def]
    """Re-reference, clip, band-pass, rectify, and the five weighted sums, for n samples inside one bin."""
    lanes = k[K_LANES]
    means = f32[f32.shape[0] - TAIL : f32.shape[0] - N_FILTERS32]
    clip = np.float32(k[K_CLIP])
    for tile in range(k[K_TILES]):
        for c in range(0, lanes, LANES):
            s = f32[tile * N_TILE_ROWS * MOST_LANES + c :]
            x = source[row : row + n, tile * lanes + c : tile * lanes + c + LANES]
            filter_lanes(x, n, s, MOST_LANES, means, filters32, sums_at, clip)


@njit(nogil=True, cache=True, fastmath=FAST)
def settle_filters(source, row, f32, f64, k):  # type: ignore[no-untyped-def]
    """The state that a constant equal to the first sample would have left: band-pass output 0 from the start."""
    tiles, lanes = k[K_TILES], k[K_LANES]
    mean = f32[f32.shape[0] - TAIL]
    clip = np.float32(k[K_CLIP])
    for tile in range(tiles):
        s = f32[tile * N_TILE_ROWS * MOST_LANES : (tile + 1) * N_TILE_ROWS * MOST_LANES]
        x = source[row, tile * lanes : (tile + 1) * lanes]
        s[:] = np.float32(0)
        f64[tile * N_F64 * MOST_LANES : (tile * N_F64 + 4) * MOST_LANES] = 0.0
        for c in range(lanes):
            v = min(max(x[c] - mean, -clip), clip)
            s[c] = -v
            s[MOST_LANES + c] = -v


@njit(nogil=True, cache=True, fastmath=FAST)
def weigh(f32, i64, padded):  # type: ignore[no-untyped-def]
    """The re-reference is the mean over the channels that are in the mask and not dead.

    One channel alone has nothing to be referenced to: its own mean would erase it.
    """
    weight = f32[f32.shape[0] - TAIL - 2 * padded : f32.shape[0] - TAIL - padded]
    mask = i64[N_SCALARS + MASK * padded : N_SCALARS + (MASK + 1) * padded]
    dead = i64[N_SCALARS + DEAD * padded : N_SCALARS + (DEAD + 1) * padded]
    n = 0
    for c in range(padded):
        if mask[c] != 0 and dead[c] == 0:
            n += 1
    share = np.float32(1.0 / n) if n > 1 else np.float32(0)
    for c in range(padded):
        weight[c] = share if mask[c] != 0 and dead[c] == 0 else np.float32(0)
    i64[WEIGH] = 0


@njit(nogil=True, cache=True, fastmath=FAST)
def watch(source, row, f32, i64, padded, n_channels):  # type: ignore[no-untyped-def]
    """Twice a bin: has the raw value moved since the last look?"""
    last = f32[f32.shape[0] - TAIL - padded : f32.shape[0] - TAIL]
    x = source[row]
    n_moved = 0
    for c in range(padded):
        n_moved += np.int32(x[c] != last[c])
    if n_moved >= n_channels:  # as nearly always
        i64[ALL_MOVED] = 1
    else:
        moved = i64[N_SCALARS + MOVED * padded : N_SCALARS + (MOVED + 1) * padded]
        for c in range(padded):
            moved[c] |= np.int64(x[c] != last[c])
    last[:] = x


@njit(nogil=True, cache=True, fastmath=FAST)
def low_pass_step(f32, f64, envelope, filters64, k, which):  # type: ignore[no-untyped-def]
    """The bin's mean out, the low-pass state one bin on, the sums back to zero (design.py)."""
    tiles, lanes = k[K_TILES], k[K_LANES]
    r = filters64[STEP + 16 * which : STEP + 16 * which + 16]
    r00, r01, r10, r11, r22, r23, r32, r33 = r[0], r[1], r[4], r[5], r[10], r[11], r[14], r[15]
    carry = filters64[CARRY + 4 * which : CARRY + 4 * which + 4]
    c0, c1, c2, c3 = carry[0], carry[1], carry[2], carry[3]
    for tile in range(tiles):
        first = tile * N_TILE_ROWS * MOST_LANES
        s = f32[first + 8 * MOST_LANES : first + N_TILE_ROWS * MOST_LANES]
        low = f64[tile * N_F64 * MOST_LANES : (tile + 1) * N_F64 * MOST_LANES]
        out = envelope[tile * lanes : (tile + 1) * lanes]
        for c in range(lanes):
            x0, x1 = low[c], low[MOST_LANES + c]
            x2, x3 = low[2 * MOST_LANES + c], low[3 * MOST_LANES + c]
            out[c] = np.float32(c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3 + s[4 * MOST_LANES + c])
            low[c] = r00 * x0 + r01 * x1 + s[c]
            low[MOST_LANES + c] = r10 * x0 + r11 * x1 + s[MOST_LANES + c]
            low[2 * MOST_LANES + c] = r22 * x2 + r23 * x3 + s[2 * MOST_LANES + c]
            low[3 * MOST_LANES + c] = r32 * x2 + r33 * x3 + s[3 * MOST_LANES + c]
        s[:] = np.float32(0)


@njit(nogil=True, cache=True)
def alive(i64, padded):  # type: ignore[no-untyped-def]
    """How many channels are in the mask and not dead."""
    mask = i64[N_SCALARS + MASK * padded : N_SCALARS + (MASK + 1) * padded]
    dead = i64[N_SCALARS + DEAD * padded : N_SCALARS + (DEAD + 1) * padded]
    n = 0
    for c in range(padded):
        n += mask[c] & (1 - dead[c])
    return n


@njit(nogil=True, cache=True, fastmath=FAST)
def finish_bin(f32, f64, i64, rings, reasons, filters64, k):  # type: ignore[no-untyped-def]
    """Close the open bin: envelope, health of the channels, z; open the next."""
    padded = rings.shape[2]
    at = i64[NEXT_BIN]
    slot = at % rings.shape[0]
    start = i64[BIN_START]
    which = 0 if i64[BIN_END] - start == k[K_SHORT] else 1
    reason = 0
    if start < i64[SETTLE_START]:
        reason |= REASON_START
    if start < i64[SETTLE_BLANK]:
        reason |= REASON_BLANK
    if start < i64[SETTLE_GAP]:
        reason |= REASON_GAP
    leaving = reasons[(at - k[K_WINDOW]) % rings.shape[0]] & ALL_REASONS
    i64[HISTORY] += np.int64(reason == 0) - np.int64(leaving & ~REASON_HISTORY == 0)
    short = REASON_HISTORY if k[K_FROZEN] == 0 and i64[HISTORY] < k[K_MIN_HISTORY] else 0
    n_alive = alive(i64, padded)
    reasons[slot] = reason | short | n_alive << COUNT_SHIFT
    low_pass_step(f32, f64, rings[slot, ENVELOPE], filters64, k, which)
    sound = health(i64, rings[slot, OK], reason, k)
    whole = sound and reason == 0 and n_alive == k[K_CHANNELS]
    i64[WHOLE_RUN] = i64[WHOLE_RUN] + 1 if whole else 0
    floor = np.float32(filters64[FLOOR])
    if i64[WHOLE_RUN] > k[K_WINDOW] and k[K_FROZEN] == 0:
        normalise_whole(f64, rings, at, k, floor)
    else:
        normalise(f64, rings, at, k, floor)
    if i64[WEIGH] != 0:
        weigh(f32, i64, padded)
    open_bin(i64, at + 1, k)


@njit(nogil=True, cache=True, fastmath=FAST)
def health(i64, ok, reason, k):  # type: ignore[no-untyped-def]
    """Which channels this bin vouches for (`ok`), and who has died or come back to life. True where nothing was amiss.

    Dead: flat, or never finite, for K_DEAD_BINS bins in a row; alive again after as many good ones.
    """
    padded = ok.shape[0]
    facts = i64[N_SCALARS : N_SCALARS + N_FACTS * padded].reshape(N_FACTS, padded)
    mask, dead = facts[MASK], facts[DEAD]
    vouch = np.float32(1) if reason == 0 else np.float32(0)
    for c in range(padded):
        ok[c] = vouch * np.float32(mask[c]) * np.float32(1 - dead[c])
    all_moved = i64[ALL_MOVED] != 0
    i64[ALL_MOVED] = 0
    if all_moved and i64[ANY_BAD] == 0 and i64[TROUBLE] == 0:
        return True  # as nearly always: everyone alive, nobody under suspicion
    moved, settle, bad = facts[MOVED], facts[SETTLE], facts[BAD]
    still_run, live_run = facts[STILL_RUN], facts[LIVE_RUN]
    start, end, limit = i64[BIN_START], i64[BIN_END], k[K_DEAD_BINS]
    trouble = 0
    for c in range(k[K_CHANNELS]):
        if dead[c] != 0 or bad[c] != 0 or start < settle[c]:
            ok[c] = np.float32(0)
        still = bad[c] != 0 or (moved[c] == 0 and not all_moved)
        still_run[c] = still_run[c] + 1 if still else 0
        live_run[c] = 0 if still else live_run[c] + 1
        if bad[c] != 0:
            settle[c] = end + k[K_SETTLE_START]
        if dead[c] == 0 and still_run[c] >= limit:
            dead[c] = 1
            i64[WEIGH] = 1
        elif dead[c] != 0 and live_run[c] >= limit:
            dead[c] = 0
            i64[WEIGH] = 1
        if dead[c] != 0 or still_run[c] > 0 or end < settle[c]:
            trouble += 1
        bad[c] = 0
        moved[c] = 0
    i64[ANY_BAD] = 0
    i64[TROUBLE] = trouble
    return False


@njit(nogil=True, cache=True, fastmath=EXACT)
def normalise_whole(f64, rings, at, k, floor):  # type: ignore[no-untyped-def]
    """As `normalise`, to the bit, where every channel of the window and of the bin that leaves it is vouched for: a
    third of the time, because there is nothing to weigh and every count is the window's."""
    tiles, lanes, window, n_slots = k[K_TILES], k[K_LANES], k[K_WINDOW], rings.shape[0]
    slot, leaving = at % n_slots, (at - window) % n_slots
    share = 1.0 / np.float64(window)
    for tile in range(tiles):
        first, last = tile * lanes, (tile + 1) * lanes
        f = f64[tile * N_F64 * MOST_LANES : (tile + 1) * N_F64 * MOST_LANES]
        e_new, e_old = rings[slot, ENVELOPE, first:last], rings[leaving, ENVELOPE, first:last]
        z = rings[slot, Z, first:last]
        for c in range(lanes):
            e, eo = np.float64(e_new[c]), np.float64(e_old[c])
            total = f[SUM1 * MOST_LANES + c] + (e - eo)
            squares = f[SUM2 * MOST_LANES + c] + (e * e - eo * eo)
            f[SUM1 * MOST_LANES + c] = total
            f[SUM2 * MOST_LANES + c] = squares
            mean = total * share
            variance = np.float32(max(squares * share - mean * mean, 0.0))
            z[c] = np.float32(e - mean) / max(np.sqrt(variance), floor)


@njit(nogil=True, cache=True, fastmath=EXACT)
def normalise(f64, rings, at, k, floor):  # type: ignore[no-untyped-def]
    """z of one bin against the trailing window, that bin included, or against frozen statistics.

    Running sums in float64: a day of adding and subtracting moves them by one part in 10¹².
    """
    tiles, lanes, window, n_slots = k[K_TILES], k[K_LANES], k[K_WINDOW], rings.shape[0]
    slot, leaving = at % n_slots, (at - window) % n_slots
    min_history = np.float64(max(k[K_MIN_HISTORY], 1))
    for tile in range(tiles):
        first, last = tile * lanes, (tile + 1) * lanes
        f = f64[tile * N_F64 * MOST_LANES : (tile + 1) * N_F64 * MOST_LANES]
        e_new, w_new = rings[slot, ENVELOPE, first:last], rings[slot, OK, first:last]
        e_old, w_old = rings[leaving, ENVELOPE, first:last], rings[leaving, OK, first:last]
        z = rings[slot, Z, first:last]
        for c in range(lanes):
            e, w = np.float64(e_new[c]), np.float64(w_new[c])
            eo, wo = np.float64(e_old[c]), np.float64(w_old[c])
            f[SUM1 * MOST_LANES + c] += w * e - wo * eo
            f[SUM2 * MOST_LANES + c] += w * e * e - wo * eo * eo
            f[COUNT * MOST_LANES + c] += w - wo
        if k[K_FROZEN] != 0:
            for c in range(lanes):
                above = np.float32(np.float64(e_new[c]) - f[CENTRE * MOST_LANES + c])
                value = above / max(np.float32(f[SCALE * MOST_LANES + c]), floor)
                z[c] = value if w_new[c] > 0 else NAN
        else:
            for c in range(lanes):
                share = 1.0 / max(f[COUNT * MOST_LANES + c], 1.0)
                mean = f[SUM1 * MOST_LANES + c] * share
                variance = np.float32(max(f[SUM2 * MOST_LANES + c] * share - mean * mean, 0.0))
                above = np.float32(np.float64(e_new[c]) - mean)
                value = above / max(np.sqrt(variance), floor)
                z[c] = value if w_new[c] > 0 and f[COUNT * MOST_LANES + c] >= min_history else NAN


@njit(nogil=True, cache=True)
def open_bin(i64, at, k):  # type: ignore[no-untyped-def]
    step = 1000 * k[K_DENOMINATOR]
    i64[NEXT_BIN] = at
    i64[BIN_START] = -((-at * k[K_NUMERATOR]) // step)
    i64[BIN_END] = -((-(at + 1) * k[K_NUMERATOR]) // step)


@njit(nogil=True, cache=True, fastmath=FAST)
def reference(source, row, n, f32, i64, scratch):  # type: ignore[no-untyped-def]
    """Means over the usable channels; True where a sample is not finite and `scratch` holds the mended rows.

    Mended is held: dropping the channel from the mean instead would step all the others by its offset.
    """
    padded = source.shape[1]
    means = f32[f32.shape[0] - TAIL : f32.shape[0] - N_FILTERS32]
    weight = f32[f32.shape[0] - TAIL - 2 * padded : f32.shape[0] - TAIL - padded]
    whole = True
    for i in range(n):
        x = source[row + i]
        mean = np.float32(0)
        for c in range(padded):
            mean += weight[c] * x[c]
        means[i] = mean
        whole = whole and abs(mean) <= np.float32(1e30)
    if whole:
        return False
    bad = i64[N_SCALARS + BAD * padded : N_SCALARS + (BAD + 1) * padded]
    held = f32[f32.shape[0] - TAIL - 3 * padded : f32.shape[0] - TAIL - 2 * padded]
    i64[ANY_BAD] = 1
    if i64[FRESH] != 0:  # nothing to hold yet: the mean of the others
        total, count = np.float32(0), np.float32(0)
        for c in range(padded):
            if weight[c] > 0 and abs(source[row, c]) <= np.float32(1e30):
                total += source[row, c]
                count += np.float32(1)
        held[:] = total / max(count, np.float32(1))
    for i in range(n):
        x, mended = source[row + i], scratch[i]
        before = held if i == 0 else scratch[i - 1]
        mean = np.float32(0)
        for c in range(padded):
            if abs(x[c]) <= np.float32(1e30):
                mended[c] = x[c]
            else:
                mended[c] = before[c]
                bad[c] = 1
            mean += weight[c] * mended[c]
        means[i] = mean
    return True


@njit(nogil=True, cache=True)
def process(source, row, n, f32, f64, i64, rings, reasons, scratch):  # type: ignore[no-untyped-def]
    """Rows `row … row+n` of `source` (padded rows), the next samples of the stream, through the whole chain.

    Returns the next bin.
    """
    k, filters32, filters64 = (
        i64[i64.shape[0] - N_K :],
        f32[f32.shape[0] - N_FILTERS32 :],
        f64[f64.shape[0] - N_FILTERS64 :],
    )
    done = 0
    padded = rings.shape[2]
    while done < n:
        take = min(n - done, i64[BIN_END] - i64[NEXT_SAMPLE])
        at = i64[NEXT_SAMPLE] - i64[BIN_START]
        length = i64[BIN_END] - i64[BIN_START]
        which = 0 if length == k[K_SHORT] else 1
        sums_at = 8 + 5 * (which * LONGEST + at)
        half = length // 2
        if i64[WEIGH] != 0 and at == 0:
            weigh(f32, i64, padded)
        if at == 0:
            watch(source, row + done, f32, i64, padded, k[K_CHANNELS])
        if at <= half < at + take:
            watch(source, row + done + half - at, f32, i64, padded, k[K_CHANNELS])
        mended = reference(source, row + done, take, f32, i64, scratch)
        rows, first = (scratch, 0) if mended else (source, row + done)
        if i64[FRESH] != 0:
            settle_filters(rows, first, f32, f64, k)
            i64[FRESH] = 0
        filter_segment(rows, first, take, f32, k, filters32, sums_at)
        f32[f32.shape[0] - TAIL - 3 * padded : f32.shape[0] - TAIL - 2 * padded] = rows[first + take - 1]
        i64[NEXT_SAMPLE] += take
        done += take
        if i64[NEXT_SAMPLE] == i64[BIN_END]:
            finish_bin(f32, f64, i64, rings, reasons, filters64, k)
    return i64[NEXT_BIN]


@njit(nogil=True, cache=True)
def push(x, raw, f32, f64, i64, rings, reasons, scratch):  # type: ignore[no-untyped-def]
    """Keep the samples in the ring of raw samples, then process them from there. Returns the next bin.

    Where no history is kept and no channel is padded (K_DIRECT), they are processed where they are.
    """
    n, n_channels = x.shape
    n_rows = raw.shape[0]
    if i64[i64.shape[0] - N_K + K_DIRECT] != 0:
        return process(x, 0, n, f32, f64, i64, rings, reasons, scratch)
    done = 0
    while done < n:
        row = i64[NEXT_SAMPLE] % n_rows
        take = min(n - done, n_rows - row)
        for i in range(take):
            into, out_of = raw[row + i], x[done + i]
            for c in range(n_channels):
                into[c] = out_of[c]
        process(raw, row, take, f32, f64, i64, rings, reasons, scratch)
        done += take
    return i64[NEXT_BIN]


@njit(nogil=True, cache=True)
def skip(to_sample, f32, f64, i64, rings, reasons, scratch):  # type: ignore[no-untyped-def]
    """Samples up to `to_sample` never came: close the bins that they touch, start the filters anew behind them.

    Returns the next bin.
    """
    k, filters64 = i64[i64.shape[0] - N_K :], f64[f64.shape[0] - N_FILTERS64 :]
    while i64[BIN_END] <= to_sample:
        for tile in range(k[K_TILES]):
            first = tile * N_TILE_ROWS * MOST_LANES
            f32[first : first + N_TILE_ROWS * MOST_LANES] = np.float32(0)
            f64[tile * N_F64 * MOST_LANES : (tile * N_F64 + 4) * MOST_LANES] = 0.0
        i64[ALL_MOVED] = 1  # nothing is known of health here
        finish_bin(f32, f64, i64, rings, reasons, filters64, k)
    i64[NEXT_SAMPLE] = to_sample
    i64[FRESH] = 1
    return i64[NEXT_BIN]


@njit(nogil=True, cache=True, fastmath=FAST)
def read_window(rings, reasons, first_bin, window, usable):  # type: ignore[no-untyped-def]
    """Copy z of the bins from `first_bin` into `window` (channels, bins); returns the reasons of all of them together.

    A channel is usable where every bin of it is vouched for, which its sum tells: NaN where one is not. The values of
    an unusable channel are 0.
    """
    n_channels, n_bins = window.shape
    start = first_bin % rings.shape[0]
    head = min(n_bins, rings.shape[0] - start)  # the rest stands at the ring's beginning
    reason = 0
    for b in range(head):
        reason |= reasons[start + b]
    for b in range(n_bins - head):
        reason |= reasons[b]
    for c in range(n_channels):
        row, total = window[c], np.float32(0)
        for b in range(head):
            z = rings[start + b, Z, c]
            row[b] = z
            total += z
        for b in range(head, n_bins):
            z = rings[b - head, Z, c]
            row[b] = z
            total += z
        usable[c] = total == total
        if total != total:
            row[:] = np.float32(0)
    return reason & ALL_REASONS


@njit(nogil=True, cache=True)
def last_burst(rings, reasons, n_channels, first_bin, end_bin, last, begins, lasts, within, least):  # type: ignore[no-untyped-def]
    """The last of the bins [first_bin, end_bin) that is part of a burst, or `last`, the last one known before them.

    A bin is where most of its channels that are vouched for (`least` or more) have |z| above `begins`; above `lasts` is
    enough up to `within` bins behind one that was.
    """
    for b in range(first_bin, end_bin):
        slot = b % rings.shape[0]
        if reasons[slot] & ALL_REASONS:
            continue
        most = lasts if b - last <= within else begins
        above, count = 0, 0
        for c in range(n_channels):
            z = rings[slot, Z, c]
            if z == z:
                above += abs(z) > most
                count += 1
        if count >= least and 2 * above > count:
            last = b
    return last
