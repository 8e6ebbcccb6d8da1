"""The rules behind every driver, without one: each id once, one outcome each, in any order of calls."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import Fault, RigFault
from streaming.stimulators.shots import MOST_OUTCOMES, Shots
from streaming.stimulators.stimulator import Capabilities, NotSent, deliverable
from tests.streaming.stimulators.benches import limits

LIMITS = limits()
PATTERN = LIMITS.patterns[0]
CALLS = ("arm", "disarm", "fire", "again", "answer", "refuse", "stale", "fail", "withdraw", "status", "wait", "rest")


@settings(max_examples=200, deadline=None)
@given(st.booleans(), st.lists(st.sampled_from(CALLS), max_size=60))
def test_each_id_leaves_at_most_once_and_has_one_outcome(acknowledges: bool, calls: list[str]) -> None:
    shots = Shots(Capabilities("walk", acknowledges=acknowledges))
    now, number, fired, told, withdrawn, free_at = 0.0, 0, [], [], [], 0.0
    for call in calls:
        armed, before = shots.armed, len(fired)
        match call:
            case "arm":
                try:
                    shots.arm(LIMITS, now)
                except Fault:
                    assert shots.armed == armed
            case "disarm":
                shots.disarm()
                assert not shots.armed
            case "fire" | "again" | "withdraw":
                trigger_id = fired[-1] if call == "again" and fired else f"t{number}"
                number += 1
                try:
                    shots.begin(PATTERN, trigger_id, now)
                except NotSent:
                    continue
                assert armed
                assert now >= free_at
                assert trigger_id not in fired + withdrawn
                if call == "withdraw":
                    shots.withdraw()
                    withdrawn.append(trigger_id)
                else:
                    shots.sent(now)
                    fired.append(trigger_id)
                    free_at = now + PATTERN.pulse.duration_s
            case "answer" | "refuse":
                shots.answered(call == "answer", now, fired[-1] if fired else None)
            case "stale":
                assert not shots.answered(True, now, "another")
            case "fail":
                shots.fail("broken", now)
            case "wait" | "rest":
                now += 0.06 if call == "wait" else 1.0
            case "status":
                status = shots.status(now)
                told += status.outcomes
                assert (status.state == "not_armed") == (not shots.armed)
                assert (status.state == "fault") <= bool(status.problem)
        assert len(fired) - before <= 1
    told += shots.status(now + 1.0).outcomes
    assert [outcome.trigger_id for outcome in told] == fired


def test_a_device_that_is_gone_stays_so() -> None:
    shots = Shots(Capabilities("gone", acknowledges=True))
    shots.arm(LIMITS, 0.0)
    shots.begin(PATTERN, "a", 0.0)
    shots.fail("unplugged", 0.01, gone=True)
    assert [outcome.result for outcome in shots.status(0.02).outcomes] == ["unknown"]
    shots.disarm()
    assert (shots.status(0.03).state, shots.status(0.03).problem) == ("fault", "unplugged")
    with pytest.raises(RigFault, match="open it anew"):
        shots.arm(LIMITS, 1.0)


def test_an_answer_counts_at_the_time_at_which_it_came_not_when_somebody_looked() -> None:
    shots = Shots(Capabilities("slow", acknowledges=True))
    shots.arm(LIMITS, 0.0)
    shots.begin(PATTERN, "a", 0.0)
    assert shots.answered(True, 0.09, "a")
    assert [outcome.result for outcome in shots.status(5.0).outcomes] == ["delivered"]


@pytest.mark.parametrize(("answers", "result"), [(False, "unknown"), (True, "refused")])
def test_a_pulse_that_goes_wrong_behind_a_disarm_is_told_once_and_forbids_nothing(answers: bool, result: str) -> None:
    shots = Shots(Capabilities("rig", acknowledges=True))
    shots.arm(LIMITS, 0.0)
    shots.begin(PATTERN, "a", 0.0)
    shots.disarm()
    if answers:
        assert shots.answered(False, 0.05, "a", "-123")
    status = shots.status(0.2)
    assert (status.state, status.problem) == ("not_armed", "")
    assert [(outcome.trigger_id, outcome.result) for outcome in status.outcomes] == [("a", result)]
    assert shots.status(0.3).outcomes == ()
    shots.arm(LIMITS, 0.4)
    assert shots.status(0.4).state == "idle"


def test_outcomes_that_nobody_asks_for_stop_it() -> None:
    shots = Shots(Capabilities("deaf"))
    shots.arm(LIMITS, 0.0)
    for number in range(MOST_OUTCOMES):
        shots.begin(PATTERN, str(number), float(number))
        shots.sent(float(number))
    with pytest.raises(NotSent, match="nobody asked for"):
        shots.begin(PATTERN, "more", 1e6)
    assert len(shots.status(1e6).outcomes) == MOST_OUTCOMES
    shots.begin(PATTERN, "more", 1e6)


def test_patterns_that_rounding_makes_one_are_refused() -> None:
    with pytest.raises(RigFault, match="one after rounding to 5 µA"):
        deliverable(Capabilities("coarse", current_step_ua=5.0), limits("10.0, 11.0"))
    found = deliverable(Capabilities("fine", current_step_ua=1.0, time_step_us=100 / 3), limits("10.0, 11.0"))
    assert [round(given.pulse.phase_us, 1) for given in found.values()] == [166.7, 166.7]


def test_a_current_pulse_that_rounding_makes_too_long_is_refused() -> None:
    pulse = PATTERN.pulse.model_copy(update={"phase_us": 1000.0, "interphase_us": 1000.0})
    found = replace(LIMITS, patterns=(replace(PATTERN, current_ua=1.0, pulse=pulse),))
    assert deliverable(Capabilities("fine", time_step_us=500.0), found)
    with pytest.raises(RigFault, match="longer than 1 / 300"):
        deliverable(Capabilities("coarse", time_step_us=600.0), found)
