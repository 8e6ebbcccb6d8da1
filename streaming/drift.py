"""Is what comes in still what the bundle was fitted to? Two slow means, each held against the bundle's reference.

    MUA         each channel's roughness: ln of the mean square of its steps from bin to bin, in z
    embedding   each number of it, as it is

A window says little, half a minute of windows much: what is compared is a running mean over `over_s`. Its distance from
the reference is the mean, over the components, of their squared deviations in units of the reference's own spread, none
counted beyond BEYOND: a few broken electrodes are the mask's business and no drift. The reference, and the distances
beyond which it says drift, were found on recordings (training/drift_reference.py) and travel in the bundle.

In z every channel has the same size, whatever its gain; how rough it is says how much of it is noise of its own and how
much it shares with its past. Another wire on the channel, another cortex or none is another roughness.

A gain that changed for good is no drift: the normaliser takes it away, and the decoder reads what it read before. While
it does, it is (docs/decisions/drift.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.manifest import DriftReference, Profile
from streaming.signal.settings import BIN_RATE_HZ

EVERY_BINS = 100  # neighbours of 10 ms are nearly the same window
BEYOND = 25.0  # squared spreads
OVER = 0.8  # of the limit: below it, it is over
LEAST = 1e-6  # roughness of a channel that stands still


@dataclass(frozen=True, slots=True)
class DriftStatus:
    """Distances as shares of their limits; NaN until they mean something, `over_s` after the beginning."""

    mua: float
    embedding: float
    drifts: bool


class Means:
    """The two running means over `over_s` seconds: `rough`, by channel, and `embedding`."""

    def __init__(self, n_channels: int, n_bins: int, embedding_size: int, over_s: float) -> None:
        self.rough, self.embedding = np.zeros(n_channels), np.zeros(embedding_size)
        self.looks = 0
        self.enough = round(over_s * BIN_RATE_HZ / EVERY_BINS)  # looks, before which they mean little
        self._least = 1 - math.exp(-EVERY_BINS / BIN_RATE_HZ / over_s)
        self._seen, self._new = (np.zeros(n_channels, bool) for _ in range(2))  # channels, usable so far
        self._steps = np.zeros((n_channels, n_bins - 1), np.float32)
        self._squares = np.zeros(n_channels, np.float32)
        self._now, self._off = np.zeros(n_channels), np.zeros(embedding_size)
        self._last = -1

    def push(
        self, last_bin: int, window: NDArray[np.float32], usable: NDArray[np.bool_], embedding: NDArray[np.float32]
    ) -> bool:
        """A window that was decoded, (channels, bins), its usable channels, and what came out. False for one within the
        same tenth of a second as the one before: it is passed over."""
        tenth = last_bin // EVERY_BINS
        if tenth == self._last:
            return False
        self._last = tenth
        self.looks += 1
        weight = max(1 / self.looks, self._least)
        now, off, steps = self._now, self._off, self._steps
        np.subtract(window[:, 1:], window[:, :-1], out=steps)
        np.einsum("cb,cb->c", steps, steps, out=self._squares)
        np.multiply(self._squares, 1 / steps.shape[1], out=now)
        np.greater(usable, self._seen, out=self._new)
        np.copyto(self.rough, now, where=self._new)  # a channel begins with its first window, not with zero
        self._seen |= usable
        now -= self.rough
        now *= weight
        np.add(self.rough, now, out=self.rough, where=usable)
        np.subtract(embedding, self.embedding, out=off)
        off *= weight
        self.embedding += off
        return True

    def log_rough(self, out: NDArray[np.float64]) -> NDArray[np.float64]:
        """ln of `rough`, (channels,), in `out`."""
        np.maximum(self.rough, LEAST, out=out)
        return np.log(out, out=out)


class Usual:
    """A profile of the reference, and how far a vector is from it."""

    def __init__(self, profile: Profile) -> None:
        self._mean, self._spread = (np.array(part, np.float64) for part in (profile.mean, profile.spread))
        self._limit = profile.limit

    def share(self, off: NDArray[np.float64], which: NDArray[np.bool_] | bool = True) -> float:
        """The distance of the vector `off`, over its components `which`, as a share of the limit. Writes over `off`."""
        off -= self._mean
        off /= self._spread
        off *= off
        np.minimum(off, BEYOND, out=off)
        return float(np.mean(off, where=which)) / self._limit


class Drift:
    """Of one stream and one bundle. Pure; nothing that grows with a window is allocated."""

    def __init__(self, reference: DriftReference, n_bins: int) -> None:
        self._mua, self._embedding = Usual(reference.mua), Usual(reference.embedding)
        n_channels, size = len(reference.mua.mean), len(reference.embedding.mean)
        self._means = Means(n_channels, n_bins, size, reference.over_s)
        self._rough, self._vector = np.zeros(n_channels), np.zeros(size)
        self._shares = math.nan, math.nan
        self.drifts = False

    def look(
        self, last_bin: int, window: NDArray[np.float32], usable: NDArray[np.bool_], embedding: NDArray[np.float32]
    ) -> None:
        """A window that was decoded, as `Means.push` takes it."""
        means = self._means
        if not means.push(last_bin, window, usable, embedding) or means.looks < means.enough:
            return
        self._vector[:] = means.embedding
        self._shares = (
            self._mua.share(means.log_rough(self._rough), usable),
            self._embedding.share(self._vector),
        )
        most = max(self._shares)
        self.drifts = most > 1.0 or (self.drifts and most > OVER)

    def status(self) -> DriftStatus:
        return DriftStatus(*self._shares, self.drifts)
