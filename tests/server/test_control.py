"""The trigger's controls over real HTTP: who may, in which order, and what ends it."""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pylsl import local_clock

from server.closed_loop import open_loop
from server.journal.lawful import violations
from server.journal.read import rows, verify
from server.settings import Settings
from server.wiring import SWITCH_INTERVAL_S
from streaming.events import Report, Stimulation
from streaming.live_status import MarkerSeen
from streaming.matching import Decoding
from streaming.stimulators.simulated import Faults
from tests.server.fakes import prediction
from tests.server.test_real_server import Running

LIMITS = """
name = "a test"
participant = "simulated"
simulated_only = true
electrodes = [34]
currents_ua = [10.0]
[pulse]
phase_us = 170
interphase_us = 60
frequency_hz = 300
pulses = 50
[limits]
refractory_s = 0.5
pulses_per_minute = 100
"""
DECODING = Decoding(
    source="simulated",
    participant="simulated",
    rate_hz=30_000.0,
    model="fake@1",
    bundle_sha256="b" * 64,
    min_usable_channels=64,
    fitted_to="simulated",
)


class Loop(Running):
    """A service on a real port, with limits, a journal and the simulated device; its decode thread is played."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.limits = folder / "limits.toml"
        self.limits.write_text(LIMITS)
        self.journal = folder / "a.journal"
        self.device_log = folder / "a.journal.device.jsonl"
        settings = Settings(limits=self.limits, journal=self.journal, stimulator="simulated", **changes)
        loop = open_loop(settings, happened=lambda kind, fields: self.service.trigger_happened(kind, fields))
        super().__init__(settings, loop)
        self.gate = loop.gate
        self.gate.decoding(DECODING)
        self.hops(1)
        self.lease = ""

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def hops(self, count: int, probability: float = 0.1) -> None:
        """What the decode thread does with the predictions of so many hops, faster than they would come."""
        self.live.state = "running"
        for _ in range(count):
            one = prediction(self.live.said, probability=probability, sample_time=local_clock())
            self.gate.predict(one)
            self.service.hand_over(self.gate.shown(one))
            self.live.said += 1

    def ask(self, method: str, path: str, body: Any = None, origin: str | None = "ours", **headers: str) -> Any:
        """(status, body) of a request."""
        sent = {"Content-Type": "application/json"} | headers
        if origin is not None:
            sent["Origin"] = self.origin if origin == "ours" else origin
        data = json.dumps({} if body is None else body).encode()
        path = path if path.startswith("/v1/") else f"/v1/trigger{path}"
        request = urllib.request.Request(f"{self.origin}{path}", data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def post_to(self, path: str, **body: Any) -> Any:
        return self.ask("POST", path, body)

    def post(self, path: str, **body: Any) -> Any:
        return self.ask("POST", path, body)

    def sha256(self) -> str:
        return str(self.get("/v1/trigger")["limits"]["sha256"])

    def arm(self) -> None:
        status, asked = self.post("/arm", limits_sha256=self.sha256())
        assert status == 200, asked
        status, answer = self.post("/confirm", confirm_token=asked["confirm_token"])
        assert status == 200, answer
        self.lease = answer["lease_token"]
        self.hops(102)  # a second of good samples
        while self.gate.status()["reason"] in ("AGE", "UNSETTLED"):  # one was held up on its way
            self.hops(102)

    def state(self) -> str:
        return str(self.get("/v1/trigger")["state"])

    def inhibited(self) -> dict[str, float]:
        """The metrics' counts by reason."""
        with urllib.request.urlopen(f"{self.origin}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        start = 'phosphene_trigger_decisions_total{outcome="inhibited",reason="'
        told = [line.removeprefix(start).split('"} ') for line in lines if line.startswith(start)]
        return {reason: float(count) for reason, count in told}

    def pulses(self) -> list[Any]:
        return [json.loads(line) for line in self.device_log.read_text().splitlines()]


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as the service has it
    one = Loop(tmp_path)
    yield one
    sys.setswitchinterval(0.005)
    assert one.stop() < 3.0
    verify(one.journal)
    if one.limits.read_text() == LIMITS:
        assert violations(one.journal, one.device_log, one.limits) == []


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_two_steps_a_pulse_and_its_percept(loop):
    with loop.socket("/v1/events") as events:
        loop.arm()
        assert loop.state() == "ARMED"
        loop.hops(5, 0.9)
        (pulse,) = loop.pulses()
        assert loop.state() == "REFRACTORY"
        train = Stimulation(7, 34, 10.0, 0.167, trigger_id=pulse["trigger_id"])
        loop.service.marked(MarkerSeen(train, 30_000, 1.0))
        loop.service.marked(MarkerSeen(Report(7, True), 50_000, 2.0))
        loop.service.marked(MarkerSeen(Report(8, True), 50_000, 2.0))  # of nobody's trial
        told = []
        while [one["type"] for one in told].count("report") < 2:
            told.append(json.loads(events.recv(timeout=10)))
    kinds = [one["type"] for one in told if one["type"] in ("transition", "trigger", "stim", "report")]
    assert kinds == ["transition", "transition", "trigger", "stim", "report", "report"]
    reports = [one["trigger_id"] for one in told if one["type"] == "report"]
    assert reports == [pulse["trigger_id"], None]
    (hits,) = loop.get("/v1/status")["trigger"]["hits"]
    assert (hits["arm"], hits["pulses"], hits["answered"], hits["perceived"]) == ("favourable", 1, 1, 1)
    low, high = hits["interval"]
    assert (low, high) == (pytest.approx(0.2065, abs=1e-3), 1.0)
    with urllib.request.urlopen(f"{loop.origin}/metrics", timeout=5) as answer:
        assert 'phosphene_trigger_state{state="FAULT"} 0.0' in answer.read().decode()
    assert loop.inhibited()["DAY_CHARGE"] == 0.0
    assert within(2.0, lambda: loop.post("/disarm")[1]["state"] == "DISARMED")


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "https://127.0.0.1", "suffix", "http://127.0.0.1"]
)
def test_only_our_own_page_arms_and_anybody_here_may_disarm(loop, origin):
    foreign = f"{loop.origin}.evil.example" if origin == "suffix" else origin
    body = {"limits_sha256": loop.sha256()}
    for method, path in (("POST", "/arm"), ("PUT", ""), ("POST", "/shadow"), ("POST", "/clear"), ("POST", "/confirm")):
        status, answer = loop.ask(method, path, body, origin=foreign)
        assert (status, answer["title"]) == (403, "Forbidden")
    loop.arm()
    status, _ = loop.ask("POST", "/heartbeat", {"lease_token": loop.lease}, origin=foreign)
    assert status == 403
    status, _ = loop.ask("POST", "/disarm", {}, origin=foreign)
    assert (status, loop.state()) == ((200, "DISARMED") if foreign is None else (403, "ARMED"))
    assert loop.ask("POST", "/disarm", {}, Host="evil.example")[0] == 403
    assert loop.ask("POST", "/disarm", {}, **{"Content-Type": "text/plain"})[0] == 415


