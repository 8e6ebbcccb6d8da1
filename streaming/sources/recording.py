"""Recordings as sources: in real time, N times, or as fast as possible; pauses stay gaps; memory does not grow.

A reader (one file per family of formats) opens a file and gives it as a `Recording`: stretches of uninterrupted samples
on one sample grid, read block by block. `RecordingSource` plays any of them through the Source protocol.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pylsl
from numpy.typing import NDArray

from models.errors import OperatorFault, RigFault
from streaming.chunk import Chunk, EndOfRecording, SourceCounters, StreamInfo
from streaming.events import Marker, UnknownEvent
from streaming.sources.header import RATE_RANGE_HZ

LIVE_CHUNK_S = 0.001
FAST_CHUNK_S = 1.0
BLOCK_S = 0.25  # read from the file at once, so that millisecond chunks cost no file access each


@dataclass(frozen=True, slots=True)
class Stretch:
    """Uninterrupted samples: the index of the first, how many, and the clock they belong to (see Chunk.epoch)."""

    first_sample: int
    n_samples: int
    epoch: int = 0


class Recording(Protocol):
    """An open file. `scale_uv` and `offset_uv` (channels,) turn stored numbers into microvolts: x * scale + offset."""

    info: StreamInfo
    dtype: np.dtype[Any]
    scale_uv: NDArray[np.float32]
    offset_uv: NDArray[np.float32]
    start_s: float  # time of the first sample, from the session's start
    stretches: list[Stretch]
    markers: list[tuple[int, Marker]]  # by sample
    malformed_markers: int

    def rows(self, stretch: int, start: int, stop: int) -> NDArray[Any]:
        """Stored numbers (stop - start, channels) of one stretch."""

    def close(self) -> None: ...


def open_recording(
    path: Path,
    stream: str | None = None,
    pace: float | None = 1.0,
    chunk_s: float | None = None,
    scale_uv: float | None = None,
) -> RecordingSource:
    """A recording as a source. `pace` 1 is real time, N is N times, None as fast as possible.

    `stream` chooses where a file holds several; `scale_uv` (microvolts per count) is for files that do not say.

    Raises:
        OperatorFault: no such file, no such stream, or the reader of its format is not installed.
        RigFault: not a recording, truncated, empty, without electrodes, of unknown unit, or not broadband.
    """
    if pace is not None and not pace > 0:
        raise OperatorFault(f"found a pace of {pace:g}, expected a number above 0, or none for as fast as possible")
    recording = read_recording(path, stream, scale_uv)
    lowest, highest = RATE_RANGE_HZ
    if not lowest <= recording.info.rate_hz <= highest:
        recording.close()
        raise RigFault(
            f"{path}: found {recording.info.rate_hz:g} Hz, expected raw broadband of {lowest:g}-{highest:g} Hz"
        )
    return RecordingSource(recording, pace, chunk_s)


def read_recording(path: Path, stream: str | None = None, scale_uv: float | None = None) -> Recording:
    """Opens a file by the reader of its format, at any rate; see `open_recording`."""
    path = Path(path)
    if not path.exists():
        raise OperatorFault(f"{path}: no such file or directory; give the path of a recording")
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


def choose(path: Path, stream: str | None, rates_hz: Mapping[str, float]) -> str:
    """Which of a file's signals is meant: the named one, the only one, or the only one at a broadband rate.

    Raises:
        OperatorFault: none has that name, or several could be meant.
    """
    held = ", ".join(f"{name!r} at {rate:g} Hz" for name, rate in rates_hz.items())
    if stream is not None:
        if stream not in rates_hz:
            raise OperatorFault(f"{path}: no stream {stream!r}; it holds {held}")
        return stream
    lowest, highest = RATE_RANGE_HZ
    names = [name for name, rate in rates_hz.items() if lowest <= rate <= highest] or list(rates_hz)
    if len(names) != 1:
        raise OperatorFault(f"{path}: cannot know which stream is meant of {held}; choose one with --stream")
    return names[0]


def one_line(error: Exception) -> str:
    """Another library's error, short enough for a message."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def files_extra(module: str) -> Any:
    """The module of an optional reader.

    Raises:
        OperatorFault: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        name = module.split(".")[0]
        raise OperatorFault(f"{name} is not installed; pip install 'phosphene[files]' to read recordings") from missing


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
        rate_hz = recording.info.rate_hz
        if chunk_s is None:
            chunk_s = FAST_CHUNK_S if pace is None else LIVE_CHUNK_S
        self.recording = recording
        self._pace = pace
        self._clock = clock
        self._sleep = sleep
        self._chunk_rows = max(1, round(chunk_s * rate_hz))
        self._block_rows = max(self._chunk_rows, round(BLOCK_S * rate_hz))
        self._counters = SourceCounters(malformed_markers=recording.malformed_markers)
        self._stretch = 0
        self._row = 0
        self._block = np.empty((0, recording.info.n_channels), np.float32)
        self._block_start = 0
        self._marker = 0
        self._next_sample = 0
        self._epoch = 0
        self._started: float | None = None  # clock at sample 0 of this epoch

    @property
    def info(self) -> StreamInfo:
        return self.recording.info

    @property
    def counters(self) -> SourceCounters:
        return self._counters

    @property
    def n_samples(self) -> int:
        """Samples in the file, gaps not included."""
        return sum(stretch.n_samples for stretch in self.recording.stretches)

    def read(self, timeout_s: float) -> Chunk | None:
        """The next chunk once it is due, or None after `timeout_s`; see Source."""
        if self._stretch == len(self.recording.stretches):
            raise EndOfRecording
        stretch = self.recording.stretches[self._stretch]
        first = stretch.first_sample + self._row
        rows = min(self._chunk_rows, stretch.n_samples - self._row)
        if stretch.epoch != self._epoch:
            self._epoch, self._next_sample, self._started = stretch.epoch, 0, None
        if not self._is_due(first + rows, timeout_s):
            return None
        samples = self._samples_uv(self._row, self._row + rows, stretch.n_samples)
        if first > self._next_sample:
            self._counters.gaps += 1
            self._counters.lost_samples += first - self._next_sample
        self._counters.samples += rows
        self._next_sample = first + rows
        self._row += rows
        if self._row == stretch.n_samples:
            self._stretch, self._row = self._stretch + 1, 0
            self._block_start, self._block = 0, self._block[:0]
        newest_s = self.recording.start_s + (self._next_sample - 1) / self.info.rate_hz
        return Chunk(samples, first, newest_s, self._clock(), stretch.epoch)

    def markers(self) -> list[tuple[int, Marker]]:
        """Markers up to the last chunk's end, since the last call; see Source."""
        markers, start = self.recording.markers, self._marker
        while self._marker < len(markers) and markers[self._marker][0] < self._next_sample:
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

    def _samples_uv(self, start: int, stop: int, n_samples: int) -> NDArray[np.float32]:
        """Rows of the current stretch in microvolts, out of the block that is in memory."""
        if stop > self._block_start + len(self._block):
            end = min(start + self._block_rows, n_samples)
            raw = self.recording.rows(self._stretch, start, end)
            self._block_start = start
            self._block = np.multiply(raw, self.recording.scale_uv, dtype=np.float32)
            if self.recording.offset_uv.any():
                self._block += self.recording.offset_uv
        return self._block[start - self._block_start : stop - self._block_start]
