"""The whole loop in one process: simulated participant, default bundle, trigger, simulated device, percept, journal."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from models.errors import OperatorFault, RigFault
from server.bundles import Bundles
from server.closed_loop import open_loop
from server.journal.lawful import violations
from server.journal.read import rows, verify
from server.settings import PACKAGED, Settings
from server.trigger_settings import PlanSettings, Thresholds
from server.wiring import build, listen, make_server
from streaming.limits import read_limits
from tests.server.seen import watched

LIMITS = Path(__file__).parents[2] / "server" / "demo_limits.toml"
EASY = Thresholds(p_on=0.51, p_off=0.5, dwell_hops=1)  # nearly any state: it is the way round that is tested


class Service:
    def __init__(self, **settings: Any) -> None:
        chosen = Settings(source="simulate", outlet=False, thresholds=EASY, **settings)
        bundles = Bundles(PACKAGED)
        service, self._close = build(chosen, bundles, bundles.open("default"))
        self._listener = listen("127.0.0.1", 0)
        self.base = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.server = make_server(service, self._listener.getsockname()[1])
        self.server.config.app = watched(self.server.config.app)
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self._listener]})
        self._thread.start()

    def ask(self, method: str, path: str = "", body: Any = None) -> Any:
        headers = {"Content-Type": "application/json", "Origin": self.base}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}/v1/trigger{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def stop(self) -> float:
        began = time.monotonic()
        self.server.should_exit = True
        self._thread.join(10)
        self._close()
        return time.monotonic() - began


@pytest.fixture
def service(tmp_path):
    plan = PlanSettings(arms=["favourable", "random"], trials_per_arm=1000, sham_fraction=0.5, seed=1)
    one = Service(limits=LIMITS, journal=tmp_path / "a.journal", stimulator="simulated", plan=plan)
    yield one
    one.stop()


def test_what_a_late_marker_withdraws_the_trigger_forgets():
    bundles = Bundles(PACKAGED)
    service, close = build(Settings(source="simulate", outlet=False), bundles, bundles.open("default"))
    service.gate.engine._good_since = 0
    service.live._revoke(0, 10)
    assert service.gate.engine.memory().settled_s is None
    close()


def lease(service, end):
    """Of who arms it as soon as it may be armed."""
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.HTTPError):
            asked = service.ask("POST", "/arm", {"limits_sha256": service.ask("GET")["limits"]["sha256"]})
            return service.ask("POST", "/confirm", {"confirm_token": asked["confirm_token"]})["lease_token"]
        time.sleep(0.2)
    pytest.fail(str(service.ask("GET")["problems"]))


def test_around_the_loop_once_and_again(service, tmp_path):
    end = time.monotonic() + 120  # half a minute, on a machine that has nothing else to do
    device_log = tmp_path / "a.journal.device.jsonl"

    def delivered():
        return {json.loads(line)["trigger_id"] for line in device_log.read_text().splitlines()}

    def announced():
        return {row.load()["trigger_id"] for row in rows(tmp_path / "a.journal") if row.kind == "stimulation"}

    token = lease(service, end)
    while True:
        try:
            service.ask("POST", "/heartbeat", {"lease_token": token})
        except urllib.error.HTTPError:  # a machine that was held up disarms, as it must
            token = lease(service, end)
        told = service.ask("GET")
        if sum(arm["answered"] for arm in told["hits"]) >= 1 and told["shams"] >= 1:
            break
        assert time.monotonic() < end, told
        time.sleep(0.2)
    service.ask("POST", "/disarm", {})
    while announced() != delivered():  # the last one's marker is on its way
        assert time.monotonic() < end
        time.sleep(0.05)
    dropped = service.ask("GET")["dropped"]
    assert service.stop() < 3.0
    verify(tmp_path / "a.journal")
    assert violations(tmp_path / "a.journal", device_log, LIMITS) == []
    pulses = delivered()
    kinds: dict[str, list[Any]] = {}
    for row in rows(tmp_path / "a.journal"):
        kinds.setdefault(row.kind, []).append(row.load())
    assert {row["trigger_id"] for row in kinds["stimulation"]} == pulses
    assert {row["trigger_id"] for row in kinds["trigger"] if not (row["sham"] or row["refused"])} == pulses
    outcomes = {row["trigger_id"]: row["result"] for row in kinds["outcome"] if row["result"] != "not_fired"}
    assert outcomes == dict.fromkeys(pulses, "delivered")
    assert dropped == sum(bool(row["refused"]) for row in kinds["trigger"])
    assert len(kinds["report"]) >= 1
    assert {"run_started", "settings", "connection", "plan", "conditions", "inhibited", "run_ended"} <= set(kinds)


def test_a_second_engine_on_one_journal_is_refused(tmp_path):
    settings = Settings(limits=LIMITS, journal=tmp_path / "a.journal", stimulator="simulated")
    first = open_loop(settings)
    try:
        with pytest.raises(RigFault, match=f"another engine writes it .process {os.getpid()}"):
            open_loop(settings)
    finally:
        first.close()
    open_loop(settings).close()


def test_a_second_engine_on_one_device_is_refused(tmp_path, monkeypatch):
    """Each with a journal of its own; a UDP port cannot refuse a second sender itself."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    one = Settings(limits=LIMITS, journal=tmp_path / "a.journal", stimulator="udp:127.0.0.1:50519")
    two = Settings(limits=LIMITS, journal=tmp_path / "b.journal", stimulator="udp:127.0.0.1:50519?acknowledges=false")
    first = open_loop(one)
    try:
        with pytest.raises(RigFault, match=f"udp:127.0.0.1:50519: another engine has it .process {os.getpid()}"):
            open_loop(two)
        assert not (tmp_path / "b.journal").exists()
        for spelling in ("localhost:50519", "[127.0.0.1]:50519", "127.0.0.1:050519", "[::1]:50519"):
            with pytest.raises(RigFault, match="another engine has it"):
                open_loop(Settings(limits=LIMITS, journal=tmp_path / "b.journal", stimulator=f"udp:{spelling}"))
        open_loop(Settings(limits=LIMITS, journal=tmp_path / "c.journal", stimulator="udp:127.0.0.1:50520")).close()
    finally:
        first.close()
    open_loop(two).close()


