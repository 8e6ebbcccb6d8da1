"""Refractory, rate and duty on our own clock, and the moment known ahead at which none bars a pulse any more."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from streaming.budgets import Dose
from streaming.clock_guard import ClockGuard, Train
from streaming.limits import Budget

BUDGET = Budget(refractory_s=2.0, pulses_per_minute=3)
DOSE = Dose(34, 0.1, 0.2)


def test_nothing_bars_the_first_pulse() -> None:
    guard = ClockGuard()
    assert guard.free_from(BUDGET, DOSE) == -math.inf
    assert guard.why_not(BUDGET, DOSE, 0.0) == ""


def test_the_pulse_before_and_those_of_the_minute() -> None:
    guard = ClockGuard([Train(20.0, 34, 0.2), Train(0.0, 34, 0.2)])
    assert guard.free_from(BUDGET, DOSE) == 22.0
    assert "1.500 s since the last pulse" in guard.why_not(BUDGET, DOSE, 21.5)
    guard.add(30.0, DOSE)
    assert guard.free_from(BUDGET, DOSE) == 60.0, "when the first of three leaves the minute"
    assert "this minute's pulses are spent" in guard.why_not(BUDGET, DOSE, 59.9)
    assert guard.in_minute(59.9) == 3
    assert guard.why_not(BUDGET, DOSE, 60.0) == ""
    assert guard.in_minute(60.0) == 2


def test_refractory_may_be_longer_than_a_minute() -> None:
    budget = Budget(refractory_s=600.0)
    for guard in (ClockGuard([Train(0.0, 34, 0.2)]), ClockGuard()):
        guard.add(0.0, DOSE)
        assert "599.000 s since the last pulse" in guard.why_not(budget, DOSE, 599.0)
        assert guard.in_minute(599.0) == 0
        assert guard.why_not(budget, DOSE, 600.0) == ""


def test_the_trains_of_the_electrode_and_those_that_may_have_been_its() -> None:
    budget = Budget(refractory_s=2.0, duty=0.01)  # three trains of 0.2 s
    guard = ClockGuard([Train(0.0, 34, 0.2), Train(5.0, 35, 0.6), Train(10.0, None, 0.2)])
    assert guard.free_from(budget, DOSE) == 12.0
    guard.add(20.0, DOSE)
    assert guard.free_from(budget, DOSE) == 60.0, "when the first of three leaves the minute"
    assert "this electrode's share of the minute is spent" in guard.why_not(budget, DOSE, 59.9)
    assert guard.why_not(budget, DOSE, 60.0) == ""
    assert guard.free_from(budget, Dose(36, 0.1, 0.2)) == 22.0
    assert guard.free_from(budget, Dose(35, 0.1, 0.2)) == 65.0


TRAINS = st.builds(Train, st.integers(0, 400).map(lambda n: n / 4), st.sampled_from([34, 35, None]), st.just(0.25))


@given(st.lists(TRAINS, max_size=12), st.integers(400, 1000), st.integers(1, 12), st.sampled_from([0.01, 0.02, 0.1]))
def test_what_is_known_ahead_is_what_is_found_then(trains: list[Train], now: int, most: int, duty: float) -> None:
    budget = Budget(refractory_s=2.0, pulses_per_minute=most, duty=duty)
    guard = ClockGuard(trains)
    assert (now / 4 >= guard.free_from(budget, DOSE)) == (guard.why_not(budget, DOSE, now / 4) == "")


def test_what_left_the_minute_is_forgotten() -> None:
    guard = ClockGuard()
    for second in range(0, 600, 10):
        guard.add(float(second), DOSE)
    assert len(guard._fired) == 6
