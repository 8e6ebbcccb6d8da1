"""The fused kernel: raw samples to envelope bins to z values, for all channels at once, allocating nothing.

Layout. Channels are padded to `tiles × lanes`, lanes a multiple of 16. Inside a tile the rows of state stand a constant
MOST_LANES apart, so that the compiler proves that they do not overlap and runs the whole cascade of a sample in one
vectorised loop: half of what one loop for each biquad costs. Arrays begin on 64-byte lines (a third faster, measured). All that a stream carries stands in three arrays, so that a
snapshot is three copies: `f32` (filters), `f64` (low-pass, normaliser), `i64` (counts, health of each channel).

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

FAST = {"contract", "reassoc", "nsz", "arcp"}
MOST_LANES = 128
SEGMENT = 64  # rows of scratch: longer than the longest bin (41 samples at 40 kHz)

# i64: scalars, then one row of `padded` for each channel fact
NEXT_SAMPLE, NEXT_BIN, BIN_START, BIN_END, FRESH, SETTLE_START, SETTLE_BLANK, SETTLE_GAP, WEIGH = range(9)
N_SCALARS = 16
MASK, DEAD, STILL_RUN, LIVE_RUN, SETTLE, BAD, MOVED = range(7)  # channel facts
N_FACTS = 7
# f64 rows
LOW0, SUM1, SUM2, COUNT, FRESH1, FRESH2, FRESH_COUNT, CENTRE, SCALE = 0, 4, 5, 6, 7, 8, 9, 10, 11
N_F64 = 12
# f32: tiles of 13 rows × lanes (8 band-pass states, 5 sums), then rows of `padded`
N_TILE_ROWS = 13
WEIGHT, LAST = 0, 1
N_F32_ROWS = 2
# rings[plane, bin, channel]
ENVELOPE, Z, OK, OK_Z = range(4)
# reasons why a bin is not vouched for
REASON_START, REASON_BLANK, REASON_GAP = 1, 2, 4
# constants handed over in one integer array
K_CHANNELS, K_NUMERATOR, K_DENOMINATOR, K_WINDOW, K_MIN_HISTORY, K_SETTLE_START, K_DEAD_BINS, K_FROZEN, K_SHORT, K_TILES, K_LANES = range(
    11
)
N_K = 11


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


@njit(nogil=True, cache=True, fastmath=FAST)
def filter_segment(source, row, n, f32, k, sums, feedback, which, at, means, clip):  # type: ignore[no-untyped-def]
    tiles = k[K_TILES]
    lanes = k[K_LANES]
    a11, a12 = feedback[0, 0], feedback[0, 1]
    a21, a22 = feedback[1, 0], feedback[1, 1]
    a31, a32 = feedback[2, 0], feedback[2, 1]
    a41, a42 = feedback[3, 0], feedback[3, 1]
    for tile in range(tiles):
        s = f32[tile * N_TILE_ROWS * MOST_LANES : (tile + 1) * N_TILE_ROWS * MOST_LANES]
        for i in range(n):
            x = source[row + i, tile * lanes : (tile + 1) * lanes]
            mean = means[i]
            g0, g1, g2 = sums[which, at + i, 0], sums[which, at + i, 1], sums[which, at + i, 2]
            g3, g4 = sums[which, at + i, 3], sums[which, at + i, 4]
            for c in range(lanes):
                v = min(max(x[c] - mean, -clip), clip)
                y = v + s[c]
                s[c] = s[MOST_LANES + c] - a11 * y
                s[MOST_LANES + c] = -v - a12 * y
                v = y + s[2 * MOST_LANES + c]
                s[2 * MOST_LANES + c] = s[3 * MOST_LANES + c] - a21 * v
                s[3 * MOST_LANES + c] = -y - a22 * v
                y = v + s[4 * MOST_LANES + c]
                s[4 * MOST_LANES + c] = s[5 * MOST_LANES + c] - a31 * y
                s[5 * MOST_LANES + c] = -v - a32 * y
                v = y + s[6 * MOST_LANES + c]
                s[6 * MOST_LANES + c] = s[7 * MOST_LANES + c] - a41 * v
                s[7 * MOST_LANES + c] = -y - a42 * v
                v = abs(v)
                s[8 * MOST_LANES + c] += g0 * v
                s[9 * MOST_LANES + c] += g1 * v
                s[10 * MOST_LANES + c] += g2 * v
                s[11 * MOST_LANES + c] += g3 * v
                s[12 * MOST_LANES + c] += g4 * v

@njit(nogil=True, cache=True, fastmath=FAST)
def settle_filters(source, row, f32, k, mean, clip):  # type: ignore[no-untyped-def]
    # the state that a constant equal to the first sample would have left: band-pass output 0 from the start
    tiles = k[K_TILES]
    lanes = k[K_LANES]
    for tile in range(tiles):
        s = f32[tile * N_TILE_ROWS * MOST_LANES : (tile + 1) * N_TILE_ROWS * MOST_LANES]
        x = source[row, tile * lanes : (tile + 1) * lanes]
        s[:] = np.float32(0)
        for c in range(lanes):
            v = min(max(x[c] - mean, -clip), clip)
            s[c] = -v
            s[MOST_LANES + c] = -v

@njit(nogil=True, cache=True, fastmath=FAST)
def weigh(f32, i64, padded):  # type: ignore[no-untyped-def]
    # the re-reference is the mean over channels that are in the mask and not dead
    rows = f32[f32.shape[0] - N_F32_ROWS * padded :]
    mask = i64[N_SCALARS + MASK * padded : N_SCALARS + (MASK + 1) * padded]
    dead = i64[N_SCALARS + DEAD * padded : N_SCALARS + (DEAD + 1) * padded]
    n = 0
    for c in range(padded):
        if mask[c] != 0 and dead[c] == 0:
            n += 1
    share = np.float32(1.0 / max(n, 1))
    for c in range(padded):
        rows[c] = share if mask[c] != 0 and dead[c] == 0 else np.float32(0)
    i64[WEIGH] = 0

@njit(nogil=True, cache=True, fastmath=FAST)
def watch(source, row, f32, i64, padded):  # type: ignore[no-untyped-def]
    # twice a bin: has the raw value moved since the last look?
    last = f32[f32.shape[0] - padded :]
    moved = i64[N_SCALARS + MOVED * padded : N_SCALARS + (MOVED + 1) * padded]
    x = source[row]
    for c in range(padded):
        if x[c] != last[c]:
            moved[c] = 1
        last[c] = x[c]

@njit(nogil=True, cache=True, fastmath=FAST)
def finish_bin(f32, f64, i64, rings, reasons, step, carry, k, floor):  # type: ignore[no-untyped-def]
    padded, tiles, lanes = rings.shape[2], k[K_TILES], k[K_LANES]
    at = i64[NEXT_BIN]
    slot = at % rings.shape[1]
    which = 0 if i64[BIN_END] - i64[BIN_START] == k[K_SHORT] else 1
    reason = 0
    if i64[BIN_START] < i64[SETTLE_START]:
        reason |= REASON_START
    if i64[BIN_START] < i64[SETTLE_BLANK]:
        reason |= REASON_BLANK
    if i64[BIN_START] < i64[SETTLE_GAP]:
        reason |= REASON_GAP
    reasons[slot] = reason
    envelope, z, ok, ok_z = rings[ENVELOPE, slot], rings[Z, slot], rings[OK, slot], rings[OK_Z, slot]
    r00, r01, r10, r11 = step[which, 0, 0], step[which, 0, 1], step[which, 1, 0], step[which, 1, 1]
    r22, r23, r32, r33 = step[which, 2, 2], step[which, 2, 3], step[which, 3, 2], step[which, 3, 3]
    c0, c1, c2, c3 = carry[which, 0], carry[which, 1], carry[which, 2], carry[which, 3]
    for tile in range(tiles):
        s = f32[tile * N_TILE_ROWS * MOST_LANES : (tile + 1) * N_TILE_ROWS * MOST_LANES]
        low = f64[tile * N_F64 * MOST_LANES : (tile + 1) * N_F64 * MOST_LANES]
        out = envelope[tile * lanes : (tile + 1) * lanes]
        for c in range(lanes):
            x0, x1, x2, x3 = low[c], low[MOST_LANES + c], low[2 * MOST_LANES + c], low[3 * MOST_LANES + c]
            out[c] = np.float32(c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3 + s[12 * MOST_LANES + c])
            low[c] = r00 * x0 + r01 * x1 + s[8 * MOST_LANES + c]
            low[MOST_LANES + c] = r10 * x0 + r11 * x1 + s[9 * MOST_LANES + c]
            low[2 * MOST_LANES + c] = r22 * x2 + r23 * x3 + s[10 * MOST_LANES + c]
            low[3 * MOST_LANES + c] = r32 * x2 + r33 * x3 + s[11 * MOST_LANES + c]
            s[8 * MOST_LANES + c] = np.float32(0)
            s[9 * MOST_LANES + c] = np.float32(0)
            s[10 * MOST_LANES + c] = np.float32(0)
            s[11 * MOST_LANES + c] = np.float32(0)
            s[12 * MOST_LANES + c] = np.float32(0)
    health(i64, ok, reason, k)
    normalise(f64, rings, envelope, z, ok, ok_z, at, k, floor)
    if i64[WEIGH] != 0:
        weigh(f32, i64, padded)
    open_bin(i64, at + 1, k)

@njit(nogil=True, cache=True, fastmath=FAST)
def health(i64, ok, reason, k):  # type: ignore[no-untyped-def]
    padded = ok.shape[0]
    facts = i64[N_SCALARS:].reshape(N_FACTS, padded)
    mask, dead, settle = facts[MASK], facts[DEAD], facts[SETTLE]
    still_run, live_run, bad, moved = facts[STILL_RUN], facts[LIVE_RUN], facts[BAD], facts[MOVED]
    start, end, limit = i64[BIN_START], i64[BIN_END], k[K_DEAD_BINS]
    changed = 0
    for c in range(padded):
        good = mask[c] != 0 and dead[c] == 0 and bad[c] == 0 and start >= settle[c] and reason == 0
        ok[c] = np.float32(1) if good else np.float32(0)
    for c in range(padded):
        still = bad[c] != 0 or moved[c] == 0
        still_run[c] = still_run[c] + 1 if still else 0
        live_run[c] = 0 if still else live_run[c] + 1
        if bad[c] != 0:
            settle[c] = end + k[K_SETTLE_START]
        dies = dead[c] == 0 and still_run[c] >= limit
        lives = dead[c] != 0 and live_run[c] >= limit
        if dies or lives:
            dead[c] = 1 if dies else 0
            changed = 1
        bad[c] = 0
        moved[c] = 0
    if changed != 0:
        i64[WEIGH] = 1

@njit(nogil=True, cache=True, fastmath=FAST)
def normalise(f64, rings, envelope, z, ok, ok_z, at, k, floor):  # type: ignore[no-untyped-def]
    tiles, lanes = k[K_TILES], k[K_LANES]
    window, n_slots = k[K_WINDOW], rings.shape[1]
    leaving = (at - window) % n_slots
    turn = (at + 1) % window == 0
    min_history = np.float64(max(k[K_MIN_HISTORY], 1))
    for tile in range(tiles):
        span = slice(tile * lanes, (tile + 1) * lanes)
        f = f64[tile * N_F64 * MOST_LANES : (tile + 1) * N_F64 * MOST_LANES]
        e_new, k_new, e_old, k_old = envelope[span], ok[span], rings[ENVELOPE, leaving, span], rings[OK, leaving, span]
        z_new, kz_new = z[span], ok_z[span]
        for c in range(lanes):
            e, w = np.float64(e_new[c]), np.float64(k_new[c])
            eo, wo = np.float64(e_old[c]), np.float64(k_old[c])
            f[SUM1 * MOST_LANES + c] += w * e - wo * eo
            f[SUM2 * MOST_LANES + c] += w * e * e - wo * eo * eo
            f[COUNT * MOST_LANES + c] += w - wo
            f[FRESH1 * MOST_LANES + c] += w * e
            f[FRESH2 * MOST_LANES + c] += w * e * e
            f[FRESH_COUNT * MOST_LANES + c] += w
        if turn:  # the fresh sums now hold exactly the window: rounding never builds up
            for c in range(lanes):
                for row in range(3):
                    f[(SUM1 + row) * MOST_LANES + c] = f[(FRESH1 + row) * MOST_LANES + c]
                    f[(FRESH1 + row) * MOST_LANES + c] = 0.0
        if k[K_FROZEN] != 0:
            for c in range(lanes):
                z_new[c] = k_new[c] * np.float32(
                    (np.float64(e_new[c]) - f[CENTRE * MOST_LANES + c]) / max(f[SCALE * MOST_LANES + c], floor)
                )
                kz_new[c] = k_new[c]
        else:
            for c in range(lanes):
                n = max(f[COUNT * MOST_LANES + c], 1.0)
                mean = f[SUM1 * MOST_LANES + c] / n
                variance = max(f[SUM2 * MOST_LANES + c] / n - mean * mean, 0.0)
                value = (np.float64(e_new[c]) - mean) / max(np.sqrt(variance), floor)
                kz_new[c] = k_new[c] if f[COUNT * MOST_LANES + c] >= min_history else np.float32(0)
                z_new[c] = kz_new[c] * np.float32(value)

@njit(nogil=True, cache=True)
def open_bin(i64, at, k):  # type: ignore[no-untyped-def]
    step = 1000 * k[K_DENOMINATOR]
    i64[NEXT_BIN] = at
    i64[BIN_START] = -((-at * k[K_NUMERATOR]) // step)
    i64[BIN_END] = -((-(at + 1) * k[K_NUMERATOR]) // step)

@njit(nogil=True, cache=True, fastmath=FAST)
def reference(source, row, n, f32, i64, means, scratch):  # type: ignore[no-untyped-def]
    """Means over the usable channels; True where a sample is not finite and `scratch` holds the mended rows."""
    padded = source.shape[1]
    weight = f32[f32.shape[0] - N_F32_ROWS * padded : f32.shape[0] - padded]
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
    for i in range(n):
        x, mended = source[row + i], scratch[i]
        total, count = np.float32(0), np.float32(0)
        for c in range(padded):
            fine = abs(x[c]) <= np.float32(1e30)
            v = x[c] if fine else np.float32(0)
            u = weight[c] if fine else np.float32(0)
            total += u * v
            count += u
            if not fine:
                bad[c] = 1
        mean = total / count if count > 0 else np.float32(0)
        means[i] = mean
        for c in range(padded):
            mended[c] = x[c] if abs(x[c]) <= np.float32(1e30) else mean
    return True

@njit(nogil=True, cache=True)
def process(source, row, n, f32, f64, i64, k, rings, reasons, tables, scratch, means):  # type: ignore[no-untyped-def]
    """Rows `row … row+n` of `source` (padded rows), the next samples of the stream, through the whole chain."""
    feedback, sums, step, carry, real = tables
    clip, floor = np.float32(real[0]), real[1]
    done = 0
    while done < n:
        take = min(n - done, i64[BIN_END] - i64[NEXT_SAMPLE])
        at = i64[NEXT_SAMPLE] - i64[BIN_START]
        length = i64[BIN_END] - i64[BIN_START]
        which = 0 if length == k[K_SHORT] else 1
        half = length // 2
        if i64[WEIGH] != 0 and at == 0:
            weigh(f32, i64, rings.shape[2])
        mended = reference(source, row + done, take, f32, i64, means, scratch)
        if i64[FRESH] != 0:
            if mended:
                settle_filters(scratch, 0, f32, k, means[0], clip)
            else:
                settle_filters(source, row + done, f32, k, means[0], clip)
            i64[FRESH] = 0
        if at == 0:
            watch(source, row + done, f32, i64, rings.shape[2])
        if at <= half < at + take:
            watch(source, row + done + half - at, f32, i64, rings.shape[2])
        if mended:
            filter_segment(scratch, 0, take, f32, k, sums, feedback, which, at, means, clip)
        else:
            filter_segment(source, row + done, take, f32, k, sums, feedback, which, at, means, clip)
        i64[NEXT_SAMPLE] += take
        done += take
        if i64[NEXT_SAMPLE] == i64[BIN_END]:
            finish_bin(f32, f64, i64, rings, reasons, step, carry, k, floor)

@njit(nogil=True, cache=True)
def push(x, raw, f32, f64, i64, k, rings, reasons, tables, scratch, means):  # type: ignore[no-untyped-def]
    """Keep the samples in the ring of raw samples, then process them from there."""
    n, n_channels = x.shape
    n_rows = raw.shape[0]
    done = 0
    while done < n:
        row = i64[NEXT_SAMPLE] % n_rows
        take = min(n - done, n_rows - row)
        for i in range(take):
            into, out_of = raw[row + i], x[done + i]
            for c in range(n_channels):
                into[c] = out_of[c]
        process(raw, row, take, f32, f64, i64, k, rings, reasons, tables, scratch, means)
        done += take

@njit(nogil=True, cache=True)
def skip(to_sample, f32, f64, i64, k, rings, reasons, tables):  # type: ignore[no-untyped-def]
    """Samples up to `to_sample` never came: close the bins that they touch, start the filters anew behind them."""
    _, _, step, carry, real = tables
    padded, tiles, lanes = rings.shape[2], k[K_TILES], k[K_LANES]
    while i64[BIN_END] <= to_sample:
        for tile in range(tiles):
            f32[tile * N_TILE_ROWS * MOST_LANES : (tile + 1) * N_TILE_ROWS * MOST_LANES] = np.float32(0)
            f64[tile * N_F64 * MOST_LANES : (tile * N_F64 + 4) * MOST_LANES] = 0.0
        i64[N_SCALARS + MOVED * padded : N_SCALARS + (MOVED + 1) * padded] = 1  # nothing is known of health here
        finish_bin(f32, f64, i64, rings, reasons, step, carry, k, real[1])
    for tile in range(tiles):
        f64[tile * N_F64 * MOST_LANES : (tile * N_F64 + 4) * MOST_LANES] = 0.0
    i64[NEXT_SAMPLE] = to_sample
    i64[FRESH] = 1

@njit(nogil=True, cache=True)
def read_window(rings, reasons, first_bin, window, usable):  # type: ignore[no-untyped-def]
    """Copy z of the bins from `first_bin` into `window` (channels, bins); returns the reasons of all of them together.

    A channel is usable where every bin of it is; the values of an unusable one are 0.
    """
    n_channels, n_bins = window.shape
    reason = 0
    usable[:] = True
    for b in range(n_bins):
        slot = (first_bin + b) % rings.shape[1]
        reason |= reasons[slot]
        z, ok = rings[Z, slot], rings[OK_Z, slot]
        for c in range(n_channels):
            window[c, b] = z[c]
            usable[c] = usable[c] and ok[c] > 0
    for c in range(n_channels):
        if not usable[c]:
            window[c] = 0.0
    return reason
