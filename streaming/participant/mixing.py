"""The inner loop of level B: noises through their filters, everything summed, through the amplifier, into counts.

Time runs outside and electrodes inside, so that each filter step is one SIMD pass over 96 channels in float32.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@njit(cache=True, nogil=True, fastmath=True)
def mix_and_digitise(
    potential: Floats,
    white: Floats,
    hash_uv: Floats,
    thermal_uv: Floats,
    field_before: Floats,
    field: Floats,
    hum: Floats,
    hum_uv: Floats,
    sections: Floats,
    slow: np.float32,
    z: Floats,
    counts_per_uv: np.float32,
    rail: np.float32,
) -> NDArray[np.int16]:
    """Counts (n, 96) of a block.

    `potential` (n, 96) spikes and artifacts in µV; `white` (2, n, 96) unit normals for hash and thermal noise;
    `hash_uv`, `field` (bins, 96), the field joined by lines from `field_before` on; `hum` (n,) of size `hum_uv`;
    `sections` (3, 6); `z` (7, 96) filter states, brought up to date.
    """
    n, channels = potential.shape
    per_bin = n // field.shape[0]
    out = np.empty((n, channels), np.int16)
    v = np.empty(channels, np.float32)
    for t in range(n):
        b = t // per_bin
        along = np.float32(t - b * per_bin) / np.float32(per_bin)
        before = field[b - 1] if b > 0 else field_before
        here, size, noise, thermal, row = field[b], hash_uv[b], white[0, t], white[1, t], potential[t]
        for c in range(channels):
            v[c] = size[c] * noise[c]
        _section(sections[0], v, z[0], z[1])
        _section(sections[1], v, z[2], z[3])
        level = hum[t]
        for c in range(channels):
            v[c] += row[c] + thermal_uv[c] * thermal[c] + before[c] + along * (here[c] - before[c]) + level * hum_uv[c]
        _section(sections[2], v, z[4], z[5])
        base, line = z[6], out[t]
        for c in range(channels):
            base[c] += slow * (v[c] - base[c])
            x = (v[c] - base[c]) * counts_per_uv
            x = min(max(x, -rail), rail)
            line[c] = np.int16(np.floor(x + np.float32(0.5)))
    return out


@njit(inline="always")
def _section(s: Floats, v: Floats, z0: Floats, z1: Floats) -> None:
    """One second-order section (transposed direct form II) over all channels, in place."""
    b0, b1, b2, a1, a2 = s[0], s[1], s[2], s[4], s[5]
    for c in range(v.size):
        x = v[c]
        y = b0 * x + z0[c]
        z0[c] = b1 * x - a1 * y + z1[c]
        z1[c] = b2 * x - a2 * y
        v[c] = y
