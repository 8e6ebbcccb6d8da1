"""Bytes over a pseudo-terminal, the line of a fake port, and every way out leaves the line low."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.errors import OperatorFault, RigFault
from streaming.stimulators.serial import SerialSettings, SerialStimulator
from streaming.stimulators.stimulator import NotSent
from tests.streaming.stimulators.benches import FakePort, LineBench, PtyBench, limits, until

LIMITS = limits()
PATTERN = LIMITS.patterns[0]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def box() -> Iterator[PtyBench]:
    bench = PtyBench()
    yield bench
    bench.close()


@pytest.fixture
def line() -> Iterator[LineBench]:
    bench = LineBench()
    bench.stimulator.arm(LIMITS)
    yield bench
    bench.close()


def test_each_pattern_has_its_byte(box: PtyBench) -> None:
    both = limits("10.0, 20.0")
    box.stimulator.arm(both)
    for number, pattern in enumerate(both.patterns):
        box.stimulator.fire(pattern, str(number), "")
        until(lambda expected=number + 1: len(box.left()) == expected)
        box.answer(str(number))
        box.outcomes()
        box.pass_time(1.0)
    assert bytes(box.left()) == b"AB"


def test_a_pattern_without_a_byte_cannot_be_armed(box: PtyBench) -> None:
    with pytest.raises(OperatorFault, match=r"no command byte for e35-10uA; name it \(…\?e35-10uA=65\)"):
        box.stimulator.arm(limits(electrodes="34, 35"))


def test_an_answer_to_nothing_is_a_fault(box: PtyBench) -> None:
    box.stimulator.arm(LIMITS)
    box.answer("")
    until(lambda: box.stimulator.status().state == "fault")
    assert "answer (6) to nothing" in box.stimulator.status().problem
    with pytest.raises(NotSent):
        box.stimulator.fire(PATTERN, "a", "")
    assert not box.left()


def test_disarming_tells_the_box_where_it_has_a_byte_for_it() -> None:
    port = FakePort()
    settings = SerialSettings(port="fake", commands={"e34-10uA": 65}, disarm=0)
    stimulator = SerialStimulator(settings, lambda settings: port)
    stimulator.arm(LIMITS)
    stimulator.fire(PATTERN, "a", "")
    stimulator.close()
    stimulator.close()
    assert port.written == b"A\x00"


def test_the_byte_that_disarms_is_sent_behind_one_that_still_waits() -> None:
    port = FakePort()
    settings = SerialSettings(port="fake", commands={"e34-10uA": 65}, disarm=0)
    stimulator = SerialStimulator(settings, lambda settings: port)
    stimulator.arm(LIMITS)
    stimulator.fire(PATTERN, "a", "")
    port.full = True  # its byte has not left yet
    stimulator.disarm()
    assert port.written == b"A"
    port.full = False
    until(lambda: port.written == b"A\x00")
    stimulator.arm(LIMITS)
    port.full = True
    stimulator.close()  # a port that never takes it holds up nobody
    assert port.closed == 1


def test_a_box_that_is_unplugged_is_a_fault_and_stays_one(box: PtyBench) -> None:
    box.stimulator.arm(LIMITS)
    box.unplug()
    with contextlib.suppress(RigFault):  # the thread that hears the port may have been first
        box.stimulator.fire(PATTERN, "a", "")
    until(lambda: box.stimulator.status().state == "fault")
    with pytest.raises(NotSent):
        box.stimulator.fire(PATTERN, "b", "")
    box.stimulator.disarm()
    assert "gone" in box.stimulator.status().problem
    with pytest.raises(RigFault, match="open it anew"):
        box.stimulator.arm(LIMITS)


def test_a_port_that_another_has_is_refused(box: PtyBench) -> None:
    with pytest.raises(RigFault, match="another"):
        SerialStimulator(SerialSettings(port=box.path, commands={"e34-10uA": 65}))


def test_a_port_that_is_not_there_is_refused() -> None:
    with pytest.raises(RigFault, match="plugged in"):
        SerialStimulator(SerialSettings(port="/dev/ttyNothing", commands={"e34-10uA": 65}))


def test_without_pyserial_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(OperatorFault, match=r"pip install 'phosphene\[serial\]'"):
        SerialStimulator(SerialSettings(port="/dev/ttyNothing", line="dtr"))


def test_a_write_that_fails_leaves_the_outcome_unknown() -> None:
    port = FakePort()
    stimulator = SerialStimulator(SerialSettings(port="fake", commands={"e34-10uA": 65}), lambda settings: port)
    stimulator.arm(LIMITS)
    port.broken = True
    with pytest.raises(RigFault, match="gone") as raised:
        stimulator.fire(PATTERN, "a", "")
    assert not isinstance(raised.value, NotSent)
    status = stimulator.status()
    assert (status.state, [outcome.result for outcome in status.outcomes]) == ("fault", ["unknown"])
    stimulator.close()


def test_a_port_that_takes_nothing_is_a_fault_with_nothing_sent() -> None:
    port = FakePort()
    stimulator = SerialStimulator(SerialSettings(port="fake", commands={"e34-10uA": 65}), lambda settings: port)
    stimulator.arm(LIMITS)
    port.full = True
    with pytest.raises(NotSent, match="takes no bytes"):
        stimulator.fire(PATTERN, "a", "")
    status = stimulator.status()
    assert (status.state, status.outcomes) == ("fault", ())
    stimulator.close()


def test_the_line_rises_once_and_falls_by_itself(line: LineBench) -> None:
    line.stimulator.fire(PATTERN, "a", "")
    assert line.port.low.wait(5)
    assert line.port.edges == [True, False]


def test_a_line_cannot_say_which_pattern(line: LineBench) -> None:
    line.stimulator.disarm()
    with pytest.raises(OperatorFault, match="cannot say which"):
        line.stimulator.arm(limits("10.0, 20.0"))


@pytest.mark.parametrize("way_out", ["disarm", "close"])
def test_on_every_way_out_the_line_is_low_when_the_call_returns(line: LineBench, way_out: str) -> None:
    line.stimulator.fire(PATTERN, "a", "")
    getattr(line.stimulator, way_out)()
    assert line.port.edges == [True, False]


def test_a_line_that_does_not_fall_is_a_fault_and_is_tried_again(line: LineBench) -> None:
    line.stimulator.fire(PATTERN, "a", "")
    line.port.broken = True
    until(lambda: line.stimulator.status().state == "fault")
    line.port.broken = False
    line.stimulator.disarm()
    assert line.port.edges == [True, False]


def test_a_line_whose_rise_fails_is_let_go() -> None:
    class Rises(FakePort):
        def set_line(self, line: str, high: bool) -> None:
            super().set_line(line, high)
            if high:
                raise OSError(5, "Input/output error")

    port = Rises()
    stimulator = SerialStimulator(SerialSettings(port="fake", line="rts", pulse_ms=1), lambda settings: port)
    stimulator.arm(LIMITS)
    with pytest.raises(RigFault):
        stimulator.fire(PATTERN, "a", "")
    assert port.low.wait(5)
    stimulator.close()
    assert port.edges == [True, False]


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise KeyboardInterrupt", "raise SystemError"])
def test_the_interpreter_ends_with_the_line_low(end: str) -> None:
    code = f"""
import sys
from streaming.stimulators.serial import SerialSettings, SerialStimulator
from tests.streaming.stimulators.benches import FakePort, limits
class Port(FakePort):
    def set_line(self, line, high):
        print("high" if high else "low", flush=True)
stimulator = SerialStimulator(SerialSettings(port="fake", line="dtr", pulse_ms=5), lambda settings: Port())
stimulator.arm(limits())
stimulator.fire(limits().patterns[0], "a", "")
{end}
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["high", "low"], done.stderr


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "either a byte"),
        ({"line": "dtr", "commands": {"e34-10uA": 65}}, "not both"),
        ({"commands": {"e34-10uA": 65, "e34-20uA": 65}}, "two meanings"),
        ({"commands": {"e34-10uA": 65}, "disarm": 65}, "two meanings"),
        ({"commands": {"e34-10uA": 256}}, "255"),
        ({"line": "dtr", "pulse_ms": 6}, "5"),
        ({"line": "cts"}, "dtr"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SerialSettings(port="fake", **wrong)
