"""Random numbers by address: what is drawn depends on where it stands, never on what was drawn before.

A path such as (seed, "latent", day, session, block) is hashed into the key of a Philox generator, so that any block
can be made by itself and no generator is shared. The two noises of the broadband need 5.8 million normals a second;
`fill_normal` makes them at about 2 ns each: SplitMix64 of a counter gives 64 bits (it passes BigCrush), each 16 of them
look up one of 65 536 equally likely quantiles of the normal. Tails end at 4.3 σ; variance is right to 1e-4, and the
filters that follow sum dozens of draws, which makes good what is missing of the shape.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtri

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def at(*path: int | str) -> np.random.Generator:
    """The generator that belongs to a path of names and numbers."""
    digest = hashlib.blake2b("/".join(map(str, path)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def word(*path: int | str) -> np.uint64:
    """A 64-bit key for the compiled generators below."""
    digest = hashlib.blake2b("/".join(map(str, path)).encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def _quantiles() -> NDArray[np.float32]:
    levels = ndtri((np.arange(65536) + 0.5) / 65536)
    return np.asarray(levels / levels.std(), dtype=np.float32)


QUANTILES = _quantiles()


@njit(inline="always")
def mix(z: np.uint64) -> np.uint64:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(inline="always")
def uniform(key: np.uint64, index: int) -> float:
    """The uniform number in [0, 1) at place `index` of the stream `key`."""
    return float(mix(key + np.uint64(index + 1) * GOLDEN) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True, nogil=True)
def fill_normal(key: np.uint64, out: NDArray[np.float32], quantiles: NDArray[np.float32]) -> None:
    """Standard normals into `out`, flat, its length a multiple of 4; four from each 64-bit word."""
    low = np.uint64(0xFFFF)
    for i in range(out.size // 4):
        bits = mix(key + np.uint64(i + 1) * GOLDEN)
        out[4 * i] = quantiles[bits & low]
        out[4 * i + 1] = quantiles[(bits >> np.uint64(16)) & low]
        out[4 * i + 2] = quantiles[(bits >> np.uint64(32)) & low]
        out[4 * i + 3] = quantiles[bits >> np.uint64(48)]
