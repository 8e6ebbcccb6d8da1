"""A snapshot of the decode thread as clients see it: the status, the array's map, and whether we are ready."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from streaming.live_status import LiveStatus
    from streaming.predictions import Prediction

MOST_SKIPPED = 0.05  # of the windows of 10 s
SILENT_S = 1.0  # without a new sample for so long, the service is not ready
STAGES = ("signal", "queue", "inference", "total")


class LatencyWindow:
    """The latencies of the newest predictions, and their percentiles in milliseconds. One without an embedding was not
    decoded: it cost next to nothing, and does not count."""

    def __init__(self, capacity: int = 6000) -> None:
        self._ms: NDArray[np.float32] = np.zeros((capacity, len(STAGES)), np.float32)
        self._count = 0

    def push(self, prediction: Prediction) -> None:
        if prediction.embedding is None:
            return
        latency = prediction.latency_ms
        self._ms[self._count % len(self._ms)] = latency.signal, latency.queue, latency.inference, latency.total
        self._count += 1

    def newest(self, count: int) -> NDArray[np.float32]:
        """Rows of the newest `count`, in any order; columns as STAGES."""
        if self._count <= len(self._ms):
            return self._ms[max(0, self._count - count) : self._count]
        return self._ms[np.arange(self._count - min(count, len(self._ms)), self._count) % len(self._ms)]

    def percentiles(self, count: int = 3000) -> dict[str, dict[str, float]] | None:
        rows = self.newest(count)
        if not len(rows):
            return None
        p50, p95, p99, most = np.percentile(rows, (50, 95, 99, 100), axis=0)
        return {
            stage: {"p50": _ms(p50[i]), "p95": _ms(p95[i]), "p99": _ms(p99[i]), "max": _ms(most[i])}
            for i, stage in enumerate(STAGES)
        }

    def late_share(self, deadline_s: float, count: int = 1000) -> float:
        """Share of the newest `count` predictions that came later than `deadline_s` after their newest sample."""
        rows = self.newest(count)
        return float((rows[:, -1] > deadline_s * 1000).mean()) if len(rows) else 0.0


class Arrivals:
    """When samples last arrived, told from snapshots on our own steady clock, whatever clock the source keeps."""

    def __init__(self) -> None:
        self._samples = 0
        self._since: float | None = None

    def push(self, samples: int, now: float) -> None:
        if samples != self._samples:
            self._samples, self._since = samples, now

    def silent_s(self, now: float) -> float | None:
        """Seconds without a new sample; None before the first."""
        return None if self._since is None else now - self._since


class Skips:
    """Which share of the windows that came due of late was skipped, told from snapshots."""

    def __init__(self, over_s: float = 10.0) -> None:
        self._over_s = over_s
        self._seen: deque[tuple[float, int, int]] = deque()  # moment, predictions, skipped windows

    def push(self, predictions: int, skipped: int, now: float) -> None:
        seen = self._seen
        if seen and (predictions < seen[-1][1] or skipped < seen[-1][2]):
            seen.clear()
        seen.append((now, predictions, skipped))
        while now - seen[0][0] > self._over_s:
            seen.popleft()

    def share(self) -> float:
        if not self._seen:
            return 0.0
        (_, predictions, skipped), (_, first_predictions, first_skipped) = self._seen[-1], self._seen[0]
        missed, made = skipped - first_skipped, predictions - first_predictions
        return missed / (missed + made) if missed else 0.0


def not_ready(
    status: LiveStatus, silent_s: float | None, late_share: float, deadline_s: float, skipped_share: float = 0.0
) -> list[str]:
    """Why the service is not ready; empty when it is."""
    reasons = []
    if status.state != "running":
        reasons.append(f"the decoder is {status.state}" + (f": {status.problem}" if status.problem else ""))
    elif status.problem:  # samples come, and nothing is decoded
        reasons.append(status.problem)
    if silent_s is None:
        reasons.append("no sample has arrived")
    elif silent_s > SILENT_S:
        reasons.append(f"no sample for {silent_s:.1f} s")
    if late_share > 0.01:
        reasons.append(f"{late_share:.0%} of predictions later than {deadline_s * 1000:g} ms, expected at most 1 %")
    if skipped_share > MOST_SKIPPED:
        reasons.append(
            f"{skipped_share:.0%} of windows skipped, expected at most {MOST_SKIPPED:.0%}: the decoder is slower than "
            "the hop; choose a smaller bundle or a longer hop, or give it the machine"
        )
    return reasons


def status_fields(status: LiveStatus, participant: str | None, session: str | None) -> dict[str, Any]:
    """The decode thread's state for JSON; `participant` and `session` are the operator's word for a silent stream."""
    stream = status.stream
    return {
        "state": status.state,
        "problem": status.problem,
        "stream": stream
        and {
            "source": stream.kind,
            "name": stream.name,
            "rate_hz": stream.rate_hz,
            "channels": stream.n_channels,
            "participant": stream.participant or participant,
            "session": stream.session or session,
            "map_sha256": stream.array.sha256(),
        },
        "counters": asdict(status.counters) if status.counters else None,
        "predictions": status.predictions,
        "skipped_windows": status.skipped_windows,
        "late_markers": status.late_markers,
        "keep_warm_pulses": status.keep_warm_pulses,
        "last_sample_time": finite(status.last_sample_time),
        "last_prediction_time": finite(status.last_prediction_time),
        "rate_measured_hz": finite(status.rate_measured_hz),
        "signal_delay_s": finite(status.signal_delay_s),
        "usable_channels": int(np.count_nonzero(status.usable)),
        "not_calibrated": status.not_calibrated,
        "drift": _drift(status),
    }


def _drift(status: LiveStatus) -> dict[str, Any]:
    """Distances as shares of their limits: beyond 1 the input has drifted; null until they mean something."""
    found = status.drift
    if found is None:
        why = "no calibrated stream, or a bundle that does not know its usual input; `phosphene calibrate` writes one"
        return {"measured": False, "why": why}
    shares = {"mua": finite(found.mua), "embedding": finite(found.embedding)}
    return {"measured": True, "drifts": found.drifts, **shares}


def array_fields(status: LiveStatus) -> dict[str, Any]:
    """What the heat map shows, per channel in stream order; `positions` are (column, row) places."""
    stream = status.stream
    return {
        "labels": stream.array.labels if stream else [],
        "positions": stream.array.positions if stream else None,
        "usable": np.asarray(status.usable, bool),
        "envelope_uv": _rounded(status.envelope_uv),
        "z": _rounded(status.z),
        "noise_uv": _rounded(status.noise_uv),
        "masked": status.masked,
    }


def finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _rounded(values: NDArray[np.float32] | Sequence[float]) -> list[float | None]:
    array = np.asarray(values, float)
    return [round(v, 3) if ok else None for v, ok in zip(array.tolist(), np.isfinite(array).tolist(), strict=True)]


def _ms(value: float) -> float:
    return round(float(value), 3)
