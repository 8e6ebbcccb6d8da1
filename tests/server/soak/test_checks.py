"""What a soak judges by: each check finds what it is there for, and lets the rest pass."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from server.soak import checks
from server.soak.checks import Evidence, Struck
from server.soak.listener import Listener
from server.soak.supervised import Death, Supervised
from server.soak.witness import Witness

LATENCY = {"total": 3.0}


def frame(seq: int, probability: float | None = 0.5, flags: tuple[str, ...] = (), run_id: str = "a") -> dict[str, Any]:
    told = {"type": "prediction", "run_id": run_id, "seq": seq, "probability": probability, "flags": list(flags)}
    return {**told, "sample_time": 1.0, "latency_ms": LATENCY}


def heard(*frames: dict[str, Any]) -> Listener:
    listener = Listener(1)
    for n, one in enumerate(frames):
        listener._hear(one, 1.01 + 0.01 * n)
    return listener


def test_numbers_that_follow_one_another_over_runs() -> None:
    one = heard(frame(4), frame(5, None, ("gap",)), frame(0, run_id="b"), frame(1, 0.2, ("overload",), run_id="b"))
    assert one.complaints == []
    assert one.runs == {"a": 5, "b": 1}
    assert one.rows()["vouched"].tolist() == [1, 0, 1, 1]
    assert one.rows()["late_ms"][0] == pytest.approx(10)


def test_a_break_a_wrong_count_and_a_probability_that_nobody_vouches_for() -> None:
    dropped = {"type": "dropped", "count": 2, "resume_seq": 7}
    assert heard(frame(4), dropped, frame(7)).complaints == []
    assert heard(frame(4), dropped, frame(7)).missed == 2
    assert "told of 2 missed behind 3" in heard(frame(3), dropped).complaints[0]
    assert heard(frame(3), frame(5)).complaints == ["run a: 5 behind 3"]
    assert "flags ['gap']" in heard(frame(3, 0.5, ("gap",))).complaints[0]
    assert "probability None with flags []" in heard(frame(3, None)).complaints[0]


@pytest.mark.parametrize(
    ("status", "asked", "said", "reason"),
    [
        (-signal.SIGKILL, "killed", "", "killed"),
        (-signal.SIGSEGV, "killed", "", ""),
        (0, "told to end", "bye", "told to end"),
        (1, "told to end", "bye", ""),
        (
            1,
            "",
            "its inference hangs; the process ends, start it again",
            "its inference hangs; the process ends, start it again",
        ),
        (0, "", "", ""),
        (-signal.SIGSEGV, "", "", ""),
        (1, "", "RuntimeError: what", ""),
    ],
)
def test_which_ends_have_a_reason(status: int, asked: str, said: str, reason: str) -> None:
    assert Death(0.0, status, asked, said).reason == reason


class Seen:
    """Evidence made by hand: predictions every 10 ms from moment 0 on, 2 ms after their samples."""

    def __init__(self, seconds: float = 100.0) -> None:
        self.service = Supervised(Path("none"), Path("none"))
        self.service.starts = [(-50.0, 7)]
        self.witness = Witness(1, self.service)
        at = np.arange(0, seconds, 0.01)
        self.rows = {"arrived": at, "total_ms": np.full(len(at), 2.0), "late_ms": at, "vouched": np.ones(len(at))}
        self.floor = np.stack([at, np.full(len(at), 0.1)], axis=1)
        self.struck: list[Struck] = []

    def strike(self, kind: str, side: Any, began: float, ended: float, **told: Any) -> None:
        self.struck.append(Struck(kind, side, began, ended, told))

    def evidence(self) -> Evidence:
        listener: Any = SimpleNamespace(rows=lambda: self.rows, runs={}, complaints=[], missed=0)
        nowhere = Path("none")
        return Evidence(
            self.struck, listener, self.witness, self.service, nowhere, [], nowhere, nowhere, self.floor
        )  # fmt: skip


def found(part: Any) -> dict[str, bool]:
    return {one["what"]: one["holds"] for one in part}


def test_a_tail_that_clients_move_beyond_what_the_machine_itself_did() -> None:
    seen = Seen()
    seen.strike("garbage", "clients", 50.0, 55.0)
    (what,) = found(checks._tails(seen.evidence(), seen.rows))
    during = (seen.rows["arrived"] > 50) & (seen.rows["arrived"] < 55)
    for ms, louder, holds in ((3.9, 0.1, True), (4.2, 0.1, False), (4.2, 0.5, True)):
        seen.rows["total_ms"][during] = ms
        seen.floor[during, 1] = louder
        assert found(checks._tails(seen.evidence(), seen.rows)) == {what: holds}, (ms, louder)


def test_a_source_that_fell_silent_and_predictions_that_went_on() -> None:
    seen = Seen()
    seen.strike("source paused", "source", 50.0, 53.0)
    seen.witness.told = [(-1.0, "ready", True), (50.4, "ready", False)]
    assert not found(checks._input(seen.evidence(), seen.rows))["a source that is silent inhibits within 0.25 s"]
    seen.rows["vouched"][(seen.rows["arrived"] > 50.2) & (seen.rows["arrived"] < 53.01)] = 0
    assert found(checks._input(seen.evidence(), seen.rows))["a source that is silent inhibits within 0.25 s"]
    assert found(checks._truth(seen.evidence()))["a silent source is told within 1 s"]
    seen.witness.told[1] = (51.4, "ready", False)
    assert not found(checks._truth(seen.evidence()))["a silent source is told within 1 s"]


def test_old_samples_that_were_decoded_as_now() -> None:
    seen = Seen()
    seen.rows["total_ms"][500] = 600.0
    assert not found(checks._input(seen.evidence(), seen.rows))["backlog decoded as now"]
    seen.rows["vouched"][500] = 0
    assert found(checks._input(seen.evidence(), seen.rows))["backlog decoded as now"]


def test_a_full_disk_disarms_who_was_armed() -> None:
    seen = Seen()
    seen.strike("disk full", "machine", 50.0, 53.0, state="ARMED")
    seen.witness.told = [(20.0, "trigger", "ARMED")]
    (what,) = [one for one in found(checks._truth(seen.evidence())) if "disarm" in one]
    assert not found(checks._truth(seen.evidence()))[what]
    seen.witness.told.append((50.6, "trigger", "DISARMED"))
    assert found(checks._truth(seen.evidence()))[what]
    seen.struck[0].told["state"] = "DISARMED"
    assert what not in found(checks._truth(seen.evidence()))


def test_a_service_that_comes_back_too_late_and_one_that_dies_without_a_word() -> None:
    seen = Seen()
    seen.strike("service killed", "service", 50.0, 50.0)
    seen.service.deaths = [Death(50.1, -signal.SIGKILL, "killed", "")]
    for gone_s, holds in ((4.0, True), (7.0, False)):
        seen.rows["arrived"] = np.concatenate([np.arange(0, 50, 0.01), np.arange(50.1 + gone_s, 100, 0.01)])
        told = found(checks._process(seen.evidence(), seen.rows))
        assert told["a service that ended predicts again within 5 s"] == holds
        assert told["deaths without a reason"]
    seen.service.deaths.append(Death(70.0, -signal.SIGSEGV, "", ""))
    assert not found(checks._process(seen.evidence(), seen.rows))["deaths without a reason"]


def test_memory_that_grows() -> None:
    seen = Seen()
    for grown, holds in ((1.0, True), (40.0, False)):
        seen.witness.memory = [(-50.0 + s, 7, 300 + grown * s / 600) for s in range(0, 600, 2)]
        ((_, held),) = found(checks._memory(seen.evidence())).items()
        assert held == holds
    seen.witness.memory = [(-50.0 + s, 7, 300.0 if s < 100 else 340.0) for s in range(0, 600, 2)]
    assert list(found(checks._memory(seen.evidence())).values()) == [True], "what is taken once is no leak"
    seen.witness.memory = seen.witness.memory[:100]
    assert found(checks._memory(seen.evidence())) == {}