def test_two_operators_at_once(loop):
    _, first = loop.post("/arm", limits_sha256=loop.sha256())
    status, second = loop.post("/arm", limits_sha256=loop.sha256())
    assert (status, second["title"]) == (409, "Conflict")
    assert "one operator at a time" in second["detail"]
    assert loop.post("/confirm", confirm_token="another")[0] == 409
    status, armed = loop.post("/confirm", confirm_token=first["confirm_token"])
    assert status == 200
    assert loop.post("/confirm", confirm_token=first["confirm_token"])[0] == 409
    assert loop.post("/heartbeat", lease_token="another")[0] == 409
    assert loop.post("/heartbeat", lease_token=armed["lease_token"]) == (200, {"state": "ARMED"})
    assert loop.post("/shadow")[0] == 409
    assert loop.ask("PUT", "", {"p_on": 0.9})[0] == 409
    assert loop.post("/disarm", reason="the second operator")[1]["because"] == "the second operator"
    assert loop.post("/heartbeat", lease_token=armed["lease_token"])[0] == 409


def test_bad_bodies(loop):
    sha256 = loop.sha256()
    for method, path, body in (
        ("POST", "/arm", {}),
        ("POST", "/arm", {"limits_sha256": "short"}),
        ("POST", "/arm", {"limits_sha256": sha256, "current_ua": 100}),
        ("POST", "/disarm", {"stop": "yes"}),
        ("POST", "/clear", {"reason": ""}),
        ("PUT", "", {"p_on": 0.4}),
        ("PUT", "", {"p_on": "0.8"}),
        ("PUT", "", {"dwell_hops": True}),
        ("PUT", "", {"p_on": 0.7, "max_age_s": 10}),
        ("PUT", "", {"refractory_s": 0.1}),
        ("PUT", "", {"plan": {"arms": ["favourable"], "trials_per_arm": 10**9}}),
        ("PUT", "", {"plan": {"arms": ["lucky"], "trials_per_arm": 10}}),
        ("PUT", "", {"plan": {"arms": ["yoked"], "trials_per_arm": 10}}),
        ("PUT", "", []),
    ):
        status, answer = loop.ask(method, path, body)
        assert (status, answer["status"]) == (422, 422), (path, body)
    status, answer = loop.post("/arm", limits_sha256="0" * 64)
    assert status == 409
    assert "of the file as it is now" in answer["detail"]
    assert loop.state() == "DISARMED"


