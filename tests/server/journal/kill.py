"""kill -9 at random instants. A child takes ids and fires with them, ends and begins again; whenever it dies, nothing
durable is lost, no id serves two pulses, and every pulse of the device's log stands in the journal as delivered.

    python -m tests.server.journal.kill --kills 200
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from server.journal.read import rows, verify
from server.journal.writer import Journal
from tests.server.journal.fakes import TRAIN_UC, limits, outcome, trigger

LONGEST_LIFE_S = 0.3


@dataclass(slots=True)
class Toll:
    """What a campaign came to."""

    kills: int = 0
    pulses: int = 0
    unclean_ends: int = 0
    unknown: int = 0
    rows: int = 0
    slowest_opening_s: float = 0.0


def campaign(folder: Path, kills: int, seed: int = 0) -> Toll:
    """Fork, kill, open, check: `kills` times on one journal. To be called where there is one thread."""
    journal, device, toll = folder / "p07.journal", folder / "device.jsonl", Toll()
    generator = random.Random(seed)
    for _ in range(kills):
        durable = _killed(journal, device, generator)
        began = time.monotonic()
        opened = Journal(journal, limits=limits() if generator.random() < 0.5 else None)
        toll.slowest_opening_s = max(toll.slowest_opening_s, time.monotonic() - began)
        ledger = opened.ledger
        assert opened.close()
        toll.kills += 1
        toll.rows = verify(journal).rows
        assert toll.rows >= durable, f"{durable} rows were durable, {toll.rows} are there"
        _check(journal, device, ledger.charge_today_uc.get(34, 0.0) + ledger.charge_unknown_uc, toll)
    return toll


def _check(journal: Path, device: Path, counted_uc: float, toll: Toll) -> None:
    fired = [json.loads(line)["trigger_id"] for line in device.read_text().splitlines()] if device.exists() else []
    reserved: list[str] = []
    results: dict[str, str] = {}
    closed: set[str] = set()
    toll.unclean_ends = 0
    for row in rows(journal):
        fields: dict[str, Any] = row.load()
        if row.kind == "reserved":
            reserved += fields["ids"]
        elif row.kind == "outcome":
            assert fields["trigger_id"] not in results, f"{fields['trigger_id']} has two outcomes"
            results[fields["trigger_id"]] = fields["result"]
        elif row.kind == "run_ended":
            closed |= set(fields["unused"])
        toll.unclean_ends += row.kind == "unclean_end"
    assert len(set(reserved)) == len(reserved), "an id was reserved twice"
    assert len(set(fired)) == len(fired), "an id served two pulses"
    assert set(reserved) == set(results) | closed, "an id is not accounted for"
    for trigger_id in fired:
        assert results.get(trigger_id) in ("delivered", "unknown"), f"{trigger_id} left, and the journal does not know"
    assert counted_uc >= (len(fired) - 0.5) * TRAIN_UC, "the ledger forgot a pulse"
    toll.pulses, toll.unknown = len(fired), list(results.values()).count("unknown")


def _killed(journal: Path, device: Path, generator: random.Random) -> int:
    """A child's life and death; how many rows it knew to be on the disk."""
    reading, writing = os.pipe()
    seed, life_s = generator.random(), generator.uniform(0.0, LONGEST_LIFE_S)
    child = os.fork()
    if child == 0:
        try:
            _live(journal, device, writing, random.Random(seed))
        finally:
            os._exit(1)
    os.close(writing)
    time.sleep(life_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as told:
        durable = [int(line) for line in told.read().split("\n")[:-1]]
    assert os.WIFSIGNALED(status), "the child ended by itself"
    return max(durable, default=0)


def _live(path: Path, device: Path, telling: int, generator: random.Random) -> NoReturn:
    pulses = os.open(device, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        journal = Journal(path, {"participant": "p07"}, limits())
        for _ in range(generator.randrange(1, 60)):
            if (trigger_id := journal.take_id()) is not None:
                _fire(journal, pulses, trigger_id, generator)
            os.write(telling, f"{journal.statistics().rows}\n".encode())
            time.sleep(generator.choice((0.0, 0.001, 0.005)))
        journal.close()


def _fire(journal: Journal, pulses: int, trigger_id: str, generator: random.Random) -> None:
    pulse = json.dumps({"trigger_id": trigger_id, "electrode": 34, "current_ua": 10.0, "t_mono": time.monotonic()})
    leaves = generator.choice(("before its row", "after its row", "never"))
    if leaves == "before its row":
        os.write(pulses, f"{pulse}\n".encode())
    journal.write("trigger", trigger(trigger_id), durable=generator.random() < 0.5)
    if leaves == "after its row":
        os.write(pulses, f"{pulse}\n".encode())
    if generator.random() < 0.8:
        journal.write("outcome", outcome(trigger_id, "refused" if leaves == "never" else "delivered"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(campaign(Path(folder), asked.kills, asked.seed))
