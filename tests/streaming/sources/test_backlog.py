"""Old samples are known by their number, whatever their stamps say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streaming.sources.backlog import BacklogGauge, RateGauge

RATE_HZ = 30000.0


def feed(gauge: BacklogGauge, arrivals: Iterator[tuple[float, int]]) -> list[tuple[float, bool]]:
    """(arrival, rows) pairs with stamps that always claim to be fresh."""
    said, total = [], 0
    for arrival, rows in arrivals:
        total += rows
        said.append((arrival, gauge.push(total, rows, arrival - 0.001, arrival)))
    return said


def steady(start: float, seconds: float, factor: float = 1.0) -> Iterator[tuple[float, int]]:
    """Millisecond chunks at `factor` times the rate."""
    for k in range(round(seconds * 1000)):
        yield start + k * 1e-3, round(30 * factor)


@pytest.mark.parametrize("factor", [0.9999, 1.0, 1.05])
def test_a_stream_near_its_rate_is_no_backlog(factor: float) -> None:
    assert not any(late for _, late in feed(BacklogGauge(RATE_HZ), steady(5.0, 3.0, factor)) if late)


@pytest.mark.parametrize("factor", [1.2, 2.5])
def test_faster_than_the_rate_is_backlog_within_100_ms_and_until_it_is_nominal_again(factor: float) -> None:
    gauge = BacklogGauge(RATE_HZ)
    said = feed(gauge, iter([*steady(0.0, 1.0, factor), *steady(1.0, 1.0)]))
    assert all(late for at, late in said if 0.11 < at < 1.0)
    assert not any(late for at, late in said if at > 1.11)


def test_the_burst_after_a_pause_is_backlog_although_its_stamps_are_fresh() -> None:
    """A second of silence, then the missed second within 0.67 s of sending at 2.5 times the rate."""
    gauge = BacklogGauge(RATE_HZ)
    said = feed(gauge, iter([*steady(0.0, 1.0), *steady(2.0, 0.667, 2.5), *steady(2.667, 1.0)]))
    burst = [late for at, late in said if 2.0 <= at < 2.55]
    assert burst
    assert all(burst)
    assert not any(late for at, late in said if at > 2.8)


def test_a_pull_that_came_late_is_whole_and_fresh() -> None:
    gauge = BacklogGauge(RATE_HZ)
    said = feed(gauge, iter([*steady(0.0, 1.0), (1.060, 61 * 30), *steady(1.061, 1.0)]))
    assert not any(late for _, late in said)


def test_more_than_250_ms_in_one_pull_are_backlog() -> None:
    gauge = BacklogGauge(RATE_HZ)
    said = feed(gauge, iter([*steady(0.0, 1.0), (1.3, 301 * 30), *steady(1.301, 0.5)]))
    assert [at for at, late in said if late] == [1.3]


@pytest.mark.parametrize("age", [0.26, -0.26, 3600.0])
def test_stamps_far_from_the_clock_are_not_now(age: float) -> None:
    gauge = BacklogGauge(RATE_HZ)
    assert gauge.push(30, 30, 10.0 - age, 10.0)
    assert not gauge.push(60, 30, 10.0, 10.001)


@pytest.mark.parametrize("chunk", [1, 3000])
def test_chunks_of_any_size_and_in_parts_are_no_backlog(chunk: int) -> None:
    """100 ms chunks that come in four parts within a millisecond; single samples."""
    arrivals = []
    for k in range(20 if chunk > 1 else 20000):
        at = (k + 1) * chunk / RATE_HZ
        arrivals += [(at + part * 3e-4, chunk // 4) for part in range(4)] if chunk > 1 else [(at, 1)]
    assert not any(late for _, late in feed(BacklogGauge(RATE_HZ), iter(arrivals)))


@pytest.mark.parametrize(("factor", "named"), [(1.0, 0), (1.004, 0), (0.99, 2), (0.8, 2)])
def test_a_rate_that_is_not_the_declared_one_is_measured(factor: float, named: int) -> None:
    gauge = RateGauge(RATE_HZ)
    chunk = round(300 * factor)
    said = [gauge.push(chunk, 5.0 + 0.01 * k * chunk / (300 * factor)) for k in range(2002)]
    measured = [rate for rate in said if rate is not None]
    assert len(measured) == named
    assert measured == pytest.approx([RATE_HZ * factor] * named, rel=1e-3)
