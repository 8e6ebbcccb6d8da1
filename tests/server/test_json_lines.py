"""The log for programs: whatever happens and whatever it is about, one line of JSON."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.aside import Aside, ForPeople, log_of
from server.json_lines import JsonLines
from server.state_log import StateLog
from server.supervisor import Supervisor
from streaming.live_status import LiveStatus
from tests.server.fakes import STREAM


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def written(*calls: tuple[int, str, dict[str, Any]]) -> list[str]:
    kept, form = Kept(), JsonLines()
    form.run_id = "3f0c9a51d2e7"
    kept.setFormatter(form)
    log, aside = logging.Logger("a test"), Aside(kept)
    log.addHandler(aside)
    for level, text, extra in calls:
        log.log(level, "%s", text, extra=extra)
    aside.queue.join()
    return kept.lines


@pytest.mark.parametrize(
    "text", ["a\r\nb", "a\u2028b\u0085c", "\x1b[2Jgone", 'say "no"', "µV, ✓, 視", "\ud800", "\x00"]
)
def test_nothing_breaks_a_line(text: str) -> None:
    (line,) = written((logging.WARNING, text, {"event": "source", "fields": {"stream": text, text: 1}}))
    assert line.isascii()
    assert line.isprintable()
    told = json.loads(line)
    assert (told["message"], told["fields"]["stream"]) == (text, text)


def test_what_a_line_holds() -> None:
    (line,) = written((logging.WARNING, "lost", {"event": "source", "fields": {"to": "waiting"}}))
    told = json.loads(line)
    assert told.pop("time").endswith("+00:00")
    expected = {"level": "warning", "event": "source", "run_id": "3f0c9a51d2e7", "array": None, "message": "lost"}
    assert told == expected | {"fields": {"to": "waiting"}}
    (line,) = written((logging.INFO, "anything else", {}))
    assert (json.loads(line)["event"], json.loads(line)["fields"]) == ("log", {})


def test_a_line_says_which_array_it_is_about() -> None:
    for form, first, further in (
        (JsonLines(), '"array": null', '"array": "left"'),
        (ForPeople(), "WARNING lost", "WARNING array left: lost"),
    ):
        for array, part in (("", first), ("left", further)):
            assert part in form.format(log_of(array).makeRecord(log_of(array).name, 30, "", 0, "lost", (), None))


def test_a_traceback_is_one_line() -> None:
    kept = Kept()
    kept.setFormatter(JsonLines())
    log, aside = logging.Logger("a test"), Aside(kept)
    log.addHandler(aside)
    try:
        raise ValueError("of\nours")
    except ValueError:
        log.exception("the trigger failed")
    aside.queue.join()
    (line,) = kept.lines
    assert json.loads(line)["message"].startswith("the trigger failed\nTraceback")


def told(records: list[logging.LogRecord]) -> list[Any]:
    return [(record.event, record.fields) for record in records]  # type: ignore[attr-defined]


def test_the_source_and_readiness_are_told_when_they_change(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = 0.0
    log = StateLog(lambda: now, logging.getLogger("phosphene"))
    waiting = LiveStatus(problem="no stream yet")
    for _ in range(3):
        log.look(waiting, ["no sample has arrived"])
    running = replace(waiting, state="running", problem="", stream=STREAM)
    log.look(running, ["no sample for 1.1 s"])
    for moment in range(20):  # at a limit it goes back and forth
        now = moment / 10
        log.look(running, ["no sample for 1.2 s"] if moment % 2 else [])
    now = 3.0
    log.look(running, [])
    log.look(running, [])
    assert told(caplog.records) == [
        ("source", {"from": None, "to": "waiting", "stream": None, "problem": "no stream yet"}),
        ("readiness", {"ready": False, "reasons": ["no sample has arrived"]}),
        ("source", {"from": "waiting", "to": "running", "stream": "UtahArray", "problem": ""}),
        ("readiness", {"ready": True, "reasons": []}),
    ]
    assert [record.getMessage() for record in caplog.records][1:] == [
        "not ready: no sample has arrived",
        "source running",
        "ready",
    ]


def test_a_flood_of_refused_clients_is_a_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    now, refusals = 100.0, Counter[int]()
    log = StateLog(lambda: now, logging.getLogger("phosphene"))
    for _ in range(10):
        refusals[403] += 40
        log.refused(refusals, "found Host 'evil', expected ours")
        now += 0.25
    assert [record.fields["count"] for record in caplog.records] == [40, 160, 160]  # type: ignore[attr-defined]
    assert "40 clients refused; found Host 'evil'" in caplog.records[0].getMessage()


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Supervisor().tell("READY=1")  # nobody is there
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Supervisor().tell("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        Supervisor().tell("WATCHDOG=1")
        assert systemd.recv(64) == b"WATCHDOG=1"


def test_a_whole_run_is_lines_of_json_and_systemd_hears_of_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        command = ["serve", "--port", "0", "--source", "lsl:name='NoSuchStream'", "--log", "json"]
        process = subprocess.Popen(
            [sys.executable, "-m", "server.cli", *command],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
        )
        try:
            heard = [systemd.recv(64) for _ in range(3)]
            process.terminate()
            while heard[-1] != b"STOPPING=1":
                heard.append(systemd.recv(64))
            _, text = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0
    assert heard[0] == b"READY=1"
    assert set(heard[1:-1]) == {b"WATCHDOG=1"}
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]  # others are of C++ libraries
    assert [line["event"] for line in lines] == ["started", "source", "readiness", "ended"]
    (run_id,) = {line["run_id"] for line in lines}
    assert len(run_id) == 12
