"""A decode thread that hangs is told, disarms, and ends the process where it does not come back."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.bench.path import produce
from server.heartbeat import DEAD_S, LOOK_S, NOTICED_S, Heartbeat
from server.journal.read import rows, verify
from server.running import ask, free_port, status, wait_for
from tests.server.test_control import LIMITS, Loop, within

LOOKS_OF_A_HANG = round(NOTICED_S / LOOK_S)


def looks(heartbeat: Heartbeat, *since: float | None) -> list[str]:
    return [heartbeat.look(one) for one in since]


def test_one_that_moves_is_left_alone() -> None:
    assert set(looks(Heartbeat(0.01), *itertools.chain.from_iterable([None, k, k, k] for k in range(20)))) == {"moves"}
    assert set(looks(Heartbeat(0.01), *[None] * 100)) == {"moves"}, "it waits for samples"


def test_one_that_does_not_is_told_then_given_up_and_may_come_back() -> None:
    heartbeat = Heartbeat(0.01)
    assert looks(heartbeat, *[7.0] * (LOOKS_OF_A_HANG + 1)) == ["moves"] * LOOKS_OF_A_HANG + ["hangs"]
    assert looks(heartbeat, 8.0, None) == ["moves", "moves"]
    found = looks(heartbeat, *[9.0] * (round(DEAD_S / LOOK_S) + 1))
    assert found[-2:] == ["hangs", "dead"]
    assert found.count("hangs") == round((DEAD_S - NOTICED_S) / LOOK_S)


def test_an_inference_may_take_a_hop() -> None:
    assert set(looks(Heartbeat(0.5), *[7.0] * 10)) == {"moves"}
    assert looks(Heartbeat(0.5), *[7.0] * 11)[-1] == "hangs"


@pytest.fixture
def loop(tmp_path: Path):
    one = Loop(tmp_path)
    yield one
    one.stop()


@pytest.fixture
def long_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gives it up while a slow machine asks how it is."""
    monkeypatch.setattr("server.heartbeat.DEAD_S", 60.0)


def test_a_hang_disarms_and_passes(long_hang: None, loop: Loop) -> None:
    loop.arm()
    loop.live.busy_since = time.monotonic()
    assert within(1.0, lambda: loop.state() == "DISARMED")
    assert "its inference hangs" in loop.get("/v1/trigger")["because"]
    assert "its inference hangs" in loop.get("/v1/status")["not_ready"][0]
    assert loop.post("/arm", limits_sha256=loop.sha256())[0] == 409, "nobody arms what stands still"
    assert loop.service.dead == ""
    loop.live.busy_since = None
    assert within(1.0, lambda: loop.get("/v1/status")["not_ready"] == [] or not loop.service.hangs)
    assert loop.state() == "DISARMED", "nobody arms it again but a person"


def test_a_decode_thread_that_failed_disarms_and_ends_the_process(loop: Loop) -> None:
    ended: list[bool] = []
    loop.service.give_up = lambda: ended.append(True)
    loop.arm()
    loop.live.failed = True
    assert within(1.0, lambda: loop.state() == "DISARMED")
    assert within(1.0, lambda: ended == [True])
    assert loop.service.dead == "the decode thread failed; the process ends, start it again (a supervisor does)"
    assert loop.post("/arm", limits_sha256=loop.sha256())[0] == 409


def test_a_device_that_does_not_come_back_holds_up_neither_the_loop_nor_its_eyes(loop: Loop) -> None:
    """A pulse that hangs in the driver, on the decode thread, with the trigger's lock held."""
    ended: list[float] = []
    loop.service.give_up = lambda: ended.append(time.monotonic())
    loop.arm()
    stuck, freed = threading.Event(), threading.Event()

    def decode() -> None:
        with loop.gate._lock:
            stuck.set()
            freed.wait(20)

    assert loop.state() == "ARMED"
    thread = threading.Thread(target=decode)
    thread.start()
    assert stuck.wait(5)
    began = loop.live.busy_since = time.monotonic()
    assert loop.get("/v1/trigger")["state"] == "ARMED", "as it was told before"
    assert within(5.0, lambda: bool(ended))
    assert ended[0] - began < 5.0
    freed.set()
    thread.join()
    assert within(1.0, lambda: loop.state() == "DISARMED"), "what was asked meanwhile holds"


def test_an_end_waits_for_no_device(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    freed = threading.Event()
    monkeypatch.setattr(loop.gate, "close", lambda: freed.wait(20))
    monkeypatch.setattr("server.closed_loop.DEVICE_CLOSES_S", 0.1)
    loop.service.closed_loop.close()
    freed.set()
    assert verify(loop.journal).rows == len(list(rows(loop.journal))), "the journal is closed in order"
    assert [row.kind for row in rows(loop.journal)][-1] == "run_ended"


def test_a_stop_waits_for_nobody_who_reads_the_disk(loop: Loop) -> None:
    loop.arm()
    freed = threading.Event()
    for _ in range(8):
        loop.service.controls.submit(freed.wait, 20)
    assert loop.post("/disarm")[1]["state"] == "DISARMED"
    freed.set()


def test_a_watch_that_fails_goes_on(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def look() -> None:
        looked.append(1)
        raise ValueError("of ours")

    monkeypatch.setattr(loop.gate, "watch", look)
    assert within(2.0, lambda: len(looked) > 2)


def test_a_process_that_hangs_ends_for_its_supervisor(tmp_path: Path) -> None:
    """The real service, in shadow; the journal is whole and says why, and the next one predicts."""
    limits, journal, cue = tmp_path / "limits.toml", tmp_path / "a.journal", tmp_path / "hang"
    limits.write_text(LIMITS)
    name, port = f"PhospheneTest-{os.getpid()}", free_port()
    config = tmp_path / "config.toml"
    config.write_text(f'limits = "{limits}"\njournal = "{journal}"\nstimulator = "simulated"\noutlet = false\n')
    serve = [sys.executable, "-m", "server.bench.hang", str(cue), "serve", "--config", str(config)]
    serve += ["--source", f"lsl:name='{name}'", "--port", str(port)]
    with ExitStack() as stack:
        produce(stack, name)
        process = stack.enter_context(subprocess.Popen(serve, stderr=subprocess.PIPE, text=True))
        stack.callback(process.kill)
        wait_for(lambda: status(port).get("state") == "running", 120.0)
        ask(port, "POST", "/v1/trigger/shadow", {})
        cue.touch()
        _, said = process.communicate(timeout=20)
        assert process.returncode == 1
        assert "its inference hangs; the process ends, start it again" in said
        assert "Traceback" not in said
        kinds = [(row.kind, json.loads(row.fields)) for row in rows(journal)]
        assert verify(journal).rows == len(kinds)
        assert ("fault", "decoder_hangs") in [(kind, fields.get("reason")) for kind, fields in kinds]
        reasons = [fields["reason"] for kind, fields in kinds if kind == "transition"]
        assert any("its inference hangs" in reason for reason in reasons)
        again = stack.enter_context(subprocess.Popen(serve, stderr=subprocess.DEVNULL))
        stack.callback(again.kill)
        wait_for(lambda: (status(port).get("predictions") or 0) > 0, 120.0)
        assert status(port)["trigger"]["state"] == "DISARMED"
