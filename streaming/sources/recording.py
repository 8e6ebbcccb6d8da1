"""Recordings as sources: in real time, N times, or as fast as possible; pauses stay gaps; memory does not grow.

Each family of formats has a reader in a file of its own, which gives a `Recording`; this plays any of them as a Source.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pylsl

from models.errors import OperatorFault, RigFault
from streaming.chunk import Chunk, EndOfRecording, SourceCounters, StreamInfo
from streaming.events import Marker, UnknownEvent
from streaming.signal.design import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from streaming.sources.recorded import Recording, blocks, end_of, to_microvolts

LIVE_CHUNK_S = 0.001
FAST_CHUNK_S = 1.0


def open_recording(
    path: Path,
    stream: str | None = None,
    pace: float | None = 1.0,
    chunk_s: float | None = None,
    scale_uv: float | None = None,
) -> RecordingSource:
    """A recording as a source. `pace` 1 is real time, N is N times, None as fast as possible.

    `stream` chooses where a file holds several; `scale_uv` (microvolts per count) is for .wav, which does not say.

    Raises:
        OperatorFault: no such file, no such stream, a scale for a file that says its own, or the reader of its format
            is not installed.
        RigFault: not a recording, truncated, empty, without electrodes, of unknown unit, or not broadband.
    """
    if pace is not None and not pace > 0:
        raise OperatorFault(f"found a pace of {pace:g}, expected a number above 0, or none for as fast as possible")
    recording = read_recording(path, stream, scale_uv)
    if not LOWEST_RATE_HZ <= recording.info.rate_hz <= HIGHEST_RATE_HZ:
        recording.close()
        raise RigFault(
            f"{path}: found {recording.info.rate_hz:g} Hz, expected raw broadband of "
            f"{LOWEST_RATE_HZ:g}-{HIGHEST_RATE_HZ:g} Hz"
        )
    return RecordingSource(recording, pace, chunk_s)


def read_recording(path: Path, stream: str | None = None, scale_uv: float | None = None) -> Recording:
    """Opens a file by the reader of its format, at any rate; see `open_recording`."""
    path = Path(path)
    if not path.exists():
        raise OperatorFault(f"{path}: no such file or directory; give the path of a recording")
    if scale_uv is not None and path.suffix.lower() != ".wav":
        raise OperatorFault(f"{path}: found --scale-uv {scale_uv:g}, expected none: all but .wav say their own unit")
    if stream is not None and path.suffix.lower() == ".wav":
        raise OperatorFault(f"{path}: found --stream {stream}, expected none: a .wav holds one signal")
    recording: Recording
    match path.suffix.lower():
        case ".nwb":
            from streaming.sources.nwb import NwbRecording

            recording = NwbRecording(path, stream)
        case ".xdf" | ".xdfz":
            from streaming.sources.xdf import XdfRecording

            recording = XdfRecording(path, stream)
        case ".wav":
            from streaming.sources.wav import WavRecording

            recording = WavRecording(path, scale_uv)
        case _:
            from streaming.sources.neo_files import NeoRecording

            recording = NeoRecording(path, stream)
    if not sum(stretch.n_samples for stretch in recording.stretches):
        recording.close()
        raise RigFault(f"{path}: the recording is empty; expected at least one sample")
    return recording


class RecordingSource:
    """Plays a Recording. The schedule is absolute, so that sleeping late never adds up, and no sample is skipped."""

    def __init__(
        self,
        recording: Recording,
        pace: float | None = 1.0,
        chunk_s: float | None = None,
        clock: Callable[[], float] = pylsl.local_clock,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if chunk_s is None:
            chunk_s = FAST_CHUNK_S if pace is None else LIVE_CHUNK_S
        self.recording = recording
        self._info = replace(recording.info, recorded=True)
        self._pace = pace
        self._clock = clock
        self._sleep = sleep
        self._chunk_rows = max(1, round(chunk_s * recording.info.rate_hz))
        self._blocks = blocks(recording, self._chunk_rows)
        self._block = np.empty((0, recording.info.n_channels), np.float32)
        self._first = 0  # index of the block's first row
        self._row = 0  # of the block, up to which it was handed out
        self._next_sample = 0
        self._marker = 0
        self._started: float | None = None  # clock at sample 0
        self._counters = SourceCounters(malformed_markers=recording.malformed_markers)

    def wait(self, stop: threading.Event) -> bool:
        """A recording is there at once."""
        return not stop.is_set()

    @property
    def info(self) -> StreamInfo:
        return self._info

    @property
    def counters(self) -> SourceCounters:
        return self._counters

    @property
    def n_samples(self) -> int:
        """Samples in the file, gaps not included."""
        return sum(stretch.n_samples for stretch in self.recording.stretches)

    def read(self, timeout_s: float) -> Chunk | None:
        """The next chunk once it is due, or None after `timeout_s`; see Source."""
        if self._row == len(self._block):
            first, stored = next(self._blocks, (-1, None))
            if stored is None:
                raise EndOfRecording
            self._first, self._row, self._block = first, 0, to_microvolts(self.recording, stored)
        samples = self._block[self._row : self._row + self._chunk_rows]
        first = self._first + self._row
        if not self._is_due(first + len(samples), timeout_s):
            return None
        if first > self._next_sample:
            self._counters.gaps += 1
            self._counters.lost_samples += first - self._next_sample
        self._counters.samples += len(samples)
        self._row += len(samples)
        self._next_sample = first + len(samples)
        newest_s = self.recording.start_s + (self._next_sample - 1) / self.info.rate_hz
        return Chunk(samples, first, newest_s, self._clock())

    def markers(self) -> list[tuple[int, Marker]]:
        """Markers up to the last chunk's end, since the last call; those behind the last sample come with it."""
        markers, start = self.recording.markers, self._marker
        ended = self._next_sample == end_of(self.recording)
        while self._marker < len(markers) and (ended or markers[self._marker][0] < self._next_sample):
            self._counters.unknown_markers += isinstance(markers[self._marker][1], UnknownEvent)
            self._marker += 1
        return markers[start : self._marker]

    def close(self) -> None:
        self.recording.close()

    def _is_due(self, end_sample: int, timeout_s: float) -> bool:
        if self._pace is None:
            return True
        now = self._clock()
        if self._started is None:
            self._started = now
        wait_s = self._started + end_sample / (self.info.rate_hz * self._pace) - now
        if wait_s > 0:
            self._sleep(min(wait_s, timeout_s))
        return wait_s <= timeout_s
