"""What /metrics says follows Prometheus' rules, stands in the docs, and is true."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.journal.writer import JournalStatistics
from server.metrics import BUCKETS, Metrics
from server.service import TICK_S, Service
from server.settings import Settings
from streaming.gate_status import GateStatistics
from streaming.predictions import Latency
from streaming.states import State
from tests.server.fakes import FakeBundles, FakeDecoder, FakeLive, prediction

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
UNITS = (
    "_seconds",
    "_hertz",
    "_bytes",
    "_info",
    "_state",
    "_channels",
    "_subscribers",
    "_ready",
    "_rows",
    "_fds",
    "_ratio",
)


@pytest.fixture
def live() -> FakeLive:
    return FakeLive()


@pytest.fixture
def service(live: FakeLive) -> Service:
    return Service(live, FakeDecoder(), Settings(deadline_s=0.03), FakeBundles())


def value(metrics: Metrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(name, labels)
    assert found is not None, (name, labels)
    return found


def families() -> list[Any]:
    return sorted(Metrics().registry.collect(), key=lambda family: family.name)


def exposed_name(family: Any) -> str:
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


def rows() -> list[str]:
    """The table of docs/operations.md."""
    told = []
    for family in families():
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        kind = "gauge" if family.type == "info" else family.type
        told.append(f"| `{exposed_name(family)}` | {kind} | {', '.join(labels)} | {family.documentation} |")
    return [row for row in told if row.startswith("| `phosphene_")]


def test_the_page_has_them_all() -> None:
    table = [line for line in PAGE.read_text().splitlines() if line.startswith("| `phosphene_")]
    assert table == rows(), "put these rows into docs/operations.md:\n" + "\n".join(rows())


def test_names_end_in_a_base_unit_or_in_what_they_count() -> None:
    for family in families():
        name = exposed_name(family)
        assert name.startswith(("phosphene_", "process_"))
        assert name.endswith("_total") == (family.type == "counter")
        assert family.type == "counter" or name.endswith(UNITS), name
        assert not any(word in name for word in ("milli", "micro", "percent", "age_seconds")), name


def test_no_label_set_appears_later_than_the_start(service: Service, live: FakeLive) -> None:
    """So that a rate over a counter's first increase is no gap; the bundle alone has labels that change."""

    def label_sets() -> set[Any]:
        samples = [one for family in service.metrics.registry.collect() for one in family.samples]
        return {(one.name, tuple(sorted(one.labels.items()))) for one in samples if not one.name.endswith("_info")}

    before = label_sets()
    live.state = "running"
    live.counters.samples = 300
    for flag in ("gap", "drift", "overload"):
        service.metrics.observe(prediction(0, probability=None, flags=(flag,)), False)
    service.refused(503, "full")
    service.refused(403, "found Host 'evil', expected ours")
    service.tick(0)
    assert label_sets() == before
    assert len(before) < 500  # what one scrape may cost
    labels = {label for _, pairs in before for label, _ in pairs}
    assert labels == {"stage", "le", "valid", "flag", "state", "status", "outcome", "reason", "of"}


def test_a_flood_of_scrapes_is_written_once_per_snapshot(service: Service) -> None:
    service.tick(0)
    took = []
    for _ in range(20):
        began = time.perf_counter()
        text = service.metrics.text()
        took.append(time.perf_counter() - began)
        assert service.metrics.text() is text
        service.tick(1)
    assert service.metrics.text() is not text
    assert min(took) < TICK_S  # 4 ms where it was measured; the event loop waits for it


def test_boundaries_stand_on_the_deadlines() -> None:
    assert {0.006, 0.008, 0.01, 0.05} <= set(BUCKETS)
    of_mine = [
        one.labels["le"] for family in Metrics(0.033).registry.collect() for one in family.samples if "le" in one.labels
    ]
    assert "0.033" in of_mine


def test_the_newest_sample_is_a_moment_of_the_wall_clock(service: Service, live: FakeLive) -> None:
    name = "phosphene_source_last_sample_timestamp_seconds"
    service.tick(0)
    assert value(service.metrics, name) == 0.0
    live.counters.samples = 300
    before = time.time()
    service.tick(1)
    arrived = value(service.metrics, name)
    assert before <= arrived <= time.time()
    service.tick(2)
    assert value(service.metrics, name) == arrived, "nothing new has come"


