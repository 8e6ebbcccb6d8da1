"""Refractory and rate on our own clock, and the moment known ahead at which neither bars a pulse any more."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from streaming.clock_guard import ClockGuard
from streaming.limits import Budget

BUDGET = Budget(refractory_s=2.0, pulses_per_minute=3)


def test_nothing_bars_the_first_pulse() -> None:
    guard = ClockGuard()
    assert guard.free_from(BUDGET) == -math.inf
    assert guard.why_not(BUDGET, 0.0) == ""


def test_the_pulse_before_and_those_of_the_minute() -> None:
    guard = ClockGuard([20.0, 0.0])
    assert guard.free_from(BUDGET) == 22.0
    assert "1.500 s since the last pulse" in guard.why_not(BUDGET, 21.5)
    guard.add(30.0)
    assert guard.free_from(BUDGET) == 60.0, "when the first of three leaves the minute"
    assert "this minute's pulses are spent" in guard.why_not(BUDGET, 59.9)
    assert guard.in_minute(59.9) == 3
    assert guard.why_not(BUDGET, 60.0) == ""
    assert guard.in_minute(60.0) == 2


@given(st.lists(st.integers(0, 400), max_size=12), st.integers(400, 1000), st.integers(1, 5))
def test_what_is_known_ahead_is_what_is_found_then(moments: list[int], now: int, most: int) -> None:
    budget = Budget(refractory_s=2.0, pulses_per_minute=most)
    guard = ClockGuard(moment / 4 for moment in moments)
    assert (now / 4 >= guard.free_from(budget)) == (guard.why_not(budget, now / 4) == "")


def test_what_left_the_minute_is_forgotten() -> None:
    guard = ClockGuard()
    for second in range(0, 600, 10):
        guard.add(float(second))
    assert len(guard._fired) == 6
