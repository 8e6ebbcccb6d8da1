"""The state is entered, lasts and is left; with a mean over time, and without."""

from __future__ import annotations

import math

import pytest

from streaming.favour import Favour
from streaming.limits import Pattern, Pulse
from streaming.plan import Trial

PATTERN = Pattern(34, 10.0, Pulse(phase_us=170, interphase_us=60, frequency_hz=300, pulses=50))
FAVOURABLE, UNFAVOURABLE = (Trial(arm, False, PATTERN, 0.5) for arm in ("favourable", "unfavourable"))
FORGETS = 500.0


def log_odds(probability: float | None) -> float:
    assert probability is not None
    return math.log(probability / (1 - probability))


@pytest.mark.parametrize(("trial", "mirror"), [(FAVOURABLE, False), (UNFAVOURABLE, True)])
def test_entered_at_p_on_left_below_p_off_and_counted_meanwhile(trial: Trial, mirror: bool) -> None:
    favour, dwells = Favour(0.70, 0.60, 0.0), []
    for now, wanted in enumerate((0.69, 0.70, 0.61, 0.70, 0.59, 0.69, 0.90)):
        given = 1.0 - wanted if mirror else wanted
        assert favour.push(trial, given, now) == pytest.approx(wanted, abs=1e-15)
        assert favour.probability == given, "what was told is the probability of a percept, whatever the arm"
        dwells.append(favour.dwell)
    assert dwells == [0, 1, 2, 3, 0, 0, 1]


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf, -1e-9, 1.0000001, "0.9", True])
def test_what_is_no_probability_ends_the_state(unknown: object) -> None:
    favour = Favour(0.70, 0.60, 0.0)
    favour.push(FAVOURABLE, 0.9, 0)
    assert favour.push(FAVOURABLE, unknown, 1) == 0.0  # type: ignore[arg-type]
    assert (favour.probability, favour.inside, favour.dwell) == (None, False, 0)


def test_without_a_trial_nothing_is_waited_for_and_the_mean_goes_on() -> None:
    favour = Favour(0.70, 0.60, FORGETS)
    assert favour.push(None, 0.9, 0) == 0.0
    assert (favour.probability, favour.inside) == (pytest.approx(0.9), False)


def test_the_mean_counts_time_and_begins_anew_behind_a_null() -> None:
    favour = Favour(0.70, 0.60, FORGETS)
    favour.push(FAVOURABLE, 0.01, 0)
    favour.push(FAVOURABLE, 0.9, 410)  # skipped windows: the mean forgets as if they had been there
    keep = math.exp(-410 / FORGETS)
    assert log_odds(favour.probability) == pytest.approx(keep * log_odds(0.01) + (1 - keep) * log_odds(0.9))
    favour.push(FAVOURABLE, None, 420)
    favour.push(FAVOURABLE, 1.0, 430)
    assert log_odds(favour.probability) == pytest.approx(math.log(1e6), rel=1e-3), "bounded, and alone"


def test_a_state_that_was_answered_must_be_entered_again_and_the_mean_goes_on() -> None:
    favour = Favour(0.70, 0.60, FORGETS)
    favour.push(FAVOURABLE, 0.99, 0)
    favour.leave()
    assert (favour.inside, favour.dwell) == (False, 0)
    favour.push(FAVOURABLE, 0.5, 10)
    assert favour.dwell == 1
    favour.begin()
    favour.push(FAVOURABLE, 0.5, 20)
    assert (favour.probability, favour.dwell) == (pytest.approx(0.5), 0)
