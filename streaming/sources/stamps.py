"""Timestamps in, absolute sample indices out: what was lost, doubled or turned back, seen from the stamps alone.

liblsl stamps the newest sample of a pushed chunk and deduces the others from the declared rate. Spacing inside a
sender's chunk is therefore exact, and everything that happens shows as a step between chunks: the *deviation* of a
piece's first stamp from where the line through the past expects it, in samples. Two kinds of rig must be served:

  exact stamps (a sample counter; our simulator and replay): steps are below a tenth of a sample. After 200 ms of that,
  longer than one chunk that came in parts (1 s after jitter), the stream is *quiet*: half a sample or more is a loss,
  seen at once and counted exactly.

  stamps taken at the push: milliseconds of jitter, now late, now early. One late push is not a loss: the pieces behind
  it come back to the line, while a loss lifts all that follow. So a deviation above the tolerance (four times the
  median of the last 32, at least half a sample) stays in *doubt* until it has persisted for three chunks and 200 ms of
  the arrival clock: a sender that was held up and stamps "now" what it catches up with is back by then. Meanwhile
  samples keep their running index, and where more than 20 ms are in doubt they are marked as backlog, so that nothing
  is decoded across an unseen splice.

A loss below the tolerance of a jittering rig cannot be seen in its stamps; the line follows it, as it follows drift.
A step back that stays, or one forward by more than the time that passed, is a clock that was set: a new epoch. So is
what liblsl makes of a stream that is joined in the midst of a sender's chunk: it deduces its rest from a time of zero.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streaming.chunk import SourceCounters
from streaming.sources.backlog import STALE_S, BacklogGauge, RateGauge

QUIET_SAMPLES = 0.1  # steps below this are those of exact stamps
TOLERANCE_SAMPLES = 0.5
PERSIST_S = 0.2
PERSIST_STEPS = 3
FORGET_S = 1.0  # after so long without a step, the jitter that was is over
YOUNG_STEPS = 8  # a jittering stream's tolerance is not known before so many; its line is still being found
DOUBT_S = 0.02
DOUBLED_MEMORY_S = 1.0
FOLLOW = 0.05  # how far the line moves towards a jittering piece


class Segment(NamedTuple):
    """Rows [start, stop) of a pull that follow each other without a gap. `newest_time` is on the stream's clock."""

    start: int
    stop: int
    first_sample: int
    newest_time: float
    epoch: int
    backlog: bool

    @property
    def next_sample(self) -> int:
        return self.first_sample + self.stop - self.start


@njit(nogil=True, cache=True)
def steady(stamps, rate_hz, tolerance):  # type: ignore[no-untyped-def]
    """All finite, and neighbours one period apart within `tolerance` samples: as nearly always, and then known in a
    microsecond where NumPy takes twenty."""
    whole = np.isfinite(stamps[0])
    for i in range(1, len(stamps)):
        whole &= abs((stamps[i] - stamps[i - 1]) * rate_hz - 1.0) <= tolerance
    return whole


def note(counters: SourceCounters, problem: str) -> None:
    """Names a problem: the newest in `last_problem`, the newest twenty in `notes`."""
    counters.last_problem = problem
    counters.notes.append(problem)
    del counters.notes[:-20]


