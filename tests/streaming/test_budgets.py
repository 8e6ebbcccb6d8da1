"""What is known ahead of each budget is what it becomes."""

from __future__ import annotations

import math

import pytest

from streaming.budgets import ALWAYS, NEVER, Dose, Progress
from streaming.limits import Pattern, Pulse
from streaming.plan import Trial

MINUTE = 60
PATTERN = Pattern(34, 10.0, Pulse(phase_us=170, interphase_us=60, frequency_hz=300, pulses=50))
DOSE = Dose.of(PATTERN)
FAVOURABLE, SHAM = Trial("favourable", False, PATTERN, 0.5), Trial("favourable", True, PATTERN, 0.5)


def after(*moments: int, trial: Trial = FAVOURABLE) -> Progress:
    progress = Progress()
    for moment in moments:
        progress.add(moment, trial, DOSE, waited_s=float(moment))
    return progress


def test_a_dose_is_the_train_of_its_pattern() -> None:
    assert pytest.approx((34, 50 * 1.7e-3, 49 / 300 + 400e-6)) == DOSE


def test_nothing_spent_bars_nothing() -> None:
    fresh = Progress()
    assert fresh.rested_from(2000) == fresh.rate_allows_from(1, MINUTE) == fresh.session_allows_from(1) == ALWAYS
    assert fresh.duty_allows_from(DOSE, 6.0, MINUTE) == fresh.day_allows_from(DOSE, 290.0) == ALWAYS


def test_refractory_counts_from_the_last_pulse() -> None:
    assert after(3, 10).rested_from(2000) == 2010


def test_the_rate_allows_the_next_when_the_oldest_of_the_last_is_a_minute_old() -> None:
    progress = after(3, 10, 20)
    assert [progress.rate_allows_from(most, MINUTE) for most in (1, 2, 3, 4)] == [80, 70, 63, ALWAYS]


def test_a_sessions_pulses_do_not_come_back() -> None:
    assert [after(3, 10).session_allows_from(most) for most in (1, 2, 3)] == [NEVER, NEVER, ALWAYS]


def test_as_each_train_leaves_the_minute_there_is_room_for_more() -> None:
    """A pulse that is longer than the share never has any."""
    progress = Progress()
    for moment, electrode in enumerate((34, 35, 34, 34)):
        progress.trains.append((moment, electrode, 0.2))
    at = {most_s: progress.duty_allows_from(Dose(34, 0.1, 0.3), most_s, 60) for most_s in (0.2, 0.3, 0.5, 0.71, 0.91)}
    assert at == {0.2: math.inf, 0.3: 63, 0.5: 62, 0.71: 60, 0.91: -math.inf}


@pytest.mark.parametrize(("had_uc", "expected"), [(0.0, ALWAYS), (0.2, ALWAYS), (0.3, NEVER), (math.nan, NEVER)])
def test_a_days_charge_does_not_come_back_and_what_cannot_be_compared_is_not_room(
    had_uc: float, expected: float
) -> None:
    progress = Progress({34: had_uc, 35: 1000.0})
    assert progress.day_allows_from(DOSE, 0.3) == expected


def test_a_sham_takes_its_place_and_no_charge() -> None:
    progress = after(3, 10, trial=SHAM)
    assert (progress.pulses, progress.next_trial, progress.rested_from(5)) == (2, 2, 15)
    assert progress.rate_allows_from(2, MINUTE) == 63
    assert (progress.day_uc, list(progress.trains)) == ({}, [])


def test_the_waits_are_those_of_favourable_trials() -> None:
    progress = after(3, 10)
    progress.add(20, Trial("random", False, PATTERN, 0.5), DOSE, waited_s=9.0)
    assert progress.waits_s == [3.0, 10.0]


def test_what_is_a_minute_old_is_forgotten_by_the_rates_alone() -> None:
    progress = after(3, 10, 20)
    progress.forget(10)
    assert (list(progress.moments), len(progress.trains)) == ([20], 1)
    assert (progress.pulses, progress.day_uc) == (3, {34: pytest.approx(3 * DOSE.charge_uc)})