def test_thresholds_and_a_plan(loop):
    plan = {"arms": ["favourable", "random"], "trials_per_arm": 5, "sham_fraction": 0.2, "seed": 3}
    status, told = loop.ask("PUT", "", {"p_on": 0.8, "dwell_hops": 1, "plan": plan})
    assert status == 200
    assert told["plan"]["trials"] == 10
    assert (told["thresholds"]["p_on"], told["thresholds"]["p_off"], told["thresholds"]["dwell_hops"]) == (0.8, 0.6, 1)
    assert loop.ask("PUT", "", {"p_off": 0.7})[1]["thresholds"]["p_on"] == 0.8
    assert loop.get("/v1/trigger")["plan"]["trials"] == 10, "a plan stays until another comes"


def test_a_yoked_arm_waits_as_long_as_the_trials_of_another_session(loop):
    plan = {"arms": ["yoked"], "trials_per_arm": 2, "sham_fraction": 0, "waits_s": [0.5, 0.25]}
    assert loop.ask("PUT", "", {"plan": plan})[0] == 200
    loop.arm()
    loop.hops(60)
    assert len(loop.pulses()) == 1
    loop.stop()
    (first,) = [row.load() for row in rows(loop.journal) if row.kind == "trigger"]
    assert (first["arm"], first["waited_s"]) == ("yoked", pytest.approx(0.5, abs=0.011))


def test_the_lease_runs_out(loop):
    asked = time.monotonic()  # a machine that is late must not seem to have cut the lease short
    loop.arm()
    assert loop.state() == "ARMED"
    began = time.monotonic()
    while time.monotonic() - began < 1.6:
        loop.hops(1)
        time.sleep(0.01)
    loop.hops(5, 0.9)
    assert within(0.5, lambda: loop.hops(1, 0.9) or loop.get("/v1/trigger")["reason"] == "LEASE")
    while loop.state() != "DISARMED":
        loop.hops(1)
        assert time.monotonic() - began < 4.0
    assert time.monotonic() - asked > 2.9
    assert loop.post("/heartbeat", lease_token=loop.lease)[0] == 409
    assert loop.pulses() == []


