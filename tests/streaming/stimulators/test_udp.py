"""Datagrams over loopback: the marker as it is, answers of every sort, and a program that is not there."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from models.errors import OperatorFault, RigFault
from streaming.stimulators.udp import UdpSettings, UdpStimulator
from tests.streaming.stimulators.benches import UdpBench, limits, marker, until

LIMITS = limits()
PATTERN = LIMITS.patterns[0]


@pytest.fixture
def bench() -> Iterator[UdpBench]:
    made = UdpBench()
    yield made
    made.close()


def test_the_marker_is_the_datagram_and_the_program_is_told_of_states(bench: UdpBench) -> None:
    bench.stimulator.arm(LIMITS)
    bench.stimulator.fire(PATTERN, "a", marker("a", LIMITS))
    bench.stimulator.disarm()
    bench.stimulator.disarm()
    until(lambda: bench.left() and len(bench.states) == 2)
    assert bench.left() == [marker("a", LIMITS)]
    assert bench.states == ["armed", "disarmed"]


def test_an_answer_that_says_nothing_is_counted_and_changes_nothing(bench: UdpBench) -> None:
    bench.stimulator.arm(LIMITS)
    bench.stimulator.fire(PATTERN, "a", marker("a", LIMITS))
    until(bench.left)
    wrong = [b"", b"{", b"\xff", b"[1]", b"3", b'{"trigger_id": "a"}', b'{"trigger_id": "a", "ok": 1}', b'{"ok": true}']
    for answer in wrong:
        bench.program.sendto(answer, bench.sender)
    bench.answer("another")
    until(lambda: bench.stimulator.malformed == len(wrong))
    assert bench.stimulator.status().outcomes == ()
    bench.answer("a")
    assert [outcome.result for outcome in bench.outcomes()] == ["delivered"]


def test_a_refusal_says_its_code(bench: UdpBench) -> None:
    bench.stimulator.arm(LIMITS)
    bench.stimulator.fire(PATTERN, "a", marker("a", LIMITS))
    until(bench.left)
    bench.answer("a", delivered=False)
    until(lambda: bench.stimulator.status().state == "fault")
    assert "refused trigger a (-123)" in bench.stimulator.status().problem


def test_a_program_that_is_not_there_is_a_fault() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    stimulator = UdpStimulator(UdpSettings(host="127.0.0.1", port=port))
    stimulator.arm(LIMITS)
    until(lambda: stimulator.status().state == "fault")
    with pytest.raises(RigFault):
        stimulator.fire(PATTERN, "a", "{}")
    stimulator.close()


@pytest.mark.parametrize("host", ["8.8.8.8", "2001:4860:4860::8888"])
def test_nothing_is_sent_to_the_internet(host: str) -> None:
    with pytest.raises(OperatorFault, match="public address"):
        UdpStimulator(UdpSettings(host=host, port=5005))


def test_only_the_program_s_own_answers_count(bench: UdpBench) -> None:
    bench.stimulator.arm(LIMITS)
    bench.stimulator.fire(PATTERN, "a", marker("a", LIMITS))
    until(bench.left)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(json.dumps({"trigger_id": "a", "ok": False}).encode(), bench.sender)
    bench.answer("a")
    assert [outcome.result for outcome in bench.outcomes()] == ["delivered"]