def test_without_a_stimulator_it_says_why_it_cannot_be_armed(tmp_path):
    loop = open_loop(Settings(limits=LIMITS, journal=tmp_path / "a.journal"))
    assert "stimulator none: there is no stimulator" in loop.gate.status()["problems"]
    loop.close()


def test_without_limits_it_says_why_it_cannot_be_armed():
    loop = open_loop(Settings())
    assert loop.gate.status()["problems"][0].startswith("there is no limits file")
    assert loop.gate.status()["device"]["name"] == "none"
    assert not loop.journal.healthy
    loop.close()


@pytest.mark.parametrize("participant", ["simulated", "p07"])
def test_limits_that_become_valid_for_another_participant_need_a_new_start(participant, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    limits = tmp_path / "limits.toml"
    limits.write_text(LIMITS.read_text())
    loop = open_loop(Settings(limits=limits, stimulator="simulated"))
    limits.write_text(LIMITS.read_text().replace('"simulated"', f'"{participant}"'))
    loop.gate._limits_seen = float("-inf")
    loop.gate.watch()
    problems = loop.gate.status()["problems"]
    assert any("whose journal is open" in problem for problem in problems) == (participant != "simulated")
    assert (tmp_path / "phosphene" / "simulated.journal").exists()
    loop.close()


@pytest.mark.parametrize("text", [None, "nothing that is valid"])
@pytest.mark.parametrize("named", [False, True])
def test_limits_that_are_mended_where_nobody_was_known_need_a_new_start(named, text, tmp_path, monkeypatch):
    """What p07 had today stands in p07's journal, and not in the one that was opened for nobody."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    limits = tmp_path / "limits.toml"
    if text is not None:
        limits.write_text(text)
    journal = tmp_path / "a.journal" if named else None
    loop = open_loop(Settings(limits=limits, journal=journal, stimulator="simulated"))
    limits.write_text(LIMITS.read_text().replace('"simulated"', '"p07"'))
    with pytest.raises(OperatorFault) as refused:
        loop.gate.request(read_limits(limits).sha256)
    nobody = "found participant 'p07', expected none, since nobody was known at the start"
    assert (nobody in str(refused.value)) == (not named)
    assert loop.gate.status()["problems"][0].endswith("start the service anew") == (not named)
    loop.close()
    if not named:
        again = open_loop(Settings(limits=limits, stimulator="simulated"))
        assert (tmp_path / "phosphene" / "p07.journal").exists()
        assert not any("start the service anew" in problem for problem in again.gate.status()["problems"])
        again.close()