class StampTracker:
    """Follows one stream. State: the line, the recent deviations, the step in doubt, and what stamps were seen.

    It never asks a clock: `arrival` comes with each push, on the stream's own clock.
    """

    def __init__(self, rate_hz: float, counters: SourceCounters, epoch: int = 0) -> None:
        self.rate_hz = rate_hz
        self.epoch = epoch
        self._counters = counters
        self._last_arrival = self._before_doubt = np.inf
        self._newest = -np.inf  # stamp of the newest sample
        self._seen: dict[float, int] = {}  # first stamps of recent pieces -> rows, by which doubled ones are known
        self._doubled_to = -np.inf
        self._begin(None)

    def _begin(self, first: float | None) -> None:
        self._next = 0  # index of the next sample
        self._line: tuple[float, int] | None = None if first is None else (first, 0)  # a time, and the index there
        self._deviations: deque[float] = deque(maxlen=32)
        self._doubt: list[float] = []
        self._doubt_samples = 0
        self._doubt_since = np.inf
        self._exact_samples = 0  # how long stamps have followed each other exactly
        self._backlog = BacklogGauge(self.rate_hz)
        self._rate = RateGauge(self.rate_hz)

    def push(self, timestamps: NDArray[np.float64], arrival: float) -> list[Segment]:
        """Timestamps (n,) of one pull as segments in order; rows with doubled stamps are in none of them."""
        if not len(timestamps):
            return []
        self._last_arrival = min(self._last_arrival, arrival)  # before the first pull nothing was lost
        stamps, pieces = timestamps, [(0, len(timestamps))]
        if not steady(timestamps, self.rate_hz, self._tolerance()):
            stamps = self._finite(timestamps, arrival)
            pieces = self._pieces(stamps)
        self._counters.samples += len(stamps)
        segments: list[Segment] = []
        for start, stop in pieces:
            kept = start + self._doubled(stamps, start, stop)
            if kept < stop:
                piece = self._place(stamps, kept, stop, arrival)
                last = segments[-1] if segments else None
                if last and (last.stop, last.next_sample, last.epoch) == (kept, piece.first_sample, piece.epoch):
                    piece = piece._replace(start=last.start, first_sample=last.first_sample)
                    segments.pop()
                segments.append(piece)
        if not segments:
            return []
        self._last_arrival = arrival
        if (measured_hz := self._rate.push(len(stamps), arrival)) is not None:
            note(self._counters, f"the stream runs at {measured_hz:.0f} Hz, but declares {self.rate_hz:g} Hz")
        late = self._backlog.push(self._next, len(stamps), self._newest, arrival) or self._in_doubt()
        if late:
            segments = [segment._replace(backlog=True) for segment in segments]
            self._counters.backlog_samples += sum(segment.stop - segment.start for segment in segments)
        return segments

    @property
    def started(self) -> bool:
        return self._line is not None

    def sample_of(self, time: float) -> int:
        """The index of the sample taken at `time` (stream's clock), inside gaps and ahead too; `started` first."""
        assert self._line is not None
        anchor, index = self._line
        return index + round((time - anchor) * self.rate_hz)

    # -- pieces of a pull --------------------------------------------------------------------------------------------

    def _finite(self, timestamps: NDArray[np.float64], arrival: float) -> NDArray[np.float64]:
        """Stamps that are not finite are replaced by those that the rate gives."""
        good = np.isfinite(timestamps)
        if good.all():
            return timestamps
        self._counters.backward_timestamps += 1
        note(self._counters, f"{int((~good).sum())} timestamps are not finite; the rate is used in their place")
        rows = np.arange(len(timestamps))
        if good.any():
            source = np.maximum.accumulate(np.where(good, rows, np.argmax(good)))
            filled: NDArray[np.float64] = timestamps[source] + (rows - source) / self.rate_hz
        elif self._line is not None:
            filled = self._time_of(self._next) + rows / self.rate_hz
        else:
            filled = arrival + (rows - len(rows) + 1) / self.rate_hz
        return filled

    def _pieces(self, stamps: NDArray[np.float64]) -> list[tuple[int, int]]:
        """Rows cut where two neighbours are not one period apart."""
        steps = np.abs(np.diff(stamps) * self.rate_hz - 1.0)
        cuts = [0, *(np.flatnonzero(steps > self._tolerance()) + 1).tolist(), len(stamps)]
        return list(pairwise(cuts))

    def _doubled(self, stamps: NDArray[np.float64], start: int, stop: int) -> int:
        """How many rows from `start` carry stamps seen before: dropped once, counted.

        In a quiet stream all that lies on its grid was seen; in a jittering one, only pieces whose first stamp is the
        very same number. A second repetition is not dropped: that is a clock that stands still.
        """
        first, rows = float(stamps[start]), 0
        if first > self._newest:
            self._doubled_to = -np.inf
        elif first > self._doubled_to:
            overlap = (self._newest - first) * self.rate_hz + 1.0
            if self._quiet():
                on_grid = abs(overlap - round(overlap)) < QUIET_SAMPLES
                rows = min(round(overlap), stop - start) if on_grid and overlap <= self.rate_hz else 0
            else:
                while start + rows < stop and (seen := self._seen.get(float(stamps[start + rows]), 0)):
                    taken = min(seen, stop - start - rows)
                    rows += taken
                    if taken < seen:
                        self._seen[float(stamps[stop - 1]) + 1.0 / self.rate_hz] = seen - taken
            if rows:
                self._doubled_to = float(stamps[start + rows - 1])
                self._counters.doubled_timestamps += rows
                note(self._counters, f"{rows} samples came with timestamps seen before; dropped")
        return rows

    # -- the line ----------------------------------------------------------------------------------------------------

    def _time_of(self, index: int) -> float:
        assert self._line is not None
        return self._line[0] + (index - self._line[1]) / self.rate_hz

    def _quiet(self) -> bool:
        return (
            self._exact_samples >= PERSIST_S * self.rate_hz and max(self._deviations, default=0.0) < TOLERANCE_SAMPLES
        )

    def _tolerance(self) -> float:
        return max(TOLERANCE_SAMPLES, 4.0 * median(self._deviations)) if self._deviations else TOLERANCE_SAMPLES

    def _in_doubt(self) -> bool:
        return bool(self._doubt) and abs(self._doubt[-1]) > DOUBT_S * self.rate_hz

    def _place(self, stamps: NDArray[np.float64], start: int, stop: int, arrival: float) -> Segment:
        """One piece with its index, after what its deviation says."""
        first, rows = float(stamps[start]), stop - start
        if self._line is None:
            self._line = (first, 0)
            self._exact_samples = rows
        else:
            self._judge(first, rows, arrival)
        self._seen[first] = rows
        while len(self._seen) > 1024 or first - next(iter(self._seen)) > DOUBLED_MEMORY_S:
            del self._seen[next(iter(self._seen))]
        self._newest = float(stamps[stop - 1])
        segment = Segment(start, stop, self._next, self._newest, self.epoch, backlog=False)
        self._next += rows
        if not self._doubt:
            expected = self._time_of(self._next - 1)
            gain = 1.0 if self._quiet() else FOLLOW
            self._line = (expected + gain * (self._newest - expected), self._next - 1)
        return segment

    def _judge(self, first: float, rows: int, arrival: float) -> None:
        """Whether the step before this piece is jitter, a loss, or a clock that was set."""
        deviation = (first - self._time_of(self._next)) * self.rate_hz
        step = (first - self._newest) * self.rate_hz - 1.0
        tolerance = self._tolerance()
        if not self._doubt:
            self._before_doubt = self._last_arrival
        possible = deviation <= (arrival - self._before_doubt + 1.0) * self.rate_hz
        if step < -tolerance:
            self._counters.backward_timestamps += 1
            if not self._counters.last_problem.startswith("timestamps stepped back"):  # a jittering rig does it often
                note(self._counters, f"timestamps stepped back by {-step / self.rate_hz * 1e3:.3f} ms")
        if self._quiet() and deviation > TOLERANCE_SAMPLES and possible:
            self._lost(round(deviation))
            return
        follows = abs(step) < QUIET_SAMPLES
        self._exact_samples = rows + (self._exact_samples if follows else 0)
        if self._exact_samples > FORGET_S * self.rate_hz:
            self._deviations.clear()
        if not follows:  # what follows is the rest of a chunk, or exact: it tells nothing new of the jitter
            in_tolerance = abs(deviation) <= tolerance
            if in_tolerance or (self._doubt and (deviation > 0) != (self._doubt[0] > 0)):
                self._resolve(0.0)  # what was in doubt came back: jitter
            if in_tolerance:
                self._deviations.append(abs(deviation))
            else:
                self._doubt.append(deviation)
        if self._doubt:
            self._doubt_samples += rows
            self._doubt_since = min(self._doubt_since, arrival)
            exact = self._quiet() and self._doubt_samples >= PERSIST_S * self.rate_hz
            if exact or (len(self._doubt) >= PERSIST_STEPS and arrival - self._doubt_since >= PERSIST_S):
                self._settle(first, possible)

    def _settle(self, first: float, possible: bool) -> None:
        """What was in doubt has persisted: a loss, a clock that was set, or a line that was not found well."""
        shift = median(self._doubt)
        if shift > 0 and possible and (self._quiet() or len(self._deviations) >= YOUNG_STEPS):
            self._lost(round(shift))
        elif abs(shift) > STALE_S * self.rate_hz:
            self._new_epoch(first, shift)
            return
        else:  # the samples are whole, only their times moved
            self._line = (self._time_of(self._next) + shift / self.rate_hz, self._next)
        self._resolve(shift)

    def _resolve(self, shift: float) -> None:
        """The doubt is over; what is left of it after `shift` was jitter."""
        self._deviations.extend(abs(deviation - shift) for deviation in self._doubt)
        self._doubt.clear()
        self._doubt_samples = 0
        self._doubt_since = np.inf

    def _lost(self, samples: int) -> None:
        self._next += samples
        self._counters.lost_samples += samples
        self._counters.gaps += 1
        note(self._counters, f"{samples} samples lost before sample {self._next}")

    def _new_epoch(self, first: float, shift: float) -> None:
        self.epoch += 1
        self._begin(first)
        note(self._counters, f"the stream's clock was set by {shift / self.rate_hz:+.3f} s; a new epoch begins")
