"""One line of settings → a stimulator, or what is wrong with it."""

from __future__ import annotations

import pytest

from models.errors import OperatorFault
from streaming.stimulators.open import open_stimulator
from streaming.stimulators.stimulator import NotSent
from tests.streaming.stimulators.benches import FakeOutlet, PtyBench, limits


def test_none_is_never_armed() -> None:
    none = open_stimulator("none")
    with pytest.raises(OperatorFault, match="--stimulator lsl"):
        none.arm(limits())
    with pytest.raises(NotSent):
        none.fire(limits().patterns[0], "a", "")
    assert none.status().state == "not_armed"
    none.disarm()
    none.close()


def test_each_kind_with_its_options() -> None:
    found = open_stimulator("lsl?acknowledges=false&current_step_ua=0.5", FakeOutlet()).capabilities
    assert (found.name, found.acknowledges, found.simulated, found.current_step_ua) == ("lsl", False, False, 0.5)
    udp = open_stimulator("udp:127.0.0.1:5005?most_current_ua=100")
    assert (udp.capabilities.acknowledges, udp.capabilities.most_current_ua) == (True, 100.0)
    udp.close()
    assert open_stimulator("simulated?time_step_us=33.3").capabilities.time_step_us == 33.3
    bench = PtyBench()
    bench.stimulator.close()
    serial = open_stimulator(f"serial:{bench.path}?e34-10uA=65&e34-12.5uA=66&acknowledgement=6&disarm=0&baud=9600")
    serial.arm(limits("10.0, 12.5"))
    assert serial.capabilities.acknowledges
    serial.close()
    bench.close()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "expected none, lsl"),
        ("LSL", "expected none, lsl"),
        ("lsl:x", "expected none, lsl"),
        ("serial", "expected none, lsl"),
        ("usb:1", "expected none, lsl"),
        ("none?x=1", "x: Extra"),
        ("lsl?aknowledges=false", "aknowledges"),
        ("lsl?acknowledges", "bad query"),
        ("lsl?name=a&name=b", "twice"),
        ("simulated?current_step_ua=nan", "finite"),
        ("udp:127.0.0.1", "port"),
        ("udp:127.0.0.1:0", "port"),
        ("udp:8.8.8.8:5005", "public address"),
        ("serial:/dev/ttyNothing", "either a byte"),
        ("serial:/dev/ttyNothing?e34-10ua=65", "e34-10ua"),
        ("serial:/dev/ttyNothing?line=dtr&pulse_ms=9", "pulse_ms"),
    ],
)
def test_what_is_not_understood_is_said(spec: str, words: str) -> None:
    with pytest.raises(OperatorFault, match=words):
        open_stimulator(spec)
