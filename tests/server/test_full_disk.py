"""A disk that fills, through the whole service: it disarms, goes on predicting, and needs no new start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from server.journal.lawful import violations
from server.journal.read import rows, verify
from streaming.events import Report
from streaming.live_status import MarkerSeen
from tests.server.test_control import Loop, within

TRIALS = 20_000  # of which each report is a row: more than a megabyte holds


def armed_on_a_disk_that_fills(folder: Path) -> None:
    """Runs where `folder` is a disk of its own, and small."""
    loop = Loop(folder)
    try:
        _fill_and_go_on(loop, folder / "ballast")
    finally:
        assert loop.stop() < 3.0
    verify(loop.journal)
    assert violations(loop.journal, loop.device_log, loop.limits) == []
    print("recovered")


def _fill_and_go_on(loop: Loop, ballast: Path) -> None:
    loop.arm()
    loop.hops(5, 0.9)
    assert len(loop.pulses()) == 1
    try:
        with ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass
    said, renewed = 0, 0.0
    while "full" not in loop.service.journal.statistics().problem:  # until what SQLite had at hand is used up
        loop.service.marked(MarkerSeen(Report(said, True), said, 1.0))
        loop.get("/healthz")
        if time.monotonic() - renewed > 0.2:  # controls have a rate
            loop.post("/heartbeat", lease_token=loop.lease)
            renewed = time.monotonic()
        said += 1
        assert said < TRIALS
    assert within(1.0, lambda: loop.state() == "DISARMED")
    told = loop.get("/v1/trigger")
    assert (told["because"], told["problems"]) == ("the journal does not write", ["the journal does not write"])
    assert loop.post("/arm", limits_sha256=loop.sha256())[0] == 409
    before = loop.get("/v1/status")["next_seq"]
    loop.hops(20, 0.9)
    assert within(1.0, lambda: loop.get("/v1/status")["next_seq"] == before + 20), "predictions go on"
    assert loop.post("/disarm", stop=True)[1]["state"] == "FAULT", "and it can be stopped"
    ballast.unlink()
    assert within(5.0, lambda: loop.post("/clear", reason="the disk was full")[0] == 200)
    assert within(5.0, lambda: not loop.get("/v1/trigger")["problems"])
    (first,) = loop.pulses()
    assert within(2.0, lambda: time.monotonic() - first["t_mono"] > 0.6), "the refractory time, by the clock"
    loop.arm()
    loop.hops(5, 0.9)
    assert len(loop.pulses()) == 2, loop.get("/v1/trigger")
    assert within(5.0, lambda: loop.service.journal.statistics().waiting == 0)
    reports = [row.load()["trial"] for row in rows(loop.journal) if row.kind == "report"]
    assert reports == list(range(said)), "nothing was lost"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tmpfs is Linux's")
def test_a_tmpfs_of_two_megabytes(tmp_path):
    """In a mount namespace of its own, which ends with the process."""
    begin = ["unshare", "--mount", "--map-root-user", "--user"]
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)]
    if subprocess.run([*begin, *mount], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    inside = f'{" ".join(mount)} && exec "{sys.executable}" -m tests.server.test_full_disk "{tmp_path}"'
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [*begin, "sh", "-c", inside], capture_output=True, text=True, cwd=root, env=environment, timeout=120
    )
    assert done.stdout == "recovered\n", done.stderr


if __name__ == "__main__":
    armed_on_a_disk_that_fills(Path(sys.argv[1]))
