"""The service's figures for Prometheus. Nothing else knows prometheus_client.

The decode thread counts in plain numbers; ten times a second its snapshot is copied here. Latencies are observed on the
event loop, after the frame has gone out. Names, units and labels follow Prometheus' own rules: seconds, `_total`,
moments of the wall clock and not ages, every label set there from the start. No label holds a participant, a client or
anything unbounded. docs/operations.md has the list.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Metric,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector

from streaming.gate_status import GateStatistics
from streaming.live_status import LiveStatus, State
from streaming.predictions import Flag, Prediction
from streaming.states import State as TriggerState
from streaming.trigger import Reason

if TYPE_CHECKING:
    from server.journal.writer import JournalStatistics
    from server.service import Service

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series beside each counter that nobody asks for

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# seconds, with a boundary on each number that docs/performance.md promises (6 and 8 ms), on the hop (10 ms) and on the
# age that a trigger may have (50 ms): a classic histogram can only answer at its boundaries
BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0)  # at 3 s without its client it disarms
OUTCOMES = ("trigger", "sham", "would_fire", "refused")  # of a decision; the fifth, "inhibited", has a reason
REFUSED = (401, 403, 413, 415, 429, 503)  # answers to a client that was not let in
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
    """`deadline_s` is the service's own, from the newest sample to the prediction."""

    def __init__(self, deadline_s: float = 0.05) -> None:
        self.registry = CollectorRegistry()
        kept: dict[str, Any] = {"registry": self.registry}
        self._deadline_ms = deadline_s * 1000
        buckets = sorted({*BUCKETS, deadline_s})
        stage = Histogram(
            "phosphene_stage_duration_seconds", "Time per decoded window and stage", ["stage"], buckets=buckets, **kept
        )
        self._stages = {name: stage.labels(name) for name in ("signal", "queue", "inference")}
        self._total = Histogram(
            "phosphene_sample_to_prediction_seconds",
            "Newest sample to prediction, of decoded windows",
            buckets=buckets,
            **kept,
        )
        self._late = Counter(
            "phosphene_late_predictions", "Decoded windows later than the deadline that /readyz keeps", **kept
        )
        predictions = Counter(
            "phosphene_predictions", "Predictions, by whether they can be vouched for", ["valid"], **kept
        )
        self._predictions = {valid: predictions.labels(str(valid).lower()) for valid in (True, False)}
        flags = Counter("phosphene_prediction_flags", "Predictions with this flag", ["flag"], **kept)
        self._flags = {name: flags.labels(name) for name in get_args(Flag)}
        self._negative = Counter(
            "phosphene_negative_latencies", "Latencies below zero (a clock's error), counted as zero", **kept
        )
        self._skipped = Counter("phosphene_skipped_windows", "Windows that were due but not decoded", **kept)
        self._pulses = Counter("phosphene_keep_warm_pulses", "Windows for nothing, to keep a GPU awake", **kept)
        self._late_markers = Counter("phosphene_late_markers", "Markers that came after their predictions", **kept)
        self._hangs = Counter("phosphene_decoder_hangs", "Times that an inference did not come back in time", **kept)

        self._counters = {
            name: Counter(f"phosphene_source_{name}", help.capitalize(), **kept)
            for name, help in SOURCE_COUNTERS.items()
        }
        self._last_sample = Gauge(
            "phosphene_source_last_sample_timestamp_seconds",
            "Unix time at which a sample last arrived, to a tenth of a second; 0 before the first",
            **kept,
        )
        self._rate = Gauge(
            "phosphene_source_nominal_rate_hertz", "Rate that the newest stream declares; 0 before one", **kept
        )
        self._channels = Gauge("phosphene_channels", "Channels of the newest stream; 0 before one", **kept)
        self._usable = Gauge("phosphene_usable_channels", "Channels that enter the windows", **kept)

        state = Gauge("phosphene_state", "1 for the state of the decode thread", ["state"], **kept)
        self._states = {name: state.labels(name) for name in get_args(State)}
        self._ready = Gauge("phosphene_ready", "Whether /readyz says yes", **kept)
        self._build = Info(
            "phosphene_build",
            "1; version, model, bundle_sha256, provider and precision of what runs are its labels",
            **kept,
        )
        self._build_of = ("", "")
        self._subscribers = Gauge("phosphene_subscribers", "WebSocket clients", **kept)
        self._dropped = Counter("phosphene_dropped_messages", "Messages that slow clients did not get", **kept)
        self._refused = Counter(
            "phosphene_refused_clients",
            "Requests and handshakes not let in, by the answer's status",
            ["status"],
            **kept,
        )
        for status in REFUSED:
            self._refused.labels(status)
        self._loop_lag = Histogram(
            "phosphene_event_loop_lag_seconds", "How late a tick was, ten times a second", buckets=LAG_BUCKETS, **kept
        )
        drift = Gauge("phosphene_drift_ratio", "Distance from the usual input, of its limit", ["of"], **kept)
        self._drift = {of: drift.labels(of) for of in ("mua", "embedding")}

        trigger = Gauge("phosphene_trigger_state", "1 for the state of the trigger", ["state"], **kept)
        self._trigger_states = {state: trigger.labels(state.value) for state in TriggerState}
        decisions = Counter(
            "phosphene_trigger_decisions",
            "What became of predictions; the reason of `inhibited` is of docs/safety.md, else `none`",
            ["outcome", "reason"],
            **kept,
        )
        self._decided = {outcome: decisions.labels(outcome, "none") for outcome in OUTCOMES}
        self._inhibited = {reason.name: decisions.labels("inhibited", reason.name) for reason in Reason}
        self._lease = Gauge(
            "phosphene_operator_lease_timestamp_seconds",
            "Unix time at which the client of an armed trigger last renewed its lease; 0 before the first arming",
            **kept,
        )

        self._rows = Counter("phosphene_journal_rows", "Rows of the journal's file that are on the disk", **kept)
        self._refused_rows = Counter("phosphene_journal_refused_rows", "Rows that found the queue full: lost", **kept)
        self._failures = Counter("phosphene_journal_failures", "Transactions that the disk did not take", **kept)
        self._waiting = Gauge("phosphene_journal_waiting_rows", "Rows that are not on the disk yet", **kept)
        self._lag = Gauge("phosphene_journal_lag_seconds", "How long the oldest row that waits has waited", **kept)

        ProcessCollector(registry=self.registry)
        self._seen: dict[str, int] = {}
        self._text = b""

    def observe(self, prediction: Prediction, blind: bool) -> None:
        """Count one prediction, as clients see it; `blind`: its probability may be hidden although it stands."""
        latency = prediction.latency_ms
        if prediction.embedding is not None:  # what was not decoded cost next to nothing
            for name, histogram in self._stages.items():
                self._observe(histogram, getattr(latency, name))
            self._observe(self._total, latency.total)
            if latency.total > self._deadline_ms:
                self._late.inc()
        hidden = blind and set(prediction.flags) <= {"overload"}  # which takes nothing back
        self._predictions[hidden or prediction.probability is not None].inc()
        for flag in prediction.flags:
            if flag in self._flags:
                self._flags[flag].inc()

    def publish(self, status: LiveStatus, service: Service, ready: bool) -> None:
        """Copy a snapshot into the registry."""
        self._text = b""
        samples = getattr(status.counters, "samples", 0)
        if samples != self._seen.get("samples", 0):
            self._last_sample.set_to_current_time()
        for name, counter in self._counters.items():
            self._advance(counter, name, getattr(status.counters, name, 0))
        self._advance(self._skipped, "skipped_windows", status.skipped_windows)
        self._advance(self._late_markers, "late_markers", status.late_markers)
        self._advance(self._pulses, "keep_warm_pulses", status.keep_warm_pulses)
        for name, gauge in self._states.items():
            gauge.set(name == status.state)
        self._rate.set(status.stream.rate_hz if status.stream else 0)
        self._channels.set(status.stream.n_channels if status.stream else 0)
        self._usable.set(int(status.usable.sum()))
        self._ready.set(ready)
        self._subscribers.set(service.subscribers)
        self._advance(self._dropped, "dropped", service.dropped)
        for refused, count in service.refusals.items():
            self._advance(self._refused.labels(refused), f"refused {refused}", count)
        for of, gauge in self._drift.items():
            gauge.set(getattr(status.drift, of, float("nan")))
        self._publish_trigger(service.gate.statistics(), service.gate.blind)
        self._publish_journal(service.journal.statistics())
        bundle = (service.decoder.name, service.decoder.manifest.manifest_sha256)
        if bundle != self._build_of:
            self._build_of = bundle
            self._build.info(
                {
                    "version": importlib.metadata.version("phosphene"),
                    "model": bundle[0],
                    "bundle_sha256": bundle[1][:12],
                    "provider": service.decoder.provider,
                    "precision": service.decoder.precision,
                }
            )

    def _publish_trigger(self, statistics: GateStatistics, blind: bool) -> None:
        for state, gauge in self._trigger_states.items():
            gauge.set(state is statistics.state)
        if statistics.lease_age_s is not None:
            self._lease.set(time.time() - statistics.lease_age_s)
        self._advance(self._decided["trigger"], "trigger", statistics.triggers)
        self._advance(self._decided["would_fire"], "would_fire", statistics.would_fire)
        self._advance(self._decided["refused"], "refused", statistics.dropped)
        if blind:  # a sham, THRESHOLD or WAIT tell which arm a trial has; the counts follow once it is over
            return
        self._advance(self._decided["sham"], "sham", statistics.shams)
        for reason, counter in self._inhibited.items():
            self._advance(counter, f"inhibited {reason}", statistics.inhibited.get(reason, 0))

    def _publish_journal(self, statistics: JournalStatistics) -> None:
        self._advance(self._rows, "rows", statistics.rows)
        self._advance(self._refused_rows, "refused_rows", statistics.refused)
        self._advance(self._failures, "failures", statistics.failures)
        self._waiting.set(statistics.waiting)
        self._lag.set(statistics.lag_s)

    def loop_lag(self, seconds: float) -> None:
        self._loop_lag.observe(max(0.0, seconds))

    def decoder_hangs(self) -> None:
        self._hangs.inc()

    def text(self) -> bytes:
        """What a scrape gets: written once per snapshot, however many ask (it takes 4 ms of the event loop)."""
        if not self._text:
            self._text = generate_latest(self.registry)
        return self._text

    def _observe(self, histogram: Histogram, milliseconds: float) -> None:
        if milliseconds < 0:
            self._negative.inc()
        histogram.observe(max(0.0, milliseconds * 1e-3))

    def _advance(self, counter: Counter, name: str, total: int) -> None:
        """Bring a counter up to a total that someone else counts; one that starts again from zero is added anew."""
        before = self._seen.get(name, 0)
        counter.inc(total - before if total >= before else total)
        self._seen[name] = total


class Together(Collector):
    """The metrics of several arrays, each sample labelled with its `array`."""

    def __init__(self, arrays: Mapping[str, Metrics]) -> None:
        self._arrays = arrays

    def collect(self) -> Iterator[Metric]:
        for families in zip(*(one.registry.collect() for one in self._arrays.values()), strict=True):
            if families[0].name.startswith("process_"):  # of all of them: they are one
                yield families[0]
                continue
            together = Metric(families[0].name, families[0].documentation, families[0].type)
            for name, family in zip(self._arrays, families, strict=True):
                together.samples += [one._replace(labels={"array": name, **one.labels}) for one in family.samples]
            yield together

    def text(self) -> bytes:
        return generate_latest(self)