def test_an_event_loop_that_is_blocked_keeps_nobody_armed(loop):
    """A handler that waits: no heartbeat is heard and no request answered, and predictions go on."""
    loop.arm()
    began = time.monotonic()
    assert loop.service._loop is not None
    loop.service._loop.call_soon_threadsafe(time.sleep, 3.6)
    while (passed_s := time.monotonic() - began) < 3.3:
        loop.hops(1, 0.1 if passed_s < 1.7 else 0.9)
        time.sleep(0.01)
    assert loop.gate.engine.state.value == "DISARMED", "asked past the loop"
    assert loop.pulses() == []
    assert within(2.0, lambda: loop.state() == "DISARMED")
    assert loop.get("/v1/trigger")["because"] == "the operator's client fell silent"


def test_limits_edited_while_armed(loop):
    loop.arm()
    loop.limits.write_text(LIMITS + "# another thought")
    edited = time.monotonic()
    assert within(1.0, lambda: loop.state() == "DISARMED")
    assert time.monotonic() - edited <= 1.0
    assert loop.get("/v1/trigger")["because"] == "the limits file changed"
    loop.limits.write_text("electrodes = 3")
    assert within(1.0, lambda: loop.get("/v1/trigger")["limits"] is None)
    assert "name: missing" in loop.get("/v1/trigger")["problems"][0]
    status, answer = loop.post("/shadow")
    assert status == 409
    assert "no valid limits file" in answer["detail"]


def test_stop_latches_until_somebody_clears_it(loop):
    loop.arm()
    assert loop.ask("POST", "/disarm", {"stop": True}, origin=None)[1]["state"] == "FAULT"
    loop.hops(20, 0.95)
    assert loop.pulses() == []
    assert loop.post("/arm", limits_sha256=loop.sha256())[0] == 409
    assert loop.post("/disarm")[1]["state"] == "FAULT"
    assert loop.post("/clear", reason="it was a test")[1]["state"] == "DISARMED"
    assert loop.post("/clear", reason="again")[0] == 409


def test_a_device_that_vanishes(loop):
    loop.arm()
    loop.gate._device.faults = Faults(vanishes=True)
    assert within(1.0, lambda: loop.state() == "FAULT")
    told = loop.get("/v1/trigger")
    assert "the device is gone" in told["because"]
    assert told["device"]["state"] == "fault"
    loop.post("/clear", reason="it is not coming back")
    status, answer = loop.post("/arm", limits_sha256=loop.sha256())
    assert (status, "gone" in answer["detail"]) == (409, True)


def test_a_marker_storm(loop):
    """More reports at once than the journal's queue holds: it disarms, says so, and lives."""
    loop.arm()
    for trial in range(20_000):
        loop.service.marked(MarkerSeen(Report(trial, True), trial, 1.0))
    assert within(1.0, lambda: loop.state() in ("ARMED", "DISARMED"))
    assert loop.post("/disarm", stop=True)[1]["state"] == "FAULT"
    assert loop.get("/v1/status")["trigger"]["hits"] == []
    assert within(5.0, lambda: loop.gate._journal.healthy)


def test_a_bundle_is_never_changed_while_armed_and_a_change_is_written_down(loop):
    loop.arm()
    status, answer = loop.post_to("/v1/models/fake@2/activate")
    assert (status, answer["detail"]) == (409, "the trigger is armed: no bundle is changed under it; disarm first")
    assert loop.state() in ("ARMED", "REFRACTORY")
    loop.gate.decoding(replace(DECODING, bundle_sha256="c" * 64))  # however it came about
    assert loop.get("/v1/trigger")["because"] == "another stream or bundle"
    loop.gate.shadow()
    assert loop.post_to("/v1/models/fake@2/activate") == (200, {"active": "fake@2"})
    assert loop.get("/v1/trigger")["because"] == "bundle fake@2 is activated"


