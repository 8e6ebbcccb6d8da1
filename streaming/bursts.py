"""What strikes the whole array at once is no activity: a cable that is touched, a jaw, an amplifier at its rails.

Its own window shows it, and so does the normaliser for as long as it remembers: what follows is measured against a
spread that the burst made, and every z is smaller than it should be. A decoder that reads power takes that for a state
(docs/decisions/late-markers.md has one firing every 1.5 s), so nothing is vouched for until the burst is forgotten.
"""

from __future__ import annotations

from collections import deque

from streaming.predictions import Flag
from streaming.signal.chain import SignalChain

# One begins where most of the channels are further than BEGINS from their mean in the same bin, and lasts while they
# are further than LASTS: the normaliser soon takes a long one for the usual. Never more than an eighth of the channels
# are beyond BEGINS, and never half beyond LASTS, in 23 minutes of two sessions of the simulated participant. What a
# bundle was fitted to is not asked: no cortex does that.
BEGINS, LASTS = 4.0, 2.0
WITHIN_BINS = 20  # between two bins of one burst
LEAST_CHANNELS = 16  # most of fewer are soon found
NEVER = -(2**62)
KEPT = 4096  # scans that found something: more than a marker can rewind


class Bursts:
    """Of one stream. Every finished bin is looked at once, whether or not its window was decoded; again where a late
    marker changed it."""

    def __init__(self, chain: SignalChain, n_bins: int) -> None:
        self._chain, self._n_bins = chain, n_bins
        # medians do not mind a burst, frozen statistics do not see it
        remembers = chain.history_bins if chain.settings.normaliser.kind == "rolling_z" else 0
        self._forgotten_after = n_bins + remembers
        self._next_bin = 0
        self._found: deque[tuple[int, int]] = deque(maxlen=KEPT)  # the last bin of a burst, and where its scan began

    def flag(self, last_bin: int) -> Flag | None:
        """What the window that ends with this bin must bear: `channels` while a burst is in it, `settling` while the
        normaliser remembers one."""
        first, end = self._next_bin, min(last_bin + 1, self._chain.next_bin)
        before = self._found[-1][0] if self._found else NEVER
        last = self._chain.last_burst(first, end, before, BEGINS, LASTS, WITHIN_BINS, LEAST_CHANNELS)
        if last != before:
            self._found.append((last, first))
        self._next_bin = max(first, end)
        since = last_bin - last
        if since < self._n_bins:
            return "channels"
        return "settling" if since < self._forgotten_after else None

    def changed(self, from_bin: int) -> None:
        """A late marker: these bins are others now."""
        self._next_bin = min(self._next_bin, from_bin)
        while self._found and self._found[-1][0] >= from_bin:
            self._next_bin = min(self._next_bin, self._found.pop()[1])
