"""GET /v1/status, the event of that name, and the array's map."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from server.messages.trigger import TriggerStatus
from streaming.answers import Counts
from streaming.chunk import SourceCounters, SourceKind
from streaming.live_status import State
from streaming.scoring import Bin


class Stream(BaseModel):
    """The broadband stream; participant and session as it says itself, else as the operator does."""

    source: SourceKind
    name: str
    rate_hz: float
    channels: int
    participant: str | None
    session: str | None
    map_sha256: str


class Percentiles(BaseModel):
    """Milliseconds, of the newest 3000 predictions."""

    p50: float
    p95: float
    p99: float
    max: float


class Latencies(BaseModel):
    signal: Percentiles
    queue: Percentiles
    inference: Percentiles
    total: Percentiles


class Evoked(BaseModel):
    """Evoked predictions held against their reports."""

    model: str
    n: int
    threshold: float
    hits: int
    misses: int
    false_alarms: int
    correct_rejections: int
    prevalence: float | None
    balanced_accuracy: float | None
    interval: tuple[float, float] | None
    brier: float | None
    brier_reference: float | None
    calibration: list[Bin]
    calibration_error: float | None
    counts: Counts


class DriftMeasured(BaseModel):
    """Distances from the usual input as shares of their limits, beyond 1 drifted; null until they mean something."""

    measured: Literal[True]
    drifts: bool
    mua: float | None
    embedding: float | None


class DriftUnknown(BaseModel):
    measured: Literal[False]
    why: str


class Status(BaseModel):
    """How the service is. `latency_ms`, `stream` and `counters` are null before there is anything to tell."""

    run_id: str
    arrays: list[str] = Field(description="names of further arrays, each below /arrays/NAME")
    trigger: TriggerStatus
    evoked: Evoked | None = Field(description="in evoked mode")
    model: str
    provider: str
    precision: str
    model_participant: str
    ready: bool
    not_ready: list[str]
    next_seq: int
    latency_ms: Latencies | None
    subscribers: int
    dropped: int
    state: State
    problem: str
    stream: Stream | None
    counters: SourceCounters | None
    predictions: int
    skipped_windows: int
    late_markers: int
    keep_warm_pulses: int
    last_sample_time: float | None
    last_prediction_time: float | None
    rate_measured_hz: float | None
    signal_delay_s: float | None
    usable_channels: int
    not_calibrated: str
    drift: DriftMeasured | DriftUnknown


class Array(BaseModel):
    """One entry a channel, in stream order."""

    labels: list[str]
    positions: list[tuple[float, float]] | None = Field(description="(column, row) places")
    usable: list[bool]
    envelope_uv: list[float | None]
    z: list[float | None]
    noise_uv: list[float | None] = Field(description="of the envelope over the last second")
    masked: list[int] = Field(description="by the operator, 1-based")


class Problem(BaseModel):
    """RFC 9457 problem details: `title` is the status in words, `detail` what was found, expected, and the mend."""

    type: Literal["about:blank"]
    title: str
    status: int
    detail: str
    error: str | None = Field(None, description="the same as `detail`, below /v2: its clients look for it")
