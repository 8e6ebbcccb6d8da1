"""The newest bins of a stream: what they hold, and why one of them is not vouched for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streaming.signal import kernel as kn

REASON_START, REASON_BLANK, REASON_GAP = kn.REASON_START, kn.REASON_BLANK, kn.REASON_GAP
REASON_HISTORY = kn.REASON_HISTORY
ENVELOPE_REASONS = REASON_START | REASON_BLANK | REASON_GAP


class Rings:
    """Rings that the kernel writes: `values` float32 (slots, planes, padded channels), `facts` int32 (slots,): the
    reasons of each bin as bits, above them how many channels were in the mask and alive."""

    def __init__(self, slots: int, n_channels: int, padded: int) -> None:
        self.values = kn.aligned((slots, kn.N_PLANES, padded))
        self.facts = np.zeros(slots, np.int32)
        self._n_channels = n_channels

    def clear(self) -> None:
        """No bin is there."""
        self.values[...] = 0
        self.values[:, kn.Z] = np.nan
        self.facts[:] = REASON_START  # bins from before the stream

    def plane(self, which: int, first_bin: int, end_bin: int) -> NDArray[np.float32]:
        """A copy of one plane, (bins, channels)."""
        return self.values[np.arange(first_bin, end_bin) % len(self.values), which, : self._n_channels]

    def z(self, first_bin: int, end_bin: int) -> NDArray[np.float32]:
        """A copy of the z values, (bins, channels); 0 where they are not vouched for."""
        return np.nan_to_num(self.plane(kn.Z, first_bin, end_bin))

    def reasons(self, first_bin: int, end_bin: int) -> NDArray[np.uint8]:
        """Why each bin is not vouched for, as bits; 0 where it is."""
        slots = np.arange(first_bin, end_bin) % len(self.facts)
        return (self.facts[slots] & kn.ALL_REASONS).astype(np.uint8)

    def n_usable(self, at: int) -> int:
        """How many channels were in the mask and alive in this bin."""
        return int(self.facts[at % len(self.facts)] >> kn.COUNT_SHIFT)

    def read(self, first_bin: int, window: NDArray[np.float32], usable: NDArray[np.bool_], may_settle: int = 0) -> int:
        """Copy z of the bins from `first_bin` on into `window` (channels, bins), and which channels are usable
        throughout into `usable` (channels,); returns the reasons of all of them together.

        Of the first `may_settle` bins those that are blanked, or settle after a blank, are not read: they repeat the
        first bin behind them.
        """
        blanked = self.reasons(first_bin, first_bin + may_settle) == REASON_BLANK
        held = int(np.argmin(np.append(blanked, False)))
        if not held:
            return int(kn.read_window(self.values, self.facts, first_bin, window, usable))
        behind = np.empty((len(window), window.shape[1] - held), np.float32)
        reason = int(kn.read_window(self.values, self.facts, first_bin + held, behind, usable))
        window[:, :held], window[:, held:] = behind[:, :1], behind
        return reason

    def last_burst(self, first_bin: int, end_bin: int, last: int, *limits: float) -> int:
        """The last of these bins that is part of a burst, or `last`; limits as the kernel's `last_burst` takes them."""
        return int(kn.last_burst(self.values, self.facts, self._n_channels, first_bin, end_bin, last, *limits))


class Bins:
    """The bins [first_bin, end_bin) that one push finished; each property copies its part of the chain's rings.

    `first_bin` may lie behind the end of the bins before it (a long gap: nothing is made up for what was never there).
    Read it before more than about a second of further samples is pushed.
    """

    __slots__ = ("end_bin", "first_bin", "rings")

    def __init__(self, rings: Rings, first_bin: int, end_bin: int) -> None:
        self.rings, self.first_bin, self.end_bin = rings, first_bin, end_bin

    def __len__(self) -> int:
        return self.end_bin - self.first_bin

    @property
    def envelope_uv(self) -> NDArray[np.float32]:
        """float32 (bins, channels), microvolts."""
        return self.rings.plane(kn.ENVELOPE, self.first_bin, self.end_bin)

    @property
    def z(self) -> NDArray[np.float32]:
        """float32 (bins, channels); 0 where it is not vouched for."""
        return self.rings.z(self.first_bin, self.end_bin)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """bool (bins,): not settling, not blanked, not lost."""
        return np.asarray(self.rings.reasons(self.first_bin, self.end_bin) & ENVELOPE_REASONS == 0)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """bool (bins, channels): valid, in the mask, alive and finite."""
        return self.rings.plane(kn.OK, self.first_bin, self.end_bin) > 0
