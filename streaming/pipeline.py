"""From chunks to predictions, without a clock, a thread or a file: what `serve` and `decode` both run.

`push` takes a chunk and says which windows became due; `decode` turns a due window into a prediction. Between the two
the caller may skip windows (live, where only the newest counts) or take them all (offline): the numbers are the same,
because a window depends on nothing but the samples before its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.decoder import Decoder
from models.manifest import DriftReference
from streaming.bursts import Bursts
from streaming.chunk import Chunk, StreamInfo
from streaming.drift import Drift
from streaming.events import Stimulation
from streaming.expected import Expected, Pulse
from streaming.limits import LONGEST_TRAIN_S
from streaming.predictions import Flag, Latency, Mode, Prediction
from streaming.signal.bins import REASON_BLANK, REASON_GAP, REASON_HISTORY, REASON_START
from streaming.signal.chain import LateMarker, SignalChain
from streaming.signal.settings import BIN_RATE_HZ, ChainSettings

EVOKED_START_BINS = 170  # the evoked window of 128 bins is [170, 298) ms after onset; a longer one ends later
EVOKED_SETTLE_BINS = 4  # of which so many may still settle: docs/decisions/trains-without-pulses.md
STUCK = 100  # windows in a row to which a network gives one and the same probability: it does not read them
TRAINS_KEPT = 64  # more than a normaliser's window holds

_REASONS: tuple[tuple[int, Flag], ...] = (
    (REASON_GAP, "gap"),
    (REASON_BLANK, "blanking"),
    (REASON_START | REASON_HISTORY, "settling"),
)


@dataclass(frozen=True, slots=True)
class DecodingSettings:
    """What a bundle asks of the stream. `calibrated` says whether its probabilities hold for this participant, array
    and rate; `frozen` is (median_uv, mad_uv) where the chain normalises by stored statistics; `drift` what the input is
    held against, where the bundle says."""

    chain: ChainSettings
    n_channels: int
    n_bins: int
    min_usable_channels: int
    calibrated: bool
    mode: Mode = "continuous"
    hop_bins: int = 10
    mask: NDArray[np.bool_] | None = None  # the channels that the bundle was fitted with
    frozen: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    drift: DriftReference | None = None

    def same_windows(self, other: DecodingSettings) -> bool:
        """Whether a bundle of these settings reads the very windows that one of the others reads."""
        told = [(one.chain, one.n_channels, one.n_bins, one.mode, one.hop_bins) for one in (self, other)]
        return told[0] == told[1] and _equal(self.mask, other.mask) and _equal(self.frozen, other.frozen)


@dataclass(frozen=True, slots=True)
class Due:
    """A window that may be decoded now: the bins up to `last_bin`. `backlog`: its newest samples arrived too late.
    `drifts`: where it is told and not measured (a session that is decided again)."""

    last_bin: int
    last_sample: int
    epoch: int
    sample_time: float
    trial: int | None
    backlog: bool
    drifts: bool = False


@dataclass(frozen=True, slots=True)
class Revision:
    """Predictions whose newest sample lies in [first_sample, last_sample] rest on bins that a late marker changed."""

    first_sample: int
    last_sample: int


class Pipeline:
    """One stream of one epoch; a reconnect makes a new one.

    Args:
        settings: see DecodingSettings.
        info: the stream; its rate and channels may differ from the bundle's, then nothing is decoded (flag `channels`).
        next_seq: numbers the predictions; shared by the pipelines of a run.
        operator_mask: bool (channels,), on top of the bundle's.
    """

    def __init__(
        self,
        settings: DecodingSettings,
        info: StreamInfo,
        next_seq: Callable[[], int],
        operator_mask: NDArray[np.bool_] | None = None,
    ) -> None:
        self.settings = settings
        self.info = info
        fits = info.n_channels == settings.n_channels
        every = np.ones(info.n_channels, bool)
        self._bundle_mask = settings.mask if fits and settings.mask is not None else every
        self.chain = SignalChain(
            settings.chain,
            info.rate_hz,
            info.n_channels,
            self._bundle_mask & (every if operator_mask is None else operator_mask),
            settings.frozen if fits else _unit_statistics(info.n_channels),
        )
        self._decodable = fits
        self._next_seq = next_seq
        self._window = np.zeros((info.n_channels, settings.n_bins), np.float32)
        self._usable = np.zeros(info.n_channels, bool)
        self._hop_bin = settings.hop_bins - 1  # the next continuous window ends with this bin
        self._trials: list[tuple[int, int | None]] = []  # evoked windows to come: (last bin, trial)
        # artifacts that we were told of: first sample, end, trial
        self._trains: deque[tuple[int, int, int | None]] = deque(maxlen=TRAINS_KEPT)
        self._spoilt_to = -(2**62)  # the last sample of those that a marker came too late for
        self._tainted = (0, -1)  # and the bins in which nothing is vouched for because of them
        self._expected = Expected()
        self._bursts = Bursts(self.chain, settings.n_bins)
        self._said: float | None = None  # the last probability, and how often in a row
        self._same = 0
        self.drift = _drift(settings)
        self._unseen: tuple[int, NDArray[np.float32]] | None = None  # last bin and embedding of the window held here
        self.late_markers = 0

    def push(self, chunk: Chunk) -> list[Due]:
        """The next samples; returns the windows that they complete, oldest first."""
        self.chain.push(chunk.samples_uv, chunk.first_sample)
        end = chunk.first_sample + len(chunk.samples_uv)
        grid = self.chain.grid
        done = grid.bin_of(end)  # bins before this one have all their samples
        if self.settings.mode == "evoked":
            due = [entry for entry in self._trials if entry[0] < done]
            self._trials = [entry for entry in self._trials if entry[0] >= done]
        else:
            first = grid.bin_of(chunk.first_sample)
            if self._hop_bin < first:  # after a gap, windows that nobody could have decoded are not due
                self._hop_bin += -(-(first - self._hop_bin) // self.settings.hop_bins) * self.settings.hop_bins
            due = [(last_bin, None) for last_bin in range(self._hop_bin, done, self.settings.hop_bins)]
            self._hop_bin += len(due) * self.settings.hop_bins
        rate = self.info.rate_hz
        windows = []
        for last_bin, trial in due:
            last_sample = grid.first_sample(last_bin + 1) - 1
            time = chunk.sample_time - (end - 1 - last_sample) / rate
            windows.append(Due(last_bin, last_sample, chunk.epoch, time, trial, chunk.backlog))
        return windows

    @property
    def free_s(self) -> float:
        """From the newest sample to the last one of the next window; infinite where no trial waits for one."""
        grid, evoked = self.chain.grid, self.settings.mode == "evoked"
        next_bin = min((end for end, _ in self._trials), default=None) if evoked else self._hop_bin
        if next_bin is None:
            return float("inf")
        return (grid.first_sample(next_bin + 1) - self.chain.next_sample) / self.info.rate_hz

    def stimulation(self, onset_sample: int, stimulation: Stimulation) -> Revision | None:
        """A marker, timely or late. Returns which predictions already made are revoked by it."""
        newest = self.chain.next_sample - 1
        chain, rate = self.settings.chain, self.info.rate_hz
        start = onset_sample - round(chain.blank_before_s * rate)
        rung_out_s = stimulation.last_pulse_end_s + chain.start_settle_s  # filters forget as long as they settle
        end = onset_sample + round(rung_out_s * rate)
        train = (start, end, stimulation.trial)
        if self.settings.mode == "evoked" and train not in self._trains:  # told twice, it is answered once
            self._trials.append((self._evoked_end(onset_sample), stimulation.trial))
            self._trials.sort(key=lambda entry: entry[0])
        self._trains.append(train)
        ours = self._expected.answered_by(stimulation.trigger_id, start, end)
        try:
            changed = self.chain.stimulation(onset_sample, stimulation.last_pulse_end_s, ours)
        except LateMarker:
            self.late_markers += 1
            gone, grid = self._taint(start, end), self.chain.grid
            return Revision(grid.first_sample(self._tainted[0]), min(newest, grid.first_sample(gone + 1) - 1))
        if start <= self._spoilt_to:
            self._taint(start, end)
        if changed is None:
            return None
        self._bursts.changed(changed)
        self.late_markers += 1
        return Revision(self.chain.grid.first_sample(changed), newest)

    def inherit(self, markers: Iterable[tuple[int, Stimulation]], first_sample: int) -> None:
        """What the pipeline before knew of trains, before the first push, which begins with `first_sample`: the rest of
        an artifact is blanked here too, and trials that were not answered yet will be."""
        for onset_sample, stimulation in markers:
            self.stimulation(onset_sample, stimulation)
        first = self.chain.grid.bin_of(first_sample)
        self._trials = [entry for entry in self._trials if entry[0] >= first]

    def _taint(self, start: int, end: int) -> int:
        """The artifact in samples [start, end) is in the filters, and in the lines that bridge trains touching it:
        until it has left the normaliser's window, nothing is vouched for. Returns the last bin of which that is so."""
        for other_start, other_end in sorted(train[:2] for train in self._trains):
            if other_start <= end and start <= other_end:
                end = max(end, other_end)
        self._spoilt_to = max(self._spoilt_to, end)
        bin_of = self.chain.grid.bin_of
        window_bins = round(self.settings.chain.normaliser.window_s * BIN_RATE_HZ)
        gone = bin_of(end) + window_bins + self.settings.n_bins
        self._tainted = max(bin_of(start), self.chain.first_bin), max(self._tainted[1], gone)
        return gone

    def _evoked_end(self, onset_sample: int) -> int:
        onset_bin = round(onset_sample * BIN_RATE_HZ / self.info.rate_hz)
        return onset_bin + EVOKED_START_BINS + self.settings.n_bins - 1

    def read_by(self, settings: DecodingSettings) -> None:
        """Another bundle reads the same windows from the next one on (`DecodingSettings.same_windows`)."""
        if settings.drift != self.settings.drift:
            self.drift, self._unseen = _drift(settings), None
        self.settings = settings

    def copy_window(self, window: NDArray[np.float32], usable: NDArray[np.bool_]) -> None:
        """What was decoded last, (channels, bins) and (channels,)."""
        window[:], usable[:] = self._window, self._usable

    def set_mask(self, usable: NDArray[np.bool_], from_sample: int) -> int:
        """The operator's usable channels, bool (channels,), on top of the bundle's; returns the sample from which they
        hold. A replay that gives the same mask with that sample gives the same numbers."""
        return self.chain.set_mask(self._bundle_mask & usable, from_sample)

    def expect_stimulation(self, onset_sample: int, timeout_s: float, trigger_id: str | None = None) -> None:
        """A trigger of our own went out: bins are held back until its marker came, or `timeout_s` passed. Without its
        marker (expected.py says which one that is) nothing is vouched for until the pulse has left the normaliser's
        window, had it been delivered by then."""
        chain, rate = self.chain, self.info.rate_hz
        chain.expect_stimulation(onset_sample, timeout_s)
        deadline = onset_sample + round(timeout_s * rate)
        rung_out = deadline + round((LONGEST_TRAIN_S + self.settings.chain.start_settle_s) * rate)
        gone = chain.grid.bin_of(rung_out) + chain.history_bins + self.settings.n_bins
        self._expected.add(Pulse(trigger_id, onset_sample, deadline, gone), chain.next_bin)

    def decode(
        self,
        due: Due,
        decoder: Decoder,
        arrived: float,
        filtered: float,
        clock: Callable[[], float],
        skipped: int = 0,
    ) -> Prediction:
        """Decode one due window whose samples `arrived` and were `filtered` at these moments of `clock`. Where windows
        were `skipped` before it, it carries `overload`: the value is good, others are missing."""
        if self.drift is not None and self._unseen is not None:  # the window before: no pulse waits for it any more
            self.drift.look(self._unseen[0], self._window, self._usable, self._unseen[1])
        self._unseen = None
        may_settle = EVOKED_SETTLE_BINS if self.settings.mode == "evoked" else 0
        reason = self.chain.window(due.last_bin, self._window, self._usable, may_settle)
        flags: list[Flag] = [flag for bits, flag in _REASONS if reason & bits]
        if len(flags) > 1 and flags[-1] == "settling":
            flags.pop()  # what settles after a gap or a blank is named by it
        if due.backlog:
            flags.append("backlog")
        tainted = self.chain.first_bin <= self._tainted[0] and due.last_bin <= self._tainted[1]
        begun = self.chain.grid.first_sample(self.chain.first_bin)
        unanswered = self._expected.touches(begun, due.last_sample, due.last_bin)
        if self.chain.awaits_marker or tainted or unanswered:
            flags.append("late_marker")
        n_usable = self.chain.usable_at(due.last_bin) if reason else int(np.count_nonzero(self._usable))
        burst = self._bursts.flag(due.last_bin)
        if not self._decodable or n_usable < self.settings.min_usable_channels or burst == "channels":
            flags.append("channels")
        if burst == "settling" and not flags:
            flags.append(burst)
        # What the inference has no part in comes before it: behind it the caches are cold, and a pulse waits.
        source, mode, trial, model = self.info.kind, self.settings.mode, due.trial, decoder.name
        seq, time, last_sample, epoch = self._next_seq(), due.sample_time, due.last_sample, due.epoch
        full_history = due.last_bin + 1 - self.chain.first_bin >= self.chain.history_bins
        origin = arrived if self.info.recorded else time
        signal_ms = (filtered - arrived) * 1e3
        embedding: NDArray[np.float32] | None = None
        probability: float | None = None
        before = clock()
        if not flags:
            decoded = decoder.step(self._window, self._usable)
            value = decoded.prestimulus if mode == "continuous" else decoded.evoked
            self._same = self._same + 1 if value is not None and value == self._said else 0
            self._said = value
            sound = np.isfinite(decoded.embedding).all() and (value is None or 0.0 <= value <= 1.0)
            if not sound or self._same >= STUCK:
                flags.append("not_finite")
            else:
                embedding, probability = decoded.embedding, value
                if full_history:
                    self._unseen = due.last_bin, embedding
        if due.drifts or (self.drift is not None and self.drift.drifts):
            flags.append("drift")
            probability = None
        if not self.settings.calibrated:
            flags.append("not_calibrated")
            probability = None
        if skipped:
            flags.append("overload")
        found = tuple(flags)
        after = clock()
        inference_ms, total_ms = (after - before) * 1e3, (after - origin) * 1e3
        latency = Latency(signal_ms, (before - filtered) * 1e3, inference_ms, total_ms)
        return Prediction(
            seq,
            source,
            time,
            last_sample,
            epoch,
            mode,
            trial,
            model,
            probability,
            embedding,
            n_usable,
            found,
            latency,
            full_history,
        )


def _drift(settings: DecodingSettings) -> Drift | None:
    """Where nothing is vouched for anyway, or every window is one after a stimulation, nothing is measured."""
    if settings.drift is None or not settings.calibrated or settings.mode != "continuous":
        return None
    return Drift(settings.drift, settings.n_bins)


def _equal(one: Any, other: Any) -> bool:
    """Arrays, or pairs of them, or none."""
    if one is None or other is None:
        return one is other
    return np.array_equal(np.asarray(one), np.asarray(other))


def _unit_statistics(n_channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Stand-in statistics for a stream that is not the bundle's: it is shown, never decoded."""
    return np.zeros(n_channels), np.ones(n_channels)