@pytest.mark.parametrize("path", ["rollback", "fake@1/activate"])
def test_who_arms_while_a_bundle_is_made_ready_is_not_disarmed_by_it(loop, path, monkeypatch):
    """Making it ready takes seconds: opening, checking, the end of a shadow's last window."""
    assert loop.post_to("/v1/models/fake@2/activate") == (200, {"active": "fake@2"})
    asked, ready, answers = threading.Event(), threading.Event(), []

    def check(decoder: Any) -> None:
        asked.set()
        ready.wait(10)

    monkeypatch.setattr(loop.service.live, "check", check)
    changing = threading.Thread(target=lambda: answers.append(loop.post_to(f"/v1/models/{path}")))
    changing.start()
    assert asked.wait(5)
    loop.arm()
    ready.set()
    changing.join()
    assert [(status, answer["detail"][:20]) for status, answer in answers] == [(409, "the trigger is armed")]
    assert loop.state() in ("ARMED", "REFRACTORY")
    assert loop.get("/v1/models")["active"] == "fake@2"


def test_arming_ends_a_shadow(loop):
    assert loop.post_to("/v1/models/fake@2/activate", shadow_s=60)[0] == 202
    loop.arm()
    assert within(2.0, lambda: loop.get("/v1/models")["candidate"] is None)
    assert loop.get("/v1/models")["last"]["why"] == "the trigger is armed"
    assert loop.get("/v1/models")["active"] == "fake@1"
    assert loop.state() in ("ARMED", "REFRACTORY")


def test_a_change_of_the_bundle_is_in_the_journal(loop):
    loop.post_to("/v1/models/fake@2/activate")
    loop.gate.decoding(replace(DECODING, bundle_sha256="c" * 64))
    loop.stop()
    kinds = [row.kind for row in rows(loop.journal)]
    assert "bundle" in kinds
    assert kinds.count("connection") == 2
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_ended"


def test_a_blind_experiment_hides_probability_and_condition(loop):
    plan = {"arms": ["favourable", "random"], "trials_per_arm": 5, "sham_fraction": 0.5, "blind": True}
    loop.ask("PUT", "", {"plan": plan})
    counted = loop.inhibited()
    hurried = {"close_timeout": 0.1}  # for what is still unread
    with (
        loop.socket("/v1/predictions?fields=probability", **hurried) as predictions,
        loop.socket("/v1/events", **hurried) as events,
    ):
        loop.hops(1)
        assert json.loads(predictions.recv(timeout=5))["probability"] == 0.1
        loop.arm()
        while (shown := json.loads(predictions.recv(timeout=5)))["type"] != "prediction":
            pass  # what it was too slow for
        assert shown["probability"] is None
        loop.hops(600, 0.95)
        told: list[Any] = []
        while not told or told[-1]["type"] not in ("trigger", "sham"):
            told.append(json.loads(events.recv(timeout=10)))
        assert told[-1]["type"] == "trigger"
        assert (told[-1]["probability"], told[-1]["arm"], told[-1]["trigger_id"]) == (None, None, None)
        assert loop.inhibited() == counted, "THRESHOLD or WAIT would tell the arm"
        assert loop.get("/v1/trigger")["shams"] is None
        assert {one["arm"] for one in loop.get("/v1/trigger")["hits"]} == {"hidden"}
    loop.post("/disarm")
    loop.ask("PUT", "", {"plan": {**plan, "blind": False}})
    assert within(2.0, lambda: loop.inhibited()["UNSETTLED"] > 50.0), "the counts follow once it is over"


def test_ending_disarms_first_and_writes_it_down(tmp_path):
    loop = Loop(tmp_path)
    with loop.socket("/v1/events") as events:
        loop.arm()
        loop.server.should_exit = True
        seen = []
        while not seen or seen[-1].get("reason") != "the service ends":  # clients are told before they are sent away
            seen.append(json.loads(events.recv(timeout=5)))
    assert loop.stop() < 3.0
    ends = [row for row in rows(loop.journal) if row.kind in ("transition", "run_ended")][-2:]
    assert [row.kind for row in ends] == ["transition", "run_ended"]
    assert ends[0].load()["to"] == "DISARMED"