def test_late_is_what_readiness_calls_late(service: Service) -> None:
    for total_ms in (29.9, 30.1, 400.0, -2.0):
        service.metrics.observe(prediction(0, latency_ms=Latency(1.0, 0.1, 2.0, total_ms)), False)
    assert value(service.metrics, "phosphene_late_predictions_total") == 2.0
    assert value(service.metrics, "phosphene_negative_latencies_total") == 1.0
    assert value(service.metrics, "phosphene_sample_to_prediction_seconds_bucket", le="0.03") == 2.0


@pytest.mark.parametrize(
    ("flags", "blind", "valid"),
    [((), False, "false"), ((), True, "true"), (("overload",), True, "true"), (("gap",), True, "false")],
)
def test_what_a_blind_experiment_hides_can_be_vouched_for(
    service: Service, flags: tuple[str, ...], blind: bool, valid: str
) -> None:
    service.metrics.observe(prediction(0, probability=None, flags=flags), blind)
    assert value(service.metrics, "phosphene_predictions_total", valid=valid) == 1.0


def statistics(**changes: Any) -> GateStatistics:
    counts = {"triggers": 3, "would_fire": 1, "shams": 2, "dropped": 1, "inhibited": {"THRESHOLD": 40}}
    return GateStatistics(**{"state": State.ARMED, **counts, "lease_age_s": 0.4, **changes})


def decided(metrics: Metrics, outcome: str, reason: str = "none") -> float:
    return value(metrics, "phosphene_trigger_decisions_total", outcome=outcome, reason=reason)


def publish(
    service: Service, gate: GateStatistics, blind: bool = False, journal: JournalStatistics | None = None
) -> None:
    seen = SimpleNamespace(**vars(service))
    seen.gate = SimpleNamespace(statistics=lambda: gate, blind=blind)
    seen.journal = SimpleNamespace(statistics=lambda: journal or JournalStatistics())
    service.metrics.publish(service.snapshot(), seen, ready=True)


def test_decisions_by_outcome_and_reason(service: Service) -> None:
    metrics = service.metrics
    publish(service, statistics())
    assert [decided(metrics, outcome) for outcome in ("trigger", "sham", "would_fire", "refused")] == [3, 2, 1, 1]
    assert decided(metrics, "inhibited", "THRESHOLD") == 40
    assert value(metrics, "phosphene_trigger_state", state="ARMED") == 1.0
    assert value(metrics, "phosphene_operator_lease_timestamp_seconds") == pytest.approx(time.time() - 0.4, abs=5)
    publish(service, statistics(state=State.DISARMED, lease_age_s=None))
    assert value(metrics, "phosphene_operator_lease_timestamp_seconds") > 0, "the last stands"


def test_a_blind_experiment_tells_no_arm(service: Service) -> None:
    publish(service, statistics(), blind=True)
    assert decided(service.metrics, "sham") == decided(service.metrics, "inhibited", "THRESHOLD") == 0
    assert decided(service.metrics, "trigger") == 3, "that current flowed is never hidden"
    publish(service, statistics(triggers=4))
    assert decided(service.metrics, "sham") == 2, "once it is over"


def test_the_journal_and_the_bundle(service: Service) -> None:
    publish(service, statistics(), journal=JournalStatistics(rows=9, waiting=4, lag_s=0.7, refused=2, failures=1))
    names = ("rows_total", "waiting_rows", "lag_seconds", "refused_rows_total", "failures_total")
    assert [value(service.metrics, f"phosphene_journal_{name}") for name in names] == [9, 4, 0.7, 2, 1]
    service.decoder = FakeDecoder("fake@2")
    publish(service, statistics())
    (build,) = [
        line for line in service.metrics.text().decode().splitlines() if line.startswith("phosphene_build_info{")
    ]
    assert 'bundle_sha256="bbbbbbbbbbbb"' in build
    assert 'model="fake@2"' in build


def test_refusals_are_counted_by_the_answer(service: Service) -> None:
    service.refused(503, "full")
    service.refused(503, "full")
    service.tick(0)
    assert value(service.metrics, "phosphene_refused_clients_total", status="503") == 2.0
