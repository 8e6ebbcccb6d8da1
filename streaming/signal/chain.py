"""The signal chain of one stream: raw samples in, envelope bins and z values out, however the samples are cut.

    blank · re-reference · clip · band-pass · rectify · low-pass · pool · normalise

Time is the absolute sample index. What happens to the stream stands on one timeline of stretches: blanked (a train of
stimulation, bridged by a straight line), lost (never arrived), and moments at which the operator's mask changes. The
chain walks along it. A marker that comes late rewinds to the last snapshot before its train and walks again over the
raw samples that are kept; the result is the one that a timely marker would have given, to the bit.

State: three arrays (see kernel.py) that a snapshot copies, the ring of the last raw samples, the rings of bins.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault, RigFault
from streaming.signal import kernel as kn
from streaming.signal.design import BinGrid, design
from streaming.signal.robust import RobustWindow
from streaming.signal.settings import BIN_RATE_HZ, ChainSettings

SNAPSHOT_BINS = 10
RAMP_ROWS = 1024
NEVER = 2**62

REASON_START, REASON_BLANK, REASON_GAP = kn.REASON_START, kn.REASON_BLANK, kn.REASON_GAP
REASON_HISTORY = kn.REASON_HISTORY
ENVELOPE_REASONS = REASON_START | REASON_BLANK | REASON_GAP


class LateMarker(RigFault):
    """A marker came too late to be honoured: what was computed since its train rests on an artifact."""


Snapshot = tuple[int, NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]


@dataclass(slots=True)
class Blank:
    """Samples [start, end) that carry a stimulation artifact. `end` is NEVER while an expected train awaits its marker,
    which must come before sample `deadline`."""

    start: int
    end: int
    deadline: int = NEVER


class Bins:
    """The bins [first_bin, end_bin) that one push finished; each property copies its part of the chain's rings.

    `first_bin` may lie behind the end of the bins before it (a long gap: nothing is made up for what was never there).
    Read it before more than about a second of further samples is pushed.
    """

    __slots__ = ("chain", "end_bin", "first_bin")

    def __init__(self, chain: SignalChain, first_bin: int, end_bin: int) -> None:
        self.chain, self.first_bin, self.end_bin = chain, first_bin, end_bin

    def __len__(self) -> int:
        return self.end_bin - self.first_bin

    @property
    def envelope_uv(self) -> NDArray[np.float32]:
        """float32 (bins, channels), microvolts."""
        return self.chain.plane(kn.ENVELOPE, self.first_bin, self.end_bin)

    @property
    def z(self) -> NDArray[np.float32]:
        """float32 (bins, channels); 0 where it is not vouched for."""
        return self.chain.z(self.first_bin, self.end_bin)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """bool (bins,): not settling, not blanked, not lost."""
        return np.asarray(self.chain.reasons(self.first_bin, self.end_bin) & ENVELOPE_REASONS == 0)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """bool (bins, channels): valid, in the mask, alive and finite."""
        return self.chain.plane(kn.OK, self.first_bin, self.end_bin) > 0


class SignalChain:
    """The chain for one stream.

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
        frozen: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    ) -> None:
        self.settings = settings
        self.rate_hz = rate_hz
        self.n_channels = n_channels
        self.grid = BinGrid.of(rate_hz)
        normaliser = settings.normaliser
        self._window_bins = round(normaliser.window_s * BIN_RATE_HZ)
        self._min_history = round(normaliser.min_history_s * BIN_RATE_HZ)
        self._most = self.grid.first_sample(SNAPSHOT_BINS)  # samples a call of the kernel: snapshots stay dense
        self._longest_gap = int(settings.longest_gap_s * rate_hz)
        self._tiles, self._lanes = kn.tiling(n_channels)
        self._padded = self._tiles * self._lanes
        self._mask = np.ones(n_channels, bool) if mask is None else self._checked_mask(mask)
        self._frozen = self._checked_frozen(frozen)
        history = round(settings.rewind_s * BIN_RATE_HZ)
        self._rings = kn.aligned((self._window_bins + history + 1024, kn.N_PLANES, self._padded))
        self._reasons = np.zeros(len(self._rings), np.int32)
        self._raw = kn.aligned((int((settings.rewind_s + 0.1) * rate_hz), self._padded))
        self._ramp = kn.aligned((RAMP_ROWS, self._padded))
        self._f32 = kn.aligned((self._tiles * kn.N_TILE_ROWS * kn.MOST_LANES + kn.N_F32_ROWS * self._padded + kn.TAIL,))
        self._f64 = kn.aligned((self._tiles * kn.N_F64 * kn.MOST_LANES + kn.N_FILTERS64,), np.float64)
        self._i64 = kn.aligned((kn.N_SCALARS + kn.N_FACTS * self._padded + kn.N_K,), np.int64)
        scratch = kn.aligned((kn.SEGMENT, self._padded))
        self._memory = (self._f32, self._f64, self._i64, self._rings, self._reasons, scratch)
        self._blanks: list[Blank] = []
        self._begin(0)

    def _begin(self, first_sample: int) -> None:
        """Everything new, from this sample on; only the operator's mask stays, and blanks still to come."""
        self._first_sample = self._received = first_sample
        self._first_bin = self.grid.bin_of(first_sample)
        for memory in (self._f32, self._f64, self._i64, self._rings, self._reasons):
            memory[...] = 0
        self._rings[:, kn.Z] = np.nan
        self._reasons[:] = REASON_START  # bins from before the stream
        self._write_constants()
        at = self._next_bin = self._first_bin
        self._i64[[kn.NEXT_SAMPLE, kn.NEXT_BIN]] = first_sample, at
        self._i64[[kn.BIN_START, kn.BIN_END]] = self.grid.first_sample(at), self.grid.first_sample(at + 1)
        self._i64[[kn.FRESH, kn.WEIGH]] = 1
        self._i64[kn.SETTLE_START] = first_sample + int(self.settings.start_settle_s * self.rate_hz)
        self._facts()[kn.MASK, : self.n_channels] = self._mask
        kn.weigh(self._f32, self._i64, self._padded)
        if self._frozen is not None:
            self._channels(kn.CENTRE)[:] = self._pad(self._frozen[0], 0.0)
            self._channels(kn.SCALE)[:] = self._pad(1.4826 * self._frozen[1], 1.0)
        self._robust = (
            RobustWindow(self._window_bins, self._min_history, self.settings.normaliser.floor_uv, self._padded, at)
            if self.settings.normaliser.kind == "robust_trailing"
            else None
        )
        self._gaps: list[tuple[int, int]] = []
        self._blanks = [blank for blank in self._blanks if blank.end > first_sample]
        for blank in self._blanks:
            blank.start = max(blank.start, first_sample)
        self._masks: list[tuple[int, NDArray[np.bool_]]] = []
        self._snapshots: deque[Snapshot] = deque(maxlen=len(self._raw) // self._most + 8)
        self._snapshot()
        self._plain = not self._blanks

    def _write_constants(self) -> None:
        """The tails of the three arrays: filters, and the constants of the kernel."""
        found, settings = design(self.settings, self.rate_hz), self.settings
        sums = np.zeros((2, kn.LONGEST, 5), np.float32)
        sums[:, : found.sums.shape[1]] = found.sums
        self._f32[-kn.N_FILTERS32 :] = np.concatenate([found.feedback.ravel(), sums.ravel()])
        self._f64[-kn.N_FILTERS64 :] = np.concatenate(
            [found.step.ravel(), found.carry.ravel(), [settings.normaliser.floor_uv]]
        )
        k = self._i64[-kn.N_K :]
        k[[kn.K_CHANNELS, kn.K_NUMERATOR, kn.K_DENOMINATOR]] = (
            self.n_channels,
            self.grid.numerator,
            self.grid.denominator,
        )
        k[[kn.K_WINDOW, kn.K_MIN_HISTORY]] = self._window_bins, self._min_history
        k[kn.K_SETTLE_START] = int(settings.start_settle_s * self.rate_hz)
        k[kn.K_DEAD_BINS] = round(settings.dead_after_s * BIN_RATE_HZ)
        k[kn.K_FROZEN] = self._frozen is not None
        k[[kn.K_SHORT, kn.K_TILES, kn.K_LANES]] = found.lengths[0], self._tiles, self._lanes
        k[kn.K_CLIP] = round(settings.clip_uv)
        k[kn.K_DIRECT] = settings.rewind_s == 0 and self.n_channels == self._padded

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
    def usable(self) -> NDArray[np.bool_]:
        """bool (channels,): in the mask and alive, as the newest bin saw it."""
        facts = self._facts()
        return np.asarray((facts[kn.MASK] != 0) & (facts[kn.DEAD] == 0))[: self.n_channels]

    @property
    def first_bin(self) -> int:
        """Where the chain began, last when a long gap made it begin anew."""
        return self._first_bin

    @property
    def history_bins(self) -> int:
        """How many bins the normaliser looks back; 0 where its statistics are frozen."""
        return 0 if self._frozen is not None else self._window_bins

    @property
    def settled(self) -> bool:
        """The newest bin is vouched for, its normaliser included."""
        return self._next_bin > self._first_bin and not self.reasons(self._next_bin - 1, self._next_bin)[0]

    @property
    def awaits_marker(self) -> bool:
        """An expected blank is open: what is decoded now may turn out to rest on an artifact."""
        return any(blank.end == NEVER for blank in self._blanks)

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
            self._robust.advance(self._rings, after)
        return Bins(self, before, after)

    def _push_any(self, samples_uv: NDArray[np.float32], first_sample: int) -> Bins:
        if first_sample < self._received:
            raise RigFault(f"samples: found sample {first_sample} again, expected {self._received}")
        lost = first_sample - self._received
        if lost > self._longest_gap or (lost and self._received == self._first_sample):
            for _, mask in self._masks:
                self._mask = mask
            self._begin(first_sample)
        elif lost:
            self._gaps.append((self._received, first_sample))
            self._received = first_sample
            self._plain = False
        before = self.next_bin
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
        return Bins(self, min(before, self.next_bin), self.next_bin)

    def window(self, last_bin: int, window: NDArray[np.float32], usable: NDArray[np.bool_]) -> int:
        """Copy the z values of the bins that end with `last_bin` into `window` (channels, bins), and which channels are
        usable throughout into `usable` (channels,). Returns, as bits, the reasons not to vouch for it; 0: whole.
        """
        first = last_bin + 1 - window.shape[1]
        done = range(max(first, self._first_bin), min(last_bin + 1, self._next_bin))
        reason = REASON_START if first < self._first_bin else 0
        if last_bin >= self._next_bin:  # held back until a blanked stretch ends, whatever still settles meanwhile
            start = self.grid.first_sample(max(first, self._next_bin))
            reason |= REASON_BLANK
            reason |= REASON_GAP if start < self._i64[kn.SETTLE_GAP] else 0
            reason |= REASON_START if start < self._i64[kn.SETTLE_START] else 0
        if reason:
            return reason | int(np.bitwise_or.reduce(self.reasons(done.start, done.stop), initial=0))
        return int(kn.read_window(self._rings, self._reasons, first, window, usable))

    def plane(self, which: int, first_bin: int, end_bin: int) -> NDArray[np.float32]:
        """A copy of one plane of the rings, (bins, channels)."""
        slots = np.arange(first_bin, end_bin) % len(self._rings)
        return self._rings[slots, which, : self.n_channels]

    def z(self, first_bin: int, end_bin: int) -> NDArray[np.float32]:
        """A copy of the z values, (bins, channels); 0 where they are not vouched for."""
        return np.nan_to_num(self.plane(kn.Z, first_bin, end_bin))

    def recent(self, first_bin: int, end_bin: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(mean envelope in microvolts, newest z) of the last bins, each (channels,): for a display."""
        first_bin = max(first_bin, self._first_bin)
        if first_bin >= end_bin:
            return np.zeros(self.n_channels, np.float32), np.zeros(self.n_channels, np.float32)
        envelope = self.plane(kn.ENVELOPE, first_bin, end_bin)
        return envelope.mean(axis=0), self.z(end_bin - 1, end_bin)[0]

    def reasons(self, first_bin: int, end_bin: int) -> NDArray[np.uint8]:
        """Why each bin is not vouched for, as bits; 0 where it is."""
        slots = np.arange(first_bin, end_bin) % len(self._reasons)
        return (self._reasons[slots] & kn.ALL_REASONS).astype(np.uint8)

    def usable_at(self, at: int) -> int:
        """How many channels were in the mask and alive at this bin, or at the last finished one before it."""
        at = min(at, self._next_bin - 1)
        if at < self._first_bin:  # none is finished: nobody has died yet
            return int(np.count_nonzero(self._mask))
        return int(self._reasons[at % len(self._reasons)] >> kn.COUNT_SHIFT)

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
        expected = [blank for blank in self._blanks if confirms and blank.end == NEVER and blank.start <= end]
        if any(blank.start <= start and end <= blank.end < NEVER for blank in self._blanks):
            self._blanks = [blank for blank in self._blanks if blank not in expected]
            self._advance()
            return None  # the same train, told twice
        touching = [blank for blank in self._blanks if blank.end != NEVER and blank.start <= end and start <= blank.end]
        start = min([start] + [blank.start for blank in touching])
        end = max([end] + [blank.end for blank in touching])
        changed = None
        if start < int(self._i64[kn.NEXT_SAMPLE]):
            changed = self._rewind(start)
        others = [blank for blank in self._blanks if blank not in expected + touching]
        self._blanks = sorted([*others, Blank(start, end)], key=lambda blank: blank.start)
        self._plain = False
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
        onset_sample = max(onset_sample, int(self._i64[kn.NEXT_SAMPLE]))
        deadline = onset_sample + round(timeout_s * self.rate_hz)
        self._blanks.append(Blank(onset_sample, NEVER, deadline))
        self._blanks.sort(key=lambda blank: blank.start)
        self._plain = False

    def set_mask(self, mask: NDArray[np.bool_], from_sample: int) -> int:
        """The operator's usable channels, effective from the first whole bin at or after `from_sample`.

        Returns the sample from which it holds: never one that has been processed already.
        """
        mask = self._checked_mask(mask)
        from_sample = max(from_sample, self._received)
        at = self.grid.first_sample(self.grid.bin_of(from_sample - 1) + 1) if from_sample else 0
        self._masks.append((at, mask))
        self._masks.sort(key=lambda change: change[0])
        self._plain = False
        self._advance()
        return at

    # The walk --------------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Walk along the timeline as far as the samples allow."""
        while True:
            at = int(self._i64[kn.NEXT_SAMPLE])
            for change_at, mask in self._masks:
                if change_at <= at:
                    self._apply_mask(mask)
            gap = next((g for g in self._gaps if g[1] > at), None)
            blank = next((b for b in self._blanks if b.end > at), None)
            if gap is not None and gap[0] <= at:
                self._lose(gap[1], blank)
                continue
            limit = self._received
            if gap is not None:
                limit = min(limit, gap[0])
            if blank is not None and blank.start <= at:
                if not self._bridge(blank, gap):
                    break
                continue
            if blank is not None:
                limit = min(limit, blank.start)
            later = [change_at for change_at, _ in self._masks if change_at > at]
            if later:
                limit = min(limit, min(later))
            if at >= limit:
                break
            self._process_raw(at, min(limit, at + self._most))
        self._forget()
        if self._robust is not None:
            self._robust.advance(self._rings, self.next_bin)

    def _process_raw(self, at: int, limit: int) -> None:
        row = at % len(self._raw)
        n = min(limit - at, len(self._raw) - row)
        self._process(self._raw, row, n)
        if self.next_bin >= self._snapshot_due:
            self._snapshot()

    def _process(self, source: NDArray[np.float32], row: int, n: int) -> None:
        self._next_bin = kn.process(source, row, n, *self._memory)

    def _lose(self, to_sample: int, blank: Blank | None) -> None:
        """Nothing came up to `to_sample`: the filters start anew behind it (behind the blank, if it lies in one).

        The timeline stays as it is, because a late marker may make the chain walk here again.
        """
        if blank is not None and blank.start < to_sample < blank.end and blank.end != NEVER:
            to_sample = blank.end
        settle = to_sample + int(self.settings.start_settle_s * self.rate_hz)
        self._i64[kn.SETTLE_GAP] = max(self._i64[kn.SETTLE_GAP], settle)
        self._next_bin = kn.skip(to_sample, *self._memory)

    def _bridge(self, blank: Blank, gap: tuple[int, int] | None) -> bool:
        """Replace the rest of a blanked stretch by a straight line. False while its first good sample is not here."""
        at = int(self._i64[kn.NEXT_SAMPLE])
        if blank.end == NEVER:
            if self._received < blank.deadline:
                return False
            self._blanks.remove(blank)  # no marker came: what was held back is data like any other
            return True
        if gap is not None and gap[0] <= blank.end:
            # samples are lost before the line could end: nothing to draw it to, and the filters restart anyway
            self._i64[kn.SETTLE_BLANK] = max(self._i64[kn.SETTLE_BLANK], gap[1])
            self._lose(gap[1], blank)
            return True
        if self._received <= blank.end:
            return False
        target = self._raw[blank.end % len(self._raw)].astype(np.float64)
        anchor = target if self._i64[kn.FRESH] else kn.last_sample(self._f32, self._padded).astype(np.float64)
        self._i64[kn.SETTLE_BLANK] = max(
            self._i64[kn.SETTLE_BLANK], blank.end + round(self.settings.blank_settle_s * self.rate_hz)
        )
        step = (target - anchor) / (blank.end - blank.start + 1)
        while at < blank.end:
            n = min(blank.end - at, RAMP_ROWS)
            along = np.arange(at - blank.start + 1, at - blank.start + 1 + n, dtype=np.float64)
            self._ramp[:n] = anchor + along[:, None] * step
            self._process(self._ramp, 0, n)
            at += n
        return True

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
        _, f32, f64, i64 = self._snapshots[-1]
        self._f32[:], self._f64[:], self._i64[:] = f32, f64, i64
        self._next_bin = int(self._i64[kn.NEXT_BIN])
        self._snapshot_due = self.next_bin + SNAPSHOT_BINS
        if self._robust is not None:
            self._robust.rewind(self._rings, self.next_bin)
        return self.grid.bin_of(to_sample)

    def _snapshot(self) -> None:
        if self.settings.rewind_s == 0:
            self._snapshot_due = NEVER
            return
        self._snapshots.append((int(self._i64[kn.NEXT_SAMPLE]), self._f32.copy(), self._f64.copy(), self._i64.copy()))
        self._snapshot_due = self.next_bin + SNAPSHOT_BINS

    def _forget(self) -> None:
        """Drop from the timeline what no rewind can reach any more; back to the fast path when nothing is left."""
        oldest = self._received - len(self._raw)
        self._gaps = [gap for gap in self._gaps if gap[1] > oldest]
        self._blanks = [blank for blank in self._blanks if blank.end > oldest]
        self._masks = [change for change in self._masks if change[0] > oldest]
        at = int(self._i64[kn.NEXT_SAMPLE])
        self._plain = (
            at == self._received
            and all(blank.end <= at for blank in self._blanks)
            and all(change_at <= at for change_at, _ in self._masks)
        )

    # Small parts -----------------------------------------------------------------------------------------------------

    def _facts(self) -> NDArray[np.int64]:
        return self._i64[kn.N_SCALARS : -kn.N_K].reshape(kn.N_FACTS, self._padded)

    def _channels(self, row: int) -> NDArray[np.float64]:
        """A view of one float64 row of state, (tiles, lanes)."""
        return self._f64[: -kn.N_FILTERS64].reshape(self._tiles, kn.N_F64, kn.MOST_LANES)[:, row, : self._lanes]

    def _pad(self, values: NDArray[np.float64], filler: float) -> NDArray[np.float64]:
        padded = np.full(self._padded, filler)
        padded[: self.n_channels] = values
        return padded.reshape(self._tiles, self._lanes)

    def _apply_mask(self, mask: NDArray[np.bool_]) -> None:
        self._mask = mask
        row = self._facts()[kn.MASK, : self.n_channels]
        if not np.array_equal(row != 0, mask):
            row[:] = mask
            self._i64[kn.WEIGH] = 1

    def _checked_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if np.shape(mask) != (self.n_channels,) or np.asarray(mask).dtype != bool:
            raise OperatorFault(
                f"channel mask: found {np.asarray(mask).dtype} of shape {np.shape(mask)}, expected {self.n_channels} "
                "true or false values, one for each channel"
            )
        return np.array(mask)

    def _checked_frozen(
        self, frozen: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        if self.settings.normaliser.kind not in ("robust_frozen", "robust_session"):
            return None
        if frozen is None or any(np.shape(part) != (self.n_channels,) for part in frozen):
            raise OperatorFault(
                f"normaliser {self.settings.normaliser.kind}: found no median and MAD for {self.n_channels} channels; "
                "fit them on a calibration block first"
            )
        return frozen
