"""Envelopes to z by the normaliser that serves, a recording at a time, block by block: memory is that of a block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from streaming.signal.normaliser import Normaliser
from streaming.signal.settings import BIN_RATE_HZ, ChainSettings, NormaliserSettings
from training.sessions import needs_statistics

BLOCK_BINS = 10_000
Block = tuple[NDArray[np.float32], NDArray[np.bool_]]  # numbers and usable, both (bins, channels)


class Normalising:
    """Blocks of envelopes (µV) and usable in; z and what is vouched for out. Behind a pause of more than
    `longest_bins` everything begins anew, as live; so does the history that must be there before z is vouched for.

    A file does not tell a pause from a train as long, behind which the chain goes on: there it begins anew as well.
    """

    def __init__(self, settings: NormaliserSettings, channels: int, longest_bins: int) -> None:
        self._settings, self._channels, self._longest = settings, channels, longest_bins
        self._history = settings.min_history_s * BIN_RATE_HZ
        self._bad_bins = 0  # since the last bin that was vouched for, or since the beginning
        self._heard = False
        self._begin()

    def _begin(self) -> None:
        self._normaliser = Normaliser(self._settings, self._channels)
        self._seen = np.zeros(self._channels, np.int64)  # usable bins of each channel

    def push(self, envelope_uv: NDArray[np.float32] | None, usable: NDArray[np.bool_]) -> Block:
        """Without envelopes z is not computed, and 0."""
        good = np.flatnonzero(usable.any(axis=1))
        since = np.diff(good, prepend=-1 - self._bad_bins) - 1
        anew = good[(since > self._longest) & ((np.arange(len(good)) > 0) | self._heard)]
        z, vouched = np.zeros(usable.shape, np.float32), usable.copy()
        for first, end in zip([0, *anew], [*anew, len(z)], strict=True):
            if first in anew:
                self._begin()
            part = usable[first:end]
            if envelope_uv is not None:
                z[first:end] = self._normaliser.push(envelope_uv[first:end], part.any(axis=1), part)
            if (self._seen < self._history).any():  # else there is nothing to count, and counting takes long
                vouched[first:end] &= self._seen + np.cumsum(part, axis=0) >= self._history
            self._seen += part.sum(axis=0)
        self._heard |= len(good) > 0
        self._bad_bins = len(z) - 1 - int(good[-1]) if len(good) else self._bad_bins + len(z)
        return z, vouched


def longest_bins(chain: ChainSettings) -> int:
    """Bins that a pause may lose before the chain begins anew; those in which its filters settle are lost, too."""
    return round((chain.longest_gap_s + chain.start_settle_s) * BIN_RATE_HZ)


def normalised(blocks: Iterable[Block], chain: ChainSettings, channels: int) -> Iterator[Block]:
    """Blocks of envelope as a session stores them: z, or the envelope itself where statistics come later."""
    if needs_statistics(chain.to_dict()):
        yield from blocks  # fitted statistics need not have seen any history
        return
    normalising = Normalising(chain.normaliser, channels, longest_bins(chain))
    for envelope_uv, usable in blocks:
        yield normalising.push(envelope_uv, usable)


def normalise(
    envelope_uv: NDArray[np.float32], valid: NDArray[np.bool_], usable: NDArray[np.bool_], chain: ChainSettings
) -> NDArray[np.float32]:
    """A whole recording (bins, channels) through the normaliser that serves; a new one behind each long pause."""
    normalising = Normalising(chain.normaliser, envelope_uv.shape[1], longest_bins(chain))
    return np.concatenate(
        [normalising.push(envelope_uv[at], usable[at] & valid[at, None])[0] for at in blocks_of(len(envelope_uv))]
    )


def settled(usable: NDArray[np.bool_], chain: ChainSettings) -> NDArray[np.bool_]:
    """Usable bins (bins, channels) less those of which the normaliser has not seen enough to vouch for a z value."""
    if needs_statistics(chain.to_dict()):
        return usable
    normalising = Normalising(chain.normaliser, usable.shape[1], longest_bins(chain))
    return np.concatenate([normalising.push(None, usable[at])[1] for at in blocks_of(len(usable))])


def blocks_of(bins: int) -> Iterator[slice]:
    return (slice(first, min(first + BLOCK_BINS, bins)) for first in range(0, bins, BLOCK_BINS))
