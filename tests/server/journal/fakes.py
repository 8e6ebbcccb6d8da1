"""A journal with a day's life in it, clocks that a test moves, and a disk that a test fills."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from server.journal.rows import Entry, Row
from server.journal.store import Store
from server.journal.writer import Clocks, Journal
from streaming.limits import Limits, parse_limits

LIMITS_TOML = b"""
name = "a test"
participant = "p07"
electrodes = [34, 35]
currents_ua = [5.0, 10.0]

[pulse]
phase_us = 170
interphase_us = 60
frequency_hz = 300
pulses = 50

[limits]
refractory_s = 0.5
"""
TRAIN_UC = 10.0 * 170e-6 * 50  # of the largest pattern
TRAIN_S = 49 / 300 + 400e-6


def limits() -> Limits:
    return parse_limits(LIMITS_TOML)


class FakeClocks:
    """Three clocks that stand until they are moved."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self.wall, self.lsl, self.mono = wall, 500.0, 90.0

    def pass_(self, seconds: float) -> None:
        self.wall, self.lsl, self.mono = self.wall + seconds, self.lsl + seconds, self.mono + seconds

    def clocks(self) -> Clocks:
        return Clocks(lambda: self.wall, lambda: self.lsl, lambda: self.mono)


class Disk:
    """What stands between journal and file: may be full, may hang, may meet a fault of ours."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.free = threading.Event()  # cleared: it hangs
        self.free.set()
        self.transactions: list[list[str]] = []

    def store(self, path: Path) -> Store:
        disk = self

        class OnThisDisk(Store):
            def append(self, run_id: str, entries: list[Entry]) -> list[Row]:  # type: ignore[override]
                disk.free.wait(20.0)
                if disk.error is not None:
                    raise disk.error
                disk.transactions.append([entry.kind for entry in entries])
                return super().append(run_id, entries)

        return OnThisDisk(path)

    def fill(self) -> None:
        self.error = sqlite3.OperationalError("database or disk is full")


def until(holds: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    """Whether it came to hold; asked every millisecond."""
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


def trigger(trigger_id: str, electrode: int = 34, **changes: object) -> dict[str, object]:
    return {
        "trigger_id": trigger_id,
        "seq": 4711,
        "epoch": 0,
        "last_sample": 30_000,
        "sample_time": 499.99,
        "probability": 0.81,
        "age_s": 0.004,
        "lease_age_s": 0.3,
        "electrode": electrode,
        "current_ua": 10.0,
        "pattern": f"e{electrode}-10uA",
        "train_charge_uc": TRAIN_UC,
        "train_s": TRAIN_S,
        "arm": "favourable",
        "sham": False,
        "limits_sha256": limits().sha256,
        "bundle_sha256": "b" * 64,
        "settings_sha256": "s" * 64,
        "dwell": 3,
        "draw": 0.25,
        **changes,
    }


def outcome(trigger_id: str, result: str = "delivered") -> dict[str, object]:
    return {"trigger_id": trigger_id, "result": result, "t_mono": 1.0}


def taken(journal: Journal) -> str:
    """An id, waiting for one as nothing on the decode thread ever would."""
    ids: list[str] = []
    assert until(lambda: (one := journal.take_id()) is not None and not ids.append(one))
    return ids[0]


def lived_in(path: Path, clock: FakeClocks, pulses: int = 3) -> str:
    """A run that armed, fired and ended; its id."""
    about = {"participant": "p07", "session": "s1"}
    journal = Journal(path, about, limits(), run_id=f"r{clock.wall:.0f}", clocks=clock.clocks())
    journal.write("connection", {"source": "live", "rate_hz": 30_000.0})
    for event, before, after in (("request", "DISARMED", "ARMING"), ("confirm", "ARMING", "ARMED")):
        journal.write("transition", {"from": before, "to": after, "event": event, "reason": "a test"})
    for trial in range(pulses):
        clock.pass_(10.0)
        one = taken(journal)
        journal.write("trigger", {**trigger(one), "trial": trial, "waited_s": 1.5 + trial})
        journal.write("outcome", outcome(one))
        at = {"trial": trial, "time": clock.lsl}
        journal.write(
            "stimulation", {**at, "electrode": 34, "current_ua": 10.0, "duration_s": 0.167, "trigger_id": one}
        )
        clock.pass_(1.0)
        journal.write("report", {"trial": trial, "time": clock.lsl, "perceived": trial % 2 == 0})
    journal.write("inhibited", {"THRESHOLD": 900, "WINDOW": 12})
    assert journal.close()
    return journal.run_id
