"""What every driver keeps, whatever is at its far end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from models.errors import OperatorFault, RigFault
from streaming.stimulators.stimulator import NotSent
from tests.streaming.stimulators.benches import BENCHES, Bench, SimulatedBench, limits, marker

LIMITS = limits()
PATTERN = LIMITS.patterns[0]
AFTER_S = PATTERN.pulse.duration_s + 0.001


@pytest.fixture(params=BENCHES)
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def bench(**steps: float) -> Bench:
        made.append(BENCHES[request.param](**steps))
        return made[-1]

    yield bench
    for each in made:
        each.close()


@pytest.fixture
def bench(make: Callable[..., Bench]) -> Bench:
    return make()


@pytest.fixture
def armed(bench: Bench) -> Bench:
    bench.stimulator.arm(LIMITS)
    return bench


def fire(bench: Bench, trigger_id: str) -> None:
    bench.stimulator.fire(PATTERN, trigger_id, marker(trigger_id, LIMITS))


def nothing_more(bench: Bench, trigger_id: str, expected: int) -> None:
    """`fire` refuses, and the far end has heard `expected` pulses in all."""
    with pytest.raises(NotSent, match="nothing was sent"):
        fire(bench, trigger_id)
    assert len(bench.left()) == expected


def acknowledged(bench: Bench, trigger_id: str) -> None:
    """The pulse is over and its outcome known."""
    if bench.stimulator.capabilities.acknowledges:
        bench.answer(trigger_id)
        expected = "delivered"
    else:
        expected = "unknown"
    (outcome,) = bench.outcomes()
    assert (outcome.trigger_id, outcome.result, outcome.t_mono) == (trigger_id, expected, bench.clock.now)


def test_nothing_fires_before_it_is_armed(bench: Bench) -> None:
    assert bench.stimulator.status().state == "not_armed"
    nothing_more(bench, "a", 0)


def test_armed_it_fires_once_then_is_busy_for_its_train_then_idle(armed: Bench) -> None:
    assert armed.stimulator.status().state == "idle"
    fire(armed, "a")
    acknowledged(armed, "a")
    assert len(armed.left()) == 1
    status = armed.stimulator.status()
    assert (status.state, status.outcomes, status.problem) == ("busy", (), "")
    nothing_more(armed, "b", 1)
    armed.pass_time(AFTER_S)
    assert armed.stimulator.status().state == "idle"
    fire(armed, "c")
    acknowledged(armed, "c")
    assert len(armed.left()) == 2


def test_an_id_fires_once_over_all_armings(armed: Bench) -> None:
    fire(armed, "a")
    acknowledged(armed, "a")
    armed.pass_time(AFTER_S)
    nothing_more(armed, "a", 1)
    armed.stimulator.disarm()
    armed.stimulator.arm(LIMITS)
    nothing_more(armed, "a", 1)
    nothing_more(armed, "", 1)


def test_only_patterns_that_it_was_armed_with(armed: Bench) -> None:
    other = limits("20.0").patterns[0]
    with pytest.raises(NotSent, match="e34-20uA"):
        armed.stimulator.fire(other, "a", "{}")
    assert not armed.left()


def test_disarmed_as_often_as_one_likes_and_armed_again_by_arm_alone(armed: Bench) -> None:
    for _ in range(3):
        armed.stimulator.disarm()
        assert armed.stimulator.status().state == "not_armed"
        nothing_more(armed, "a", 0)
    armed.stimulator.arm(LIMITS)
    fire(armed, "a")
    assert len(armed.left()) == 1


def test_disarming_and_arming_does_not_end_a_train(armed: Bench) -> None:
    fire(armed, "a")
    acknowledged(armed, "a")
    armed.stimulator.disarm()
    armed.stimulator.arm(LIMITS)
    assert armed.stimulator.status().state == "busy"
    nothing_more(armed, "b", 1)


def test_armed_by_one_at_a_time(armed: Bench) -> None:
    with pytest.raises(OperatorFault, match="disarm it first"):
        armed.stimulator.arm(LIMITS)
    assert armed.stimulator.status().state == "idle"


def test_closed_for_good(armed: Bench) -> None:
    for _ in range(2):
        armed.stimulator.close()
    assert armed.stimulator.status().state == "fault"
    assert "closed" in armed.stimulator.status().problem
    with pytest.raises(NotSent, match="nothing was sent"):
        fire(armed, "a")
    armed.stimulator.disarm()
    with pytest.raises(RigFault, match="closed"):
        armed.stimulator.arm(LIMITS)


def test_limits_of_the_simulated_participant_are_refused_by_every_real_device(bench: Bench) -> None:
    found = limits(simulated_only=True)
    if isinstance(bench, SimulatedBench):
        bench.stimulator.arm(found)
        assert bench.stimulator.status().state == "idle"
        return
    with pytest.raises(OperatorFault, match="simulated_only"):
        bench.stimulator.arm(found)
    assert bench.stimulator.status().state == "not_armed"
    nothing_more(bench, "a", 0)


@pytest.mark.parametrize(
    ("steps", "currents", "fault", "words"),
    [
        ({"most_current_ua": 9.0}, "10.0", RigFault, "found 10 µA, expected at most 9 µA"),
        ({"current_step_ua": 25.0}, "10.0", RigFault, "no current after rounding"),
        ({"current_step_ua": 15.0, "most_current_ua": 14.0}, "20.0", RigFault, "found 15 µA, expected at most 14 µA"),
        ({"current_step_ua": 7.0}, "20.0", OperatorFault, "21 µA, expected at most 20 µA"),
        ({"time_step_us": 999.0}, "10.0", RigFault, "0 µs after rounding"),
        ({"time_step_us": 50.0}, "20.0", None, ""),
        ({"time_step_us": 60.0}, "20.0", OperatorFault, "3.6 nC a phase"),
    ],
)
def test_what_it_cannot_deliver_it_is_not_armed_with(
    make: Callable[..., Bench], steps: dict[str, float], currents: str, fault: type[Exception] | None, words: str
) -> None:
    bench = make(**steps)
    if fault is None:
        bench.stimulator.arm(limits(currents))
        return
    with pytest.raises(fault, match=words):
        bench.stimulator.arm(limits(currents))
    assert bench.stimulator.status().state == "not_armed"


def test_an_acknowledgement_that_does_not_come_is_a_fault_until_disarmed(armed: Bench) -> None:
    if not armed.stimulator.capabilities.acknowledges:
        return
    armed.silence()
    fire(armed, "a")
    armed.pass_time(armed.acknowledged_within_s - 0.001)
    assert armed.stimulator.status().outcomes == ()
    armed.pass_time(0.002)
    status = armed.stimulator.status()
    assert [(outcome.trigger_id, outcome.result) for outcome in status.outcomes] == [("a", "unknown")]
    assert (status.state, armed.stimulator.status().outcomes) == ("fault", ())
    assert f"no acknowledgement of trigger a within {armed.acknowledged_within_s * 1e3:g} ms" in status.problem
    armed.pass_time(AFTER_S)
    nothing_more(armed, "b", 1)
    armed.stimulator.disarm()
    armed.stimulator.arm(LIMITS)
    assert armed.stimulator.status().state == "idle"


def test_a_pulse_under_way_while_it_is_disarmed_still_has_its_outcome(armed: Bench) -> None:
    if not armed.stimulator.capabilities.acknowledges:
        return
    armed.silence()
    fire(armed, "a")
    armed.stimulator.disarm()
    with pytest.raises(RigFault, match="unanswered pulse"):
        armed.stimulator.arm(LIMITS)
    armed.pass_time(armed.acknowledged_within_s + 0.001)
    (outcome,) = armed.outcomes()
    assert (outcome.trigger_id, outcome.result) == ("a", "unknown")
    assert armed.stimulator.status().state == "not_armed"


def test_a_refusal_is_a_fault(armed: Bench) -> None:
    if not armed.stimulator.capabilities.acknowledges or not armed.refuses or isinstance(armed, SimulatedBench):
        return
    fire(armed, "a")
    armed.answer("a", delivered=False)
    (outcome,) = armed.outcomes()
    assert (outcome.trigger_id, outcome.result) == ("a", "refused")
    assert armed.stimulator.status().state == "fault"
    nothing_more(armed, "b", 1)
