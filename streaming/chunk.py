"""What a source hands over: raw samples as they arrived, and what the source knows about the stream."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from streaming.events import Marker

SourceKind = Literal["live", "replay", "simulated"]


@dataclass(frozen=True, slots=True)
class ArrayMap:
    """Labels and grid places of the channels, in stream order. `positions` holds (column, row) or None if unknown."""

    labels: tuple[str, ...]
    positions: tuple[tuple[float, float], ...] | None = None

    def sha256(self) -> str:
        """Hash of labels and positions, by which a bundle knows its array."""
        text = json.dumps([list(self.labels), None if self.positions is None else [list(p) for p in self.positions]])
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a source knows before the first sample. `participant` is None where the stream does not say. `recorded`:
    its times count from the session's start and not on the clock of this machine, so they have no age."""

    kind: SourceKind
    name: str
    rate_hz: float
    array: ArrayMap
    participant: str | None = None
    session: str | None = None
    recorded: bool = False

    @property
    def n_channels(self) -> int:
        return len(self.array.labels)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Raw samples, time first.

    `samples_uv` is float32 (n, channels) in microvolts; whoever receives it never writes to it and does not keep it
    beyond the call (a source may reuse the memory). `first_sample` is the absolute index of row 0 counted from the
    stream's first sample, lost samples included, so a jump of it is a gap. `sample_time` is the clock time of the
    newest row (LSL clock of this machine live, seconds from session start for recordings); `arrival_time` the clock
    when it was pulled. `backlog` marks samples that must not be decoded as if they were now. A new `epoch` is a new
    stream (a reconnect, a clock reset): sample counts start again and nothing of the old one is kept.
    """

    samples_uv: NDArray[np.float32]
    first_sample: int
    sample_time: float
    arrival_time: float
    epoch: int = 0
    backlog: bool = False

    def time_of(self, sample: int, rate_hz: float) -> float:
        """Of a sample of the same epoch, as `sample_time`."""
        newest = self.first_sample + len(self.samples_uv) - 1
        return self.sample_time - (newest - sample) / rate_hz


def row_sha256(row_uv: NDArray[np.float32]) -> str:
    """Hash of one sample of all channels, (channels,) microvolts, by which a recording of a stream is recognised."""
    return hashlib.sha256(np.asarray(row_uv, "<f4").tobytes()).hexdigest()


@dataclass(slots=True)
class SourceCounters:
    """What went wrong so far, by name; each is surfaced in /v1/status and metrics."""

    samples: int = 0
    lost_samples: int = 0
    gaps: int = 0
    backlog_samples: int = 0
    backward_timestamps: int = 0
    doubled_timestamps: int = 0
    reconnects: int = 0
    malformed_markers: int = 0
    unknown_markers: int = 0
    hears_events: bool | None = None  # None: markers come with the samples, or the source has none
    last_problem: str = ""
    notes: list[str] = field(default_factory=list)  # the newest few problems, newest last, at most 20


class Source(Protocol):
    """Where samples come from. One thread calls it; `read` is the only call that may wait."""

    @property
    def info(self) -> StreamInfo: ...

    @property
    def counters(self) -> SourceCounters: ...

    def wait(self, stop: threading.Event) -> bool:
        """Look for the stream until it is there (True) or `stop` is set (False). A recording is there at once.

        Raises:
            RigFault: two streams match, or what is there is not what it must be.
        """

    def read(self, timeout_s: float) -> Chunk | None:
        """The next chunk, or None when nothing came within `timeout_s`.

        Raises:
            RigFault: the stream is dead, paused for more than 250 ms, or not what it was; the caller reconnects
                (live) or ends (a recording that is broken).
            EndOfRecording: a recording has no more samples.
        """

    def markers(self) -> list[tuple[int, Marker]]:
        """Markers that came since the last call, each with the absolute sample index that its time falls on."""

    def close(self) -> None: ...


class EndOfRecording(Exception):
    """The recording has no more samples: the normal end, not a fault."""
