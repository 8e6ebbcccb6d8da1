"""A live stream to what is kept of it: bins that nothing can change any more, markers, and the broadband where wanted.

A bin is written only when no late marker can change it: `rewind_s` and a little behind the newest sample. A train whose
marker comes later still is named late, so that what it spoilt can be told apart.

Time is one grid of samples for the whole recording. What a reconnected amplifier sends is placed on it by its stamps,
so that a pause is a gap of its true length, and the bins are those that `phosphene mua` makes of the same broadband.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streaming.chunk import Chunk, StreamInfo
from streaming.events import Marker, Stimulation, UnknownEvent
from streaming.signal.bins import Bins
from streaming.signal.chain import LateMarker, SignalChain
from streaming.signal.settings import BIN_RATE_HZ, ChainSettings
from training.spool import Spool, SpoolHeader, spool_of

BEYOND_REWIND_S = 0.2  # the chain honours markers up to 0.1 s beyond `rewind_s`
BINS_AT_ONCE = 100
FUTURE_S = 5.0  # a marker further ahead of the samples has a wrong clock
STRAY_S = 1.0  # a stamp further than that from its arrival does not say when
LARGEST_COUNT = 32767

log = logging.getLogger("phosphene")


class Recorder:
    """Chunks and markers in, final bins and raw rows out to the spool; it asks no clock.

    Args:
        out: the file to be.
        info: the stream, its participant and session settled.
        first: the stream's first chunk, which says when sample 0 was; push it like any other.
        now: the wall clock (UTC) and the LSL clock, at one moment.
        keep: microvolts per count, (channels,), of the broadband to keep; none is kept where None.
    """

    def __init__(
        self,
        out: Path,
        info: StreamInfo,
        first: Chunk,
        now: tuple[datetime, float],
        settings: ChainSettings | None = None,
        keep: NDArray[np.float32] | None = None,
    ) -> None:
        self.settings = settings or ChainSettings()
        self.chain = SignalChain(self.settings, info.rate_hz, info.n_channels)
        self.stimulations = self.reports = self.late = 0
        self._rate_hz, self._keep = info.rate_hz, keep
        self._age = round((self.settings.rewind_s + BEYOND_REWIND_S) * info.rate_hz)
        self._most_bins = round((self.settings.normaliser.window_s + self.settings.rewind_s) * BIN_RATE_HZ)
        self._epoch, self._offset, self._written = first.epoch, 0, 0
        self._t0 = self._time_of_zero(first)
        header = SpoolHeader(
            info=asdict(info),
            chain=self.settings.to_dict(),
            began=(now[0] - timedelta(seconds=now[1] - self._t0)).isoformat(),
            lsl_time=self._t0,
            scale_uv=None if keep is None else keep.tolist(),
        )
        self.spool = Spool(spool_of(out), header)

    @property
    def next_sample(self) -> int:
        return self.chain.next_sample

    def push(self, chunk: Chunk, markers: Sequence[tuple[int, Marker]]) -> None:
        """The next samples, and the markers that came with them or before, counted as the source counts."""
        if chunk.epoch != self._epoch:
            self._epoch = chunk.epoch
            by_time = round((self._time_of_zero(chunk) - self._t0) * self._rate_hz)
            self._offset = max(by_time, self.chain.next_sample + 1 - chunk.first_sample)
        for sample, marker in markers:
            self._mark(sample + self._offset, marker)
        first = chunk.first_sample + self._offset
        if first - self.chain.next_sample > self.settings.longest_gap_s * self._rate_hz:
            self.flush()  # the chain will begin anew and forget
        self.chain.push(chunk.samples_uv, first)
        if self._keep is not None:
            counts = np.rint(np.nan_to_num(chunk.samples_uv) / self._keep)
            self.spool.rows(first, np.clip(counts, -LARGEST_COUNT - 1, LARGEST_COUNT).astype(np.int16))
        final = self.chain.grid.bin_of(max(0, self.chain.next_sample - self._age))
        if final - self._written >= BINS_AT_ONCE:
            self._write(final)

    def flush(self) -> None:
        """Whatever is finished becomes final."""
        self._write(self.chain.next_bin)

    def _time_of_zero(self, chunk: Chunk) -> float:
        """The clock at the epoch's sample 0."""
        stray = abs(chunk.sample_time - chunk.arrival_time) > STRAY_S
        newest = chunk.arrival_time if stray else chunk.sample_time
        return newest - (chunk.first_sample + len(chunk.samples_uv) - 1) / self._rate_hz

    def _mark(self, sample: int, marker: Marker) -> None:
        if isinstance(marker, UnknownEvent):
            return
        if sample > self.chain.next_sample + FUTURE_S * self._rate_hz:
            log.warning("a marker of %s lies over %g s ahead of the samples: ignored", marker, FUTURE_S)
            return
        late = False
        if isinstance(marker, Stimulation):
            self.stimulations += 1
            start = max(0, sample - round(self.settings.blank_before_s * self._rate_hz))
            late = self.chain.grid.bin_of(start) < self._written
            try:
                self.chain.stimulation(sample, marker.last_pulse_end_s)
            except LateMarker:
                late = True
            self.late += late
        else:
            self.reports += 1
        self.spool.marker(sample, marker, late)

    def _write(self, end: int) -> None:
        """Bins up to `end` that are finished; of a blank longer than the chain's memory only the end, the rest of it
        could not have been vouched for."""
        end = min(end, self.chain.next_bin)
        first = max(self._written, self.chain.first_bin, self.chain.next_bin - self._most_bins)
        if first < end:
            bins = Bins(self.chain.rings, first, end)
            self.spool.bins(first, bins.valid, bins.usable, bins.envelope_uv)
            self._written = end
