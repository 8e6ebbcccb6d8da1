"""The simulated device's faults, and its own log of what it really delivered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import OperatorFault, RigFault
from streaming.stimulators.simulated import Faults, SimulatedStimulator
from streaming.stimulators.stimulator import NotSent, Status, Steps
from tests.streaming.stimulators.benches import Clock, limits

LIMITS = limits()
PATTERN = LIMITS.patterns[0]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def device(clock: Clock) -> Iterator[SimulatedStimulator]:
    device = SimulatedStimulator(clock=clock)
    device.arm(LIMITS)
    yield device
    device.close()


def results(status: Status) -> list[str]:
    return [outcome.result for outcome in status.outcomes]


def test_late_it_delivers_later_and_says_so_later(device: SimulatedStimulator, clock: Clock) -> None:
    device.faults = Faults(late_s=0.05)
    device.fire(PATTERN, "a", "")
    assert device.log == [{"trigger_id": "a", "electrode": 34, "current_ua": 10.0, "t_mono": 100.05}]
    assert results(device.status()) == []
    clock.now += 3.0
    (outcome,) = device.status().outcomes
    assert (outcome.result, outcome.t_mono) == ("delivered", 100.05)


def test_too_late_it_is_unknown_though_delivered(device: SimulatedStimulator, clock: Clock) -> None:
    device.faults = Faults(late_s=0.2)
    device.fire(PATTERN, "a", "")
    clock.now += 3.0
    status = device.status()
    assert (results(status), status.state, len(device.log)) == (["unknown"], "fault", 1)


def test_it_refuses(device: SimulatedStimulator) -> None:
    device.faults = Faults(refuses=True)
    device.fire(PATTERN, "a", "")
    status = device.status()
    assert (results(status), status.state, device.log) == (["refused"], "fault", [])


def test_it_loses_an_acknowledgement(device: SimulatedStimulator, clock: Clock) -> None:
    device.faults = Faults(loses_acknowledgement=True)
    device.fire(PATTERN, "a", "")
    clock.now += 0.101
    status = device.status()
    assert (results(status), status.state, len(device.log)) == (["unknown"], "fault", 1)


def test_it_hangs(device: SimulatedStimulator, clock: Clock) -> None:
    device.faults = Faults(hangs=True)
    device.fire(PATTERN, "a", "")
    assert results(device.status()) == ["delivered"]
    clock.now += 1e6
    assert device.status().state == "busy"
    with pytest.raises(NotSent, match="busy"):
        device.fire(PATTERN, "b", "")


def test_it_vanishes_under_a_pulse(device: SimulatedStimulator) -> None:
    device.faults = Faults(vanishes=True)
    with pytest.raises(NotSent, match="gone"):
        device.fire(PATTERN, "a", "")
    device.faults = Faults()
    device.disarm()
    assert (device.status().state, device.log) == ("fault", [])
    with pytest.raises(RigFault, match="open it anew"):
        device.arm(LIMITS)


def test_it_vanishes_while_nobody_fires(device: SimulatedStimulator) -> None:
    device.fire(PATTERN, "a", "")
    device.faults = Faults(vanishes=True)
    status = device.status()
    assert (results(status), status.state) == (["unknown"], "fault")


def test_the_participant_hears_what_the_device_makes_of_the_pattern(clock: Clock) -> None:
    heard = []
    device = SimulatedStimulator(
        lambda *call: bool(heard.append(call)) or True, steps=Steps(current_step_ua=3.0), clock=clock
    )
    device.arm(LIMITS)
    device.fire(PATTERN, "a", "")
    ((pattern, trigger_id, t_mono),) = heard
    assert (pattern.electrode, pattern.current_ua, trigger_id, t_mono) == (34, 9.0, "a", 100.0)


def test_a_participant_whose_train_runs_refuses(clock: Clock) -> None:
    device = SimulatedStimulator(lambda pattern, trigger_id, t_mono: False, clock=clock)
    device.arm(LIMITS)
    device.fire(PATTERN, "a", "")
    assert results(device.status()) == ["refused"]
    assert device.log == []


def test_a_participant_that_fails_is_a_fault(clock: Clock) -> None:
    def fails(pattern: object, trigger_id: str, t_mono: float) -> bool:
        raise KeyError("no such electrode")

    device = SimulatedStimulator(fails, clock=clock)
    device.arm(LIMITS)
    with pytest.raises(RigFault, match="no such electrode"):
        device.fire(PATTERN, "a", "")
    assert results(device.status()) == ["unknown"]


def test_the_log_is_on_disk_before_fire_returns(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "device.jsonl"
    device = SimulatedStimulator(log_path=path, clock=clock)
    device.arm(LIMITS)
    for trigger_id in ("a", "b"):
        device.fire(PATTERN, trigger_id, "")
        assert device.status().outcomes
        clock.now += 1.0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [
        {"trigger_id": "a", "electrode": 34, "current_ua": 10.0, "t_mono": 100.0},
        {"trigger_id": "b", "electrode": 34, "current_ua": 10.0, "t_mono": 101.0},
    ]
    device.close()


def test_a_log_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorFault, match="choose another place"):
        SimulatedStimulator(log_path=tmp_path / "nowhere" / "device.jsonl")
