"""The signal chain of one stream: raw samples in, envelope bins and z values out, however the samples are cut.

    blank · re-reference · clip · band-pass · rectify · low-pass · pool · normalise

Time is the absolute sample index. What happens to the stream stands on its timeline (timeline.py), and the chain walks
along it. A marker that comes late rewinds to the last snapshot before its train and walks again over the raw samples
that are kept; the result is the one that a timely marker would have given, to the bit.

It owns the state that a snapshot copies (state.py), the ring of the last raw samples and the rings of bins (bins.py).
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault, RigFault
from streaming.signal import kernel as kn
from streaming.signal.bins import ENVELOPE_REASONS, REASON_BLANK, REASON_START, Bins, Rings
from streaming.signal.design import BinGrid
from streaming.signal.normaliser import Frozen, frozen_statistics
from streaming.signal.robust import RobustWindow
from streaming.signal.settings import BIN_RATE_HZ, ChainSettings
from streaming.signal.state import Snapshot, State
from streaming.signal.timeline import NEVER, Timeline

SNAPSHOT_BINS = 10
RAMP_ROWS = 1024


class LateMarker(RigFault):
    """A marker came too late to be honoured: what was computed since its train rests on an artifact."""


class SignalChain:
    """The chain for one stream. `rings` holds its newest bins.

    Args:
        settings: fixed for the life of a bundle.
        rate_hz: 15 to 40 kHz.
        n_channels: channels of the stream.
        mask: bool (channels,), the bundle's or operator's usable channels; all where None.
        frozen: (median_uv, mad_uv), each (channels,), for the `robust_frozen` and `robust_session` normalisers.

    Raises:
        RigFault: a rate that the chain does not take.
        OperatorFault: a mask of another size, or a frozen normaliser without its statistics.
    """

    def __init__(
        self,
        settings: ChainSettings,
        rate_hz: float,
        n_channels: int,
        mask: NDArray[np.bool_] | None = None,
        frozen: Frozen | None = None,
    ) -> None:
        self.settings = settings
        self.rate_hz = rate_hz
        self.n_channels = n_channels
        self.grid = BinGrid.of(rate_hz)
        normaliser = settings.normaliser
        self._window_bins = round(normaliser.window_s * BIN_RATE_HZ)
        self._most = self.grid.first_sample(SNAPSHOT_BINS)  # samples a call of the kernel: snapshots stay dense
        self._longest_gap = int(settings.longest_gap_s * rate_hz)
        self._mask = np.ones(n_channels, bool) if mask is None else self._checked_mask(mask)
        frozen = frozen_statistics(normaliser, n_channels, frozen)
        self.history_bins = 0 if frozen is not None else self._window_bins  # how far back the normaliser looks
        self._state = State(settings, self.grid, rate_hz, n_channels, frozen)
        padded = self._state.padded
        history = round(settings.rewind_s * BIN_RATE_HZ)
        self.rings = Rings(self._window_bins + history + 1024, n_channels, padded)
        self._raw = kn.aligned((int((settings.rewind_s + 0.1) * rate_hz), padded))
        self._ramp = kn.aligned((RAMP_ROWS, padded))
        scratch = kn.aligned((kn.SEGMENT, padded))
        state = self._state
        self._memory = (state.f32, state.f64, state.i64, self.rings.values, self.rings.facts, scratch)
        self._timeline = Timeline(int(settings.start_settle_s * rate_hz), round(settings.blank_settle_s * rate_hz))
        self._begin(0)

    def _begin(self, first_sample: int) -> None:
        """Everything new, from this sample on; only the operator's mask stays, and masks and blanks still to come."""
        self._first_sample = self._received = first_sample
        self._timeline.begin(first_sample)
        self._state.begin(first_sample, self._mask)
        self.rings.clear()
        self._first_bin = self._next_bin = self._state.next_bin
        normaliser, self._robust = self.settings.normaliser, None
        if normaliser.kind == "robust_trailing":
            least = round(normaliser.min_history_s * BIN_RATE_HZ)
            self._robust = RobustWindow(
                self._window_bins, least, normaliser.floor_uv, self._state.padded, self._first_bin
            )
        self._snapshots: deque[tuple[int, Snapshot]] = deque(maxlen=len(self._raw) // self._most + 8)
        self._snapshot()
        self._plain = self._timeline.over(first_sample)

    # What has been seen ----------------------------------------------------------------------------------------------

    @property
    def next_sample(self) -> int:
        """The absolute index of the sample expected next."""
        return self._received

    @property
    def next_bin(self) -> int:
        """The bin after the last finished one. While a blank is open, bins wait for its end."""
        return self._next_bin

    @property
    def first_bin(self) -> int:
        """Where the chain began, last when a long gap made it begin anew."""
        return self._first_bin

    @property
    def usable(self) -> NDArray[np.bool_]:
        """bool (channels,): in the mask and alive, as the newest bin saw it."""
        return self._state.usable

    def usable_at(self, at: int) -> int:
        """How many channels were in the mask and alive at this bin, or at the last finished one before it."""
        at = min(at, self._next_bin - 1)
        if at < self._first_bin:  # none is finished: nobody has died yet
            return int(np.count_nonzero(self._mask))
        return self.rings.n_usable(at)

    @property
    def settled(self) -> bool:
        """The newest bin is vouched for, its normaliser included."""
        return self._next_bin > self._first_bin and not self.rings.reasons(self._next_bin - 1, self._next_bin)[0]

    @property
    def awaits_marker(self) -> bool:
        """An expected blank is open: what is decoded now may turn out to rest on an artifact."""
        return self._timeline.awaits_marker

    def window(self, last_bin: int, window: NDArray[np.float32], usable: NDArray[np.bool_], may_settle: int = 0) -> int:
        """Copy the z values of the bins that end with `last_bin` into `window` (channels, bins), and which channels are
        usable throughout into `usable` (channels,). Returns, as bits, the reasons not to vouch for it; 0: whole, but
        for as many as `may_settle` bins at its beginning (see Rings.read).
        """
        first = last_bin + 1 - window.shape[1]
        reason = REASON_START if first < self._first_bin else 0
        if last_bin >= self._next_bin:  # held back until a blanked stretch ends, whatever still settles meanwhile
            waiting = self.grid.first_sample(max(first, self._next_bin))
            reason |= REASON_BLANK | self._state.settling(waiting)
        if reason:
            done = self.rings.reasons(max(first, self._first_bin), min(last_bin + 1, self._next_bin))
            return reason | int(np.bitwise_or.reduce(done, initial=0))
        return self.rings.read(first, window, usable, may_settle)

    def recent(self, first_bin: int, end_bin: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(mean envelope in microvolts, newest z) of the last bins, each (channels,): for a display."""
        first_bin = max(first_bin, self._first_bin)
        if first_bin >= end_bin:
            return np.zeros(self.n_channels, np.float32), np.zeros(self.n_channels, np.float32)
        envelope = self.rings.plane(kn.ENVELOPE, first_bin, end_bin)
        return envelope.mean(axis=0), self.rings.z(end_bin - 1, end_bin)[0]

    def noise_uv(self, first_bin: int, end_bin: int) -> NDArray[np.float32]:
        """Standard deviation of the envelope over the bins vouched for among these, microvolts (channels,); NaN where
        there are fewer than two: for a display."""
        first_bin = min(max(first_bin, self._first_bin), end_bin)
        good = (self.rings.reasons(first_bin, end_bin) & ENVELOPE_REASONS) == 0
        if np.count_nonzero(good) < 2:
            return np.full(self.n_channels, np.nan, np.float32)
        noise_uv: NDArray[np.float32] = self.rings.plane(kn.ENVELOPE, first_bin, end_bin)[good].std(axis=0)
        return noise_uv

    def last_burst(self, first_bin: int, end_bin: int, last: int, *limits: float) -> int:
        """The last of the finished ones among these bins that is part of a burst, or `last` (see Rings.last_burst)."""
        oldest = self._next_bin - len(self.rings.facts)
        first, end = max(first_bin, self._first_bin, oldest), min(end_bin, self._next_bin)
        return self.rings.last_burst(first, end, last, *limits)

    # Samples ---------------------------------------------------------------------------------------------------------

    def push(self, samples_uv: NDArray[np.float32], first_sample: int) -> Bins:
        """The next samples, float32 (n, channels); never written to, not kept.

        A jump of `first_sample` is a gap. Under `longest_gap_s` the filters restart and the bins that lost samples are
        invalid; longer, everything starts new. Returns the bins that were finished.

        Raises:
            RigFault: samples that come twice, or of another width.
        """
        n, n_channels = samples_uv.shape
        if n_channels != self.n_channels:
            raise RigFault(f"samples: found {n_channels} channels, expected {self.n_channels}")
        if not self._plain or first_sample != self._received or n > self._most:
            return self._push_any(np.ascontiguousarray(samples_uv, np.float32), first_sample)
        before = self._next_bin
        after = self._next_bin = kn.push(samples_uv, self._raw, *self._memory)
        self._received = first_sample + n
        if after >= self._snapshot_due:
            self._snapshot()
        if self._robust is not None:
            self._robust.advance(self.rings.values, after)
        return Bins(self.rings, before, after)

    def _push_any(self, samples_uv: NDArray[np.float32], first_sample: int) -> Bins:
        if first_sample < self._received:
            raise RigFault(f"samples: found sample {first_sample} again, expected {self._received}")
        lost = first_sample - self._received
        if lost > self._longest_gap or (lost and self._received == self._first_sample):
            self._hold(self._timeline.mask_at(first_sample))
            self._begin(first_sample)
        elif lost:
            self._timeline.lose(self._received, first_sample)
            self._received = first_sample
            self._plain = False
        before = self._next_bin
        if lost:
            self._advance()  # what was held back, before the new samples are written over its rows
        for start in range(0, len(samples_uv), self._most):
            part = samples_uv[start : start + self._most]
            if self._plain:
                self.push(part, self._received)
                continue
            row = self._received % len(self._raw)
            head = min(len(part), len(self._raw) - row)
            self._raw[row : row + head, : self.n_channels] = part[:head]
            self._raw[: len(part) - head, : self.n_channels] = part[head:]
            self._received += len(part)
            self._advance()
        return Bins(self.rings, min(before, self._next_bin), self._next_bin)

    # What happens to the stream --------------------------------------------------------------------------------------

    def stimulation(self, onset_sample: int, last_pulse_end_s: float, confirms: bool = True) -> int | None:
        """Blank a train that began at `onset_sample`. Ahead of the samples, or up to `rewind_s` late. Where it
        `confirms`, it is what an open expected blank waits for, and ends it.

        Returns the first bin whose value changed (None where nothing had been computed yet).

        Raises:
            LateMarker: too late to be honoured; what rests on the artifact is the caller's to reject.
        """
        start = onset_sample - round(self.settings.blank_before_s * self.rate_hz)
        end = onset_sample + round((last_pulse_end_s + self.settings.blank_after_s) * self.rate_hz) + 1
        if end <= self._first_sample:
            return None
        start = max(start, self._first_sample)
        changed, unknown = None, self._timeline.unknown_from(start, end)
        if unknown is not None and unknown < self._state.next_sample:
            changed = self._rewind(unknown)
        self._timeline.blank(start, end, confirms)
        self._advance()
        return changed

    def expect_stimulation(self, onset_sample: int, timeout_s: float) -> None:
        """A trigger of our own just went out: hold the bins back from `onset_sample` until its marker says what
        happened, or until `timeout_s` of samples have passed without one.

        Raises:
            OperatorFault: a timeout beyond the raw samples that are kept.
        """
        if not 0 < timeout_s <= self.settings.rewind_s:
            raise OperatorFault(
                f"expected blank: found a timeout of {timeout_s} s, expected more than 0 and at most "
                f"{self.settings.rewind_s} s, for which raw samples are kept"
            )
        onset_sample = max(onset_sample, self._state.next_sample)
        self._timeline.expect(onset_sample, onset_sample + round(timeout_s * self.rate_hz))
        self._plain = False

    def set_mask(self, mask: NDArray[np.bool_], from_sample: int) -> int:
        """The operator's usable channels, effective from the first whole bin at or after `from_sample`.

        Returns the sample from which it holds: never one that has been processed already.
        """
        mask = self._checked_mask(mask)
        from_sample = max(from_sample, self._received)
        at = self.grid.first_sample(self.grid.bin_of(from_sample - 1) + 1) if from_sample else 0
        self._timeline.set_mask(at, mask)
        self._advance()
        return at

    def _checked_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if np.shape(mask) != (self.n_channels,) or np.asarray(mask).dtype != bool:
            raise OperatorFault(
                f"channel mask: found {np.asarray(mask).dtype} of shape {np.shape(mask)}, expected {self.n_channels} "
                "true or false values, one for each channel"
            )
        return np.array(mask)

    # The walk --------------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Walk along the timeline as far as the samples allow; back to the fast path where nothing is left on it."""
        while True:
            at = self._state.next_sample
            self._hold(self._timeline.mask_at(at))
            step = self._timeline.step(at, self._received)
            if step is None:
                break
            self._state.distrust(step.gap_until, step.blank_until)
            if step.kind == "lost":
                self._next_bin = kn.skip(step.end, *self._memory)
            elif step.kind == "bridge":
                self._bridge(step.start, step.end)
            else:
                self._process_raw(at, min(step.end, at + self._most))
        self._timeline.forget(self._received - len(self._raw))
        self._plain = at == self._received and self._timeline.over(at)
        if self._robust is not None:
            self._robust.advance(self.rings.values, self._next_bin)

    def _hold(self, mask: NDArray[np.bool_] | None) -> None:
        """The operator's mask from here on; None: the one that held."""
        if mask is not None:
            self._mask = mask
            self._state.set_mask(mask)

    def _process_raw(self, at: int, limit: int) -> None:
        row = at % len(self._raw)
        self._process(self._raw, row, min(limit - at, len(self._raw) - row))
        if self._next_bin >= self._snapshot_due:
            self._snapshot()

    def _process(self, source: NDArray[np.float32], row: int, n: int) -> None:
        self._next_bin = kn.process(source, row, n, *self._memory)

    def _bridge(self, start: int, end: int) -> None:
        """Samples [start, end) become a straight line from the last good one to the next, sample `end`."""
        target = self._raw[end % len(self._raw)].astype(np.float64)
        last = self._state.last_sample
        anchor = target if last is None else last.astype(np.float64)
        step = (target - anchor) / (end - start + 1)
        for at in range(self._state.next_sample, end, RAMP_ROWS):
            n = min(end - at, RAMP_ROWS)
            along = np.arange(at - start + 1, at - start + 1 + n, dtype=np.float64)
            self._ramp[:n] = anchor + along[:, None] * step
            self._process(self._ramp, 0, n)

    # Rewinding -------------------------------------------------------------------------------------------------------

    def _rewind(self, to_sample: int) -> int:
        """Back to the newest snapshot at or before `to_sample`; returns the first bin that will be computed again."""
        found = next((i for i in reversed(range(len(self._snapshots))) if self._snapshots[i][0] <= to_sample), None)
        if found is None or self._received - self._snapshots[found][0] >= len(self._raw):
            raise LateMarker(
                f"late marker: found a stimulation {(self._received - to_sample) / self.rate_hz:.2f} s back, expected "
                f"at most {self.settings.rewind_s:g} s; send markers sooner, or raise nothing: the data is rejected"
            )
        while len(self._snapshots) > found + 1:
            self._snapshots.pop()
        self._state.restore(self._snapshots[-1][1])
        self._next_bin = self._state.next_bin
        self._snapshot_due = self._next_bin + SNAPSHOT_BINS
        if self._robust is not None:
            self._robust.rewind(self.rings.values, self._next_bin)
        return self.grid.bin_of(to_sample)

    def _snapshot(self) -> None:
        if self.settings.rewind_s == 0:
            self._snapshot_due = NEVER
            return
        self._snapshots.append((self._state.next_sample, self._state.snapshot()))
        self._snapshot_due = self._next_bin + SNAPSHOT_BINS
