"""The service's figures for Prometheus. Nothing else knows prometheus_client.

The decode thread counts in plain numbers; ten times a second its snapshot is copied here. Latencies are observed on the
event loop, after the frame has gone out. No label holds a participant, a client or anything unbounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)

from streaming.gate_status import GateStatistics
from streaming.live import LiveStatus, State
from streaming.predictions import Flag, Prediction
from streaming.states import State as TriggerState
from streaming.trigger import Reason

if TYPE_CHECKING:
    from server.service import Service

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series beside each counter that nobody asks for

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# seconds; boundaries on the objectives (20 ms, 50 ms), since a classic histogram can only answer at its boundaries
BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0)
SOURCE_COUNTERS = {
    "samples": "samples that arrived",
    "lost_samples": "samples that the source skipped",
    "gaps": "gaps in the samples",
    "backlog_samples": "samples that came too late to be decoded as if they were now",
    "backward_timestamps": "time stamps that went backwards",
    "doubled_timestamps": "time stamps that came twice",
    "reconnects": "times the stream was found again",
    "malformed_markers": "markers that could not be read",
    "unknown_markers": "markers of an unknown event",
}


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        kept: dict[str, Any] = {"registry": self.registry}
        stage = Histogram(
            "phosphene_stage_duration_seconds", "Time per prediction and stage", ["stage"], buckets=BUCKETS, **kept
        )
        self._stages = {name: stage.labels(name) for name in ("signal", "queue", "inference")}
        self._total = Histogram(
            "phosphene_sample_to_prediction_seconds", "Newest sample to prediction", buckets=BUCKETS, **kept
        )
        predictions = Counter(
            "phosphene_predictions", "Predictions, by whether the probability stands", ["valid"], **kept
        )
        self._predictions = {valid: predictions.labels(str(valid).lower()) for valid in (True, False)}
        flags = Counter("phosphene_prediction_flags", "Predictions with this flag", ["flag"], **kept)
        self._flags = {name: flags.labels(name) for name in get_args(Flag)}
        self._negative = Counter(
            "phosphene_negative_latencies", "Latencies below zero (a clock's error), counted as zero", **kept
        )
        self._counters = {
            name: Counter(f"phosphene_source_{name}", help.capitalize(), **kept)
            for name, help in SOURCE_COUNTERS.items()
        }
        self._skipped = Counter("phosphene_skipped_windows", "Windows that were due but not decoded", **kept)
        self._late_markers = Counter("phosphene_late_markers", "Markers that came after their predictions", **kept)
        self._dropped = Counter("phosphene_dropped_messages", "Messages that slow clients did not get", **kept)
        state = Gauge("phosphene_state", "1 for the state of the decode thread", ["state"], **kept)
        self._states = {name: state.labels(name) for name in get_args(State)}
        self._ready = Gauge("phosphene_ready", "Whether /readyz says yes", **kept)
        self._subscribers = Gauge("phosphene_subscribers", "WebSocket clients", **kept)
        self._usable = Gauge("phosphene_usable_channels", "Channels that enter the windows", **kept)
        self._rate = Gauge("phosphene_source_rate_hertz", "Measured rate of the stream", **kept)
        self._last_sample = Gauge(
            "phosphene_source_last_sample_timestamp_seconds", "Source clock time of the newest sample", **kept
        )
        self._loop_lag = Gauge("phosphene_event_loop_lag_seconds", "How late the newest tick was", **kept)
        trigger = Gauge("phosphene_trigger_state", "1 for the state of the trigger", ["state"], **kept)
        self._trigger_states = {state: trigger.labels(state.value) for state in TriggerState}
        self._triggers = Counter("phosphene_triggers", "Pulses that were asked for", **kept)
        self._would_fire = Counter("phosphene_would_fire", "Triggers in shadow: nothing left", **kept)
        self._trigger_dropped = Counter("phosphene_triggers_dropped", "Triggers that were not carried out", **kept)
        inhibited = Counter("phosphene_inhibited", "Predictions that became no trigger", ["reason"], **kept)
        self._inhibited = {reason.name: inhibited.labels(reason.name) for reason in Reason}
        self._model = Info("phosphene_model", "The bundle that runs", **kept)
        self._seen: dict[str, int] = {}

    def observe(self, prediction: Prediction) -> None:
        """Count one prediction."""
        latency = prediction.latency_ms
        for name, histogram in self._stages.items():
            self._observe(histogram, getattr(latency, name))
        self._observe(self._total, latency.total)
        self._predictions[prediction.probability is not None].inc()
        for flag in prediction.flags:
            if flag in self._flags:
                self._flags[flag].inc()

    def publish(self, status: LiveStatus, service: Service) -> None:
        """Copy a snapshot into the registry."""
        for name, counter in self._counters.items():
            self._advance(counter, name, getattr(status.counters, name, 0))
        self._advance(self._skipped, "skipped_windows", status.skipped_windows)
        self._advance(self._late_markers, "late_markers", status.late_markers)
        self._advance(self._dropped, "dropped", service.dropped)
        for name, gauge in self._states.items():
            gauge.set(name == status.state)
        self._ready.set(not service.not_ready(status))
        self._subscribers.set(service.subscribers)
        self._usable.set(int(status.usable.sum()))
        self._rate.set(status.rate_measured_hz)
        self._last_sample.set(status.last_sample_time)
        self._publish_trigger(service.gate.statistics(), service.gate.blind)
        self._model.info({"name": service.decoder.name, "provider": service.decoder.provider})

    def _publish_trigger(self, statistics: GateStatistics, blind: bool) -> None:
        for state, gauge in self._trigger_states.items():
            gauge.set(state is statistics.state)
        self._advance(self._triggers, "triggers", statistics.triggers)
        self._advance(self._would_fire, "would_fire", statistics.would_fire)
        self._advance(self._trigger_dropped, "trigger_dropped", statistics.dropped)
        if blind:  # THRESHOLD or WAIT tells which arm the next trial has; the counts follow once it is over
            return
        for reason, counter in self._inhibited.items():
            self._advance(counter, f"inhibited {reason}", statistics.inhibited.get(reason, 0))

    def loop_lag(self, seconds: float) -> None:
        self._loop_lag.set(max(0.0, seconds))

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def _observe(self, histogram: Histogram, milliseconds: float) -> None:
        if milliseconds < 0:
            self._negative.inc()
        histogram.observe(max(0.0, milliseconds * 1e-3))

    def _advance(self, counter: Counter, name: str, total: int) -> None:
        """Bring a counter up to a total that someone else counts; one that starts again from zero is added anew."""
        before = self._seen.get(name, 0)
        counter.inc(total - before if total >= before else total)
        self._seen[name] = total
