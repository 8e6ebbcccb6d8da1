"""What the decode thread is told before it starts, and what it tells of itself: for status, metrics, page and journal,
which need nothing else of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streaming.chunk import SourceCounters, StreamInfo
from streaming.drift import DriftStatus
from streaming.events import Report, Stimulation
from streaming.placement import ANYWHERE, Placement
from streaming.predictions import Mode

State = Literal["waiting", "warming", "running", "ended", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """How the stream is decoded, and where. `participant` is whose cortex it is, where the stream does not say;
    `keep_warm_s` after how long without work a GPU computes a window for nothing, 0: never (keep_warm.py)."""

    mode: Mode = "continuous"
    hop_s: float = 0.01
    participant: str | None = None
    placement: Placement = ANYWHERE
    keep_warm_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """A snapshot for status, page and metrics. Arrays are per channel, in stream order. `drift`: None where nothing is
    measured."""

    state: State = "waiting"
    problem: str = ""
    stream: StreamInfo | None = None
    counters: SourceCounters | None = None
    predictions: int = 0
    skipped_windows: int = 0
    late_markers: int = 0
    keep_warm_pulses: int = 0
    last_sample_time: float = float("nan")
    last_prediction_time: float = float("nan")
    rate_measured_hz: float = float("nan")
    signal_delay_s: float = float("nan")
    not_calibrated: str = ""
    drift: DriftStatus | None = None
    usable: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    envelope_uv: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    z: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    noise_uv: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    masked: tuple[int, ...] = ()  # by the operator, 1-based


@dataclass(frozen=True, slots=True)
class MarkerSeen:
    """A stimulation or report as the decode thread saw it: on the sample clock, for page and journal. `before_sample`:
    the first that the chain took in afterwards."""

    event: Stimulation | Report
    sample: int
    time: float
    before_sample: int = 0
