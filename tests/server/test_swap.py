"""A bundle takes over by shadow and probation, over HTTP; and leaves again where its outputs turn bad."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.decoder import Decoded
from models.errors import BundleFault, RigFault
from server.app import create_app
from server.service import Service
from server.settings import Settings
from server.swap import WATCHED
from streaming import shadow as shadows
from streaming.predictions import Latency
from tests.server.fakes import FakeBundles, FakeDecoder, FakeLive, prediction
from tests.server.seen import watched

BASE = "http://127.0.0.1:8000"


class Wavering(FakeDecoder):
    said = 0

    def step(self, window: Any, usable: Any) -> Decoded:
        self.said += 1
        return replace(super().step(window, usable), prestimulus=1 / (1 + self.said % 7))


class Bundles(FakeBundles):
    def open(self, name: str | None) -> Any:
        return Wavering(super().open(name).name)


class Rig:
    """The service on a clock of its own; `say` publishes predictions of the bundle that runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.live, self.bundles = FakeLive(), Bundles()
        self.service = Service(self.live, FakeDecoder(), Settings(outlet=False), self.bundles, clock=lambda: self.now)
        self.live.sink = self.service.hand_over
        self.client = TestClient(watched(create_app(self.service, 8000)), base_url=BASE, headers={"origin": BASE})

    def activate(self, name: str = "fake@2", **body: Any) -> Any:
        return self.client.post(f"/v1/models/{name}/activate", json=body)

    def say(self, count: int = 1, **changes: Any) -> None:
        self.live.say(count, model=self.service.decoder.name, **changes)
        self.client.get("/healthz")

    def models(self) -> Any:
        return self.client.get("/v1/models").json()

    def within(self, condition: Any, seconds: float = 5.0) -> bool:
        """The service's tick comes ten times a second, by the wall's clock."""
        until = time.monotonic() + seconds
        while not condition() and time.monotonic() < until:
            time.sleep(0.02)
        return bool(condition())


@pytest.fixture
def rig():
    one = Rig()
    with one.client:
        one.say()
        yield one


@pytest.mark.parametrize("body", [{}, {"shadow_s": 10}])
def test_a_bundle_that_does_not_fit_the_stream_is_refused(rig, body):
    rig.live.misfit = RigFault("sampling rate: found 15000 Hz, expected more than twice the band's 7600 Hz")
    answer = rig.activate(**body)
    assert answer.status_code == 409
    assert "fake@2 cannot be served on this stream: sampling rate: found 15000 Hz" in answer.json()["detail"]
    assert (rig.models()["active"], rig.models()["candidate"]) == ("fake@1", None)
    assert rig.live.activated == []


def test_shadow_then_promoted(rig):
    answer = rig.activate(shadow_s=10)
    assert answer.status_code == 202
    assert answer.json()["active"] == "fake@1"
    assert answer.json()["candidate"]["name"] == "fake@2"
    rig.live.show(50)
    told = rig.models()["candidate"]
    assert (told["windows"], told["passed_by"], told["not_finite"]) == (50, 0, 0)
    assert told["s_left"] == 10.0
    assert told["correlation"] is None, "the running one said the same of all, so there is none"
    assert rig.models()["active"] == "fake@1"
    rig.now = 10.5
    assert rig.within(lambda: rig.models()["active"] == "fake@2")
    assert rig.live.activated == ["fake@2"]
    assert rig.live.shadowed is None
    last = rig.models()["last"]
    assert (last["what"], last["why"], last["shadow"]["windows"]) == ("active", "after fake@1", 50)


def test_a_shadow_that_saw_nothing_is_not_promoted(rig):
    rig.activate(shadow_s=10)
    rig.now = 10.5
    assert rig.within(lambda: (rig.models()["last"] or {}).get("what") == "dropped")
    assert rig.models()["candidate"] is None
    assert rig.models()["active"] == "fake@1"
    assert "it has seen 0 windows" in rig.models()["last"]["why"]


@pytest.mark.parametrize("fails", [True, False])
def test_a_shadow_that_fails_or_hangs_in_its_last_window_is_not_promoted(rig, fails, monkeypatch):
    """Its time is over while it is at a window: what becomes of that is awaited."""
    monkeypatch.setattr(shadows, "HANGS_S", 30.0 if fails else 0.2)
    rig.activate(shadow_s=10)
    rig.live.show(50)
    shadow, begun, end = rig.live.shadowed, threading.Event(), threading.Event()

    def step(window: Any, usable: Any) -> Any:
        begun.set()
        end.wait(10)
        raise RuntimeError("out of memory")

    shadow.decoder.step = step
    shadow.look(SimpleNamespace(copy_window=lambda window, usable: None), prediction(50))
    assert begun.wait(5)
    rig.now = 10.5
    assert rig.within(lambda: rig.live.shadowed is None)
    if fails:
        end.set()
    assert rig.within(lambda: (rig.models()["last"] or {}).get("what") == "dropped")
    end.set()
    assert ("its inference failed" if fails else "its inference has taken") in rig.models()["last"]["why"]
    assert rig.models()["active"] == "fake@1"
    assert rig.live.activated == []


def test_another_takes_the_place_of_a_candidate_and_none_can_be_dropped_twice(rig):
    rig.activate(shadow_s=10)
    first = rig.live.shadowed
    rig.activate("fake@1", shadow_s=10)
    assert rig.live.shadowed is not first
    assert not first._thread.is_alive()
    assert rig.client.post("/v1/models/drop", json={}).json() == {"active": "fake@1"}
    assert rig.live.shadowed is None
    refused = rig.client.post("/v1/models/drop", json={})
    assert (refused.status_code, "found no bundle in shadow" in refused.json()["detail"]) == (409, True)


def test_a_shadow_needs_windows_to_compare(rig):
    rig.live.state = "waiting"
    refused = rig.activate(shadow_s=10)
    assert (refused.status_code, "nothing to compare" in refused.json()["detail"]) == (409, True)
    for wrong in (-1, 3601, "NaN", None):
        assert rig.activate(shadow_s=wrong).status_code == 422


def test_rolled_back_on_command(rig):
    assert rig.client.post("/v1/models/rollback", json={}).status_code == 409
    before = rig.service.decoder
    rig.activate()
    assert rig.models()["before"] == "fake@1"
    assert rig.client.post("/v1/models/rollback", json={}).json() == {"active": "fake@1"}
    assert rig.service.decoder is before, "it was still open"
    assert rig.models()["before"] is None
    assert rig.client.post("/v1/models/rollback", json={}).status_code == 409


def test_after_probation_its_memory_is_given_back_and_it_is_opened_again(rig):
    before = rig.service.decoder
    rig.activate()
    rig.now = 61.0
    assert rig.within(lambda: rig.service.swap._before is None)
    assert rig.client.post("/v1/models/rollback", json={}).json() == {"active": "fake@1"}
    assert rig.service.decoder is not before


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"flags": ("not_finite",), "embedding": None, "probability": None}, "were not finite"),
        ({"probability": 0.5}, f"its last {WATCHED} probabilities were all the same"),
        ({"latency_ms": Latency(0.4, 0.1, 12.0, 13.0)}, "took longer than the hop of 10 ms"),
    ],
)
def test_rolled_back_by_itself(rig, changes, why):
    rig.activate()
    rig.say(WATCHED, **changes)
    assert rig.within(lambda: rig.models()["active"] == "fake@1")
    assert why in rig.models()["last"]["why"]
    assert rig.live.activated == ["fake@2", "fake@1"]
    rig.say(WATCHED, **changes)  # there is nothing to go back to: it is said by flags and /readyz alone
    assert rig.models()["active"] == "fake@1"


def test_no_way_back_to_a_bundle_that_does_not_fit_the_stream_that_came_since(rig, caplog):
    rig.activate()
    rig.live.misfit = RigFault("sampling rate: found 15000 Hz, expected more than twice the band's 7600 Hz")
    refused = rig.client.post("/v1/models/rollback", json={})
    assert (refused.status_code, "fake@1 cannot be served on this stream" in refused.json()["detail"]) == (409, True)
    rig.say(WATCHED, probability=0.5)
    assert rig.within(lambda: "no way back: fake@1 cannot be served" in caplog.text)
    assert rig.service.swap._before is None
    assert rig.models()["active"] == "fake@2"
    assert rig.live.activated == ["fake@2"]


def test_who_puts_another_in_its_place_is_quicker_than_the_rollback(rig):
    """The rollback waits until the change is made, and the bad one is gone by then."""
    rig.activate("fake@2")
    opening, opened = rig.bundles.open, threading.Event()

    def open_slowly(name: str) -> Any:
        opened.wait(5)
        return opening(name)

    rig.bundles.open = open_slowly
    changing = threading.Thread(target=rig.activate, args=("fake@1",))
    changing.start()
    assert rig.within(lambda: rig.service.swap._lock.locked())
    rig.say(WATCHED, probability=0.5)
    opened.set()
    changing.join()
    rig.client.get("/healthz")
    assert rig.models()["active"] == "fake@1"
    assert rig.live.activated == ["fake@2", "fake@1"]
    assert rig.models()["last"]["why"] == "after fake@2"


def test_broken_data_is_no_fault_of_the_bundle(rig):
    rig.activate()
    rig.say(2 * WATCHED, flags=("gap",), embedding=None, probability=None)
    rig.say(2 * WATCHED)
    assert rig.models()["active"] == "fake@2"


def test_a_bundle_that_does_not_hold_changes_nothing(rig, monkeypatch):
    def refuse(name: str) -> Any:
        raise BundleFault(f"{name}: golden vectors do not hold")

    rig.activate(shadow_s=60)
    monkeypatch.setattr(rig.bundles, "open", refuse)
    assert rig.activate("fake@1").status_code == 409
    assert rig.models()["candidate"]["name"] == "fake@2"
    assert rig.models()["active"] == "fake@1"


def test_what_shadows_goes_when_the_bundle_before_comes_back(rig):
    """It was beside the one that goes, and may read other windows than the one that comes."""
    rig.activate("fake@2")
    rig.activate("fake@1", shadow_s=10)
    shadow = rig.live.shadowed
    assert rig.client.post("/v1/models/rollback", json={}).json() == {"active": "fake@1"}
    assert rig.live.shadowed is None
    assert not shadow._thread.is_alive()
    assert rig.models()["candidate"] is None
