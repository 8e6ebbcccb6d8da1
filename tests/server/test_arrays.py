"""Several arrays in one service: each is served as if alone, one trigger stands for all, and they end together."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pylsl
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse

import server.wiring
from models.errors import RigFault
from server.app import create_app
from server.bundles import Bundles
from server.closed_loop import open_loop
from server.service import Service
from server.settings import PACKAGED, Settings
from server.trigger_settings import PlanSettings
from streaming.chunk import Chunk, EndOfRecording
from streaming.participant.settings import ParticipantSettings
from streaming.participant.source import SimulatedSource
from streaming.states import State
from tests.server.fakes import BINS, CHANNELS, FakeBundles, FakeDecoder, FakeLive, prediction
from tests.server.test_app import assert_problem, say
from tests.server.test_cli import command, get, interrupt, until
from tests.server.test_control import DECODING, LIMITS

BASE = "http://127.0.0.1:8000"
SETTINGS = Settings(arrays={"v4": {"source": "lsl:name='V4'", "hop_s": 0.02}})


class Two:
    """The first array and v4, their decode threads played, in one application."""

    def __init__(self, **trigger: Any) -> None:
        settings = SETTINGS.model_copy(update=trigger)
        happened = lambda kind, fields: self.first.trigger_happened(kind, fields)  # noqa: E731
        self.lives = {"": FakeLive(), "/arrays/v4": FakeLive()}
        one, other = self.lives.values()
        loop = open_loop(settings, happened=happened)
        self.first = Service(one, FakeDecoder(), settings, FakeBundles(), loop=loop)
        self.v4 = Service(other, FakeDecoder(), settings.of("v4"), FakeBundles(), trigger_of=self.first)
        one.sink, other.sink = self.first.hand_over, self.v4.hand_over
        app = create_app(self.first, 8000, others={"v4": self.v4})
        self.client = TestClient(app, base_url=BASE, headers={"origin": BASE, "host": "127.0.0.1:8000"})

    def running(self) -> None:
        for live in self.lives.values():
            say(self.client, live)
        for service in (self.first, self.v4):
            self.client.portal.call(service.tick, 0)


@pytest.fixture
def two():
    both = Two()
    with both.client:
        yield both


def test_each_array_has_its_own(two):
    say(two.client, two.lives[""], 3)
    say(two.client, two.lives["/arrays/v4"], 5)
    for path, count in (("", 3), ("/arrays/v4", 5)):
        status = two.client.get(f"{path}/v1/status").json()
        assert (status["next_seq"], status["arrays"]) == (count, ["v4"])
        held = two.client.get(f"{path}/v1/predictions").json()
        assert (len(held["predictions"]), held["run_id"]) == (count, status["run_id"])
    assert two.first.run_id != two.v4.run_id
    assert two.v4.settings.hop_s == 0.02
    assert two.client.post("/arrays/v4/v1/models/fake/activate", json={}).json() == {"active": "fake@2"}
    assert [live.activated for live in two.lives.values()] == [[], ["fake@2"]]
    two.client.put("/arrays/v4/v1/channels", json={"masked": [7]})
    assert [int(live.usable.sum()) for live in two.lives.values()] == [96, 95]


def test_each_array_speaks_to_its_own_clients(two):
    with (
        two.client.websocket_connect("/v1/predictions") as one,
        two.client.websocket_connect("/arrays/v4/v1/predictions") as other,
        two.client.websocket_connect("/arrays/v4/v1/events") as events,
    ):
        two.lives["/arrays/v4"].say(2, probability=0.25)
        two.lives[""].say(1, probability=0.75)
        assert [other.receive_json()["probability"] for _ in range(2)] == [0.25, 0.25]
        assert one.receive_json()["probability"] == 0.75
        two.client.portal.call(two.v4.tick, 0)
        assert {"status", "array"} & {events.receive_json()["type"] for _ in range(3)}


def test_ready_when_all_are(two):
    assert_problem(two.client.get("/readyz"), 503, "array first: the decoder is waiting", "array v4: the decoder is")
    two.running()
    assert two.client.get("/readyz").json() == {"ready": True}
    two.lives["/arrays/v4"].state = "waiting"
    found = two.client.get("/readyz")
    assert_problem(found, 503, "array v4: the decoder is waiting")
    assert "first" not in found.json()["detail"]
    assert two.client.get("/v1/status").json()["ready"]


def test_metrics_of_all(two):
    two.running()
    say(two.client, two.lives["/arrays/v4"], 2)
    two.client.portal.call(two.v4.tick, 0)
    text = two.client.get("/metrics").text
    for array, count in (("first", 1), ("v4", 3)):
        assert f'phosphene_predictions_total{{array="{array}",valid="true"}} {count}.0' in text
        assert f'phosphene_ready{{array="{array}"}} 1.0' in text
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names)), "each family stands once"
    assert "process_" not in "".join(name for name in text.split() if "array=" in name), "the process is one"
    assert "array=" not in two.client.get("/arrays/v4/metrics").text


def test_the_page_of_each(two):
    answer = two.client.get("/arrays/v4", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/arrays/v4/")
    for path in ("/", "/arrays/v4/"):
        page = two.client.get(path).text
        assert 'src="page/page.js"' in page
        assert '"/' not in page, "what it loads lies beside it"
    assert two.client.get("/arrays/v4/page/page.js").status_code == 200


def test_what_is_not_there(two):
    for path in ("/arrays/it", "/arrays/it/v1/status", "/arrays/v4/v1/nothing", "/arrays/v4/arrays/v4/v1/status"):
        assert_problem(two.client.get(path), 404)
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        two.client.websocket_connect("/arrays/it/v1/predictions"),
    ):
        pass
    assert denied.value.status_code == 404


def test_the_guard_stands_before_each(two):
    evil = {"origin": "http://evil.example"}
    for method, path in (("GET", "/v1/status"), ("PUT", "/v1/channels"), ("POST", "/v1/trigger/disarm"), ("GET", "/")):
        assert two.client.request(method, f"/arrays/v4{path}", json={}, headers=evil).status_code == 403
    assert two.client.get("/arrays/v4/v1/status", headers={"host": "evil.example"}).status_code == 403
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        two.client.websocket_connect("/arrays/v4/v1/predictions", headers=evil),
    ):
        pass
    assert denied.value.status_code == 403
    windows = {"windows": np.zeros((20, CHANNELS, BINS)).tolist()}  # more than the 64 KiB of other paths
    assert two.client.post("/arrays/v4/v1/decode", json=windows).status_code == 200


def test_all_decode_as_long_as_the_application_lives():
    both = Two()
    with both.client:
        assert [live.started for live in both.lives.values()] == [1, 1]
    assert [live.stopped for live in both.lives.values()] == [1, 1]


# One trigger stands for all ------------------------------------------------------------------------------------------


@pytest.fixture
def armed(tmp_path):
    (tmp_path / "limits.toml").write_text(LIMITS)
    both = Two(limits=tmp_path / "limits.toml", journal=tmp_path / "a.journal", stimulator="simulated")
    both.first.gate.settings = replace(both.first.gate.settings, stream_disarms_s=60.0)  # no prediction follows
    both.first.gate.decoding(DECODING)
    with both.client:
        both.first.gate.predict(prediction(0, sample_time=0.0))
        sha256 = both.client.get("/v1/trigger").json()["limits"]["sha256"]
        token = both.client.post("/v1/trigger/arm", json={"limits_sha256": sha256}).json()["confirm_token"]
        assert both.client.post("/v1/trigger/confirm", json={"confirm_token": token}).status_code == 200
        yield both


def test_it_is_seen_and_stopped_from_every_array(armed):
    for path in ("/v1/trigger", "/arrays/v4/v1/trigger"):
        assert armed.client.get(path).json()["state"] == "ARMED"
    assert armed.client.get("/arrays/v4/v1/status").json()["trigger"]["state"] == "ARMED"
    stopped = armed.client.post("/arrays/v4/v1/trigger/disarm", json={"stop": True})
    assert stopped.json()["state"] == "FAULT"
    assert armed.first.gate.engine.state is State.FAULT


def test_while_it_is_armed_no_array_changes_its_bundle(armed):
    assert_problem(armed.client.post("/arrays/v4/v1/models/fake/activate", json={}), 409, "armed")


def test_an_array_that_hangs_disarms_it_and_ends_the_process(armed):
    ended = []
    armed.v4.give_up = lambda: ended.append(True)
    armed.lives["/arrays/v4"].busy_since = time.monotonic()
    deadline = time.monotonic() + 10
    while not any("hangs" in why for why in armed.first.gate.problems()):
        assert time.monotonic() < deadline, "nobody arms it meanwhile"
        time.sleep(0.01)
    while not ended and time.monotonic() < deadline:
        time.sleep(0.02)
    assert armed.first.gate.engine.state is State.DISARMED
    assert "hangs" in armed.client.get("/v1/trigger").json()["because"]
    assert_problem(armed.client.get("/readyz"), 503, "array v4: the decoder has not moved")
    assert "its inference hangs" in armed.v4.dead
    assert armed.first.dead == ""


def test_what_a_blind_experiment_hides_no_array_shows(tmp_path):
    (tmp_path / "limits.toml").write_text(LIMITS)
    plan = PlanSettings(arms=["favourable", "random"], trials_per_arm=10, blind=True)
    trigger = {"limits": tmp_path / "limits.toml", "journal": tmp_path / "a.journal", "stimulator": "simulated"}
    settings = SETTINGS.model_copy(update={**trigger, "plan": plan, "source": "lsl:name='Nobody'", "outlet": False})
    bundles = Bundles(PACKAGED)
    first, close = server.wiring.build(settings, bundles, FakeDecoder())
    v4, _ = server.wiring.build(settings.of("v4"), bundles, FakeDecoder(), first, "v4")
    (tell,) = v4.live._sinks
    with TestClient(create_app(first, 8000, others={"v4": v4}), base_url=BASE) as client:
        tell(prediction(0))
        first.gate.decoding(DECODING)
        first.gate.predict(prediction(0, sample_time=0.0))
        first.gate.confirm(first.gate.request(first.gate.engine.limits.sha256)[0])
        tell(prediction(1))
        client.get("/healthz")
        held = client.get("/arrays/v4/v1/predictions").json()["predictions"]
    close()
    assert [one["probability"] for one in held] == [0.5, None]


# What it decodes -----------------------------------------------------------------------------------------------------


class Finite(SimulatedSource):
    """A second and a half of a session, as fast as it is read."""

    def __init__(self, session: int) -> None:
        super().__init__(ParticipantSettings(session=session), "rest")

    def read(self, timeout_s: float) -> Chunk | None:
        if self.session.position >= 1.5 * self.info.rate_hz:
            raise EndOfRecording
        return super().read(timeout_s)


def numbers(monkeypatch: pytest.MonkeyPatch, *sessions: int) -> list[list[Any]]:
    """What a service of so many arrays says of each: `last_sample`, probability and embedding of every prediction."""
    monkeypatch.setattr(server.wiring, "open_source", lambda settings: Finite(int(settings.source)))
    tables = {f"a{one}": {"source": str(one)} for one in sessions[1:]}
    settings, bundles = Settings(source=str(sessions[0]), arrays=tables, outlet=False), Bundles(PACKAGED)
    first, _ = server.wiring.build(settings, bundles, bundles.open("default"))
    others = {}
    for name in tables:
        others[name], _ = server.wiring.build(settings.of(name), bundles, bundles.open("default"), first, name)
    with TestClient(create_app(first, 8000, others=others), base_url=BASE) as client:
        paths = ["", *(f"/arrays/{name}" for name in tables)]
        while {client.get(f"{path}/v1/status").json()["state"] for path in paths} != {"ended"}:
            time.sleep(0.02)
        held = [client.get(f"{path}/v1/predictions?limit=1000").json()["predictions"] for path in paths]
    return [[(one["last_sample"], one["probability"], one["embedding"]) for one in each] for each in held]


def test_an_array_gives_the_numbers_that_it_gives_alone(monkeypatch):
    together = numbers(monkeypatch, 0, 1)
    assert [len(each) for each in together] == [150, 150]
    assert sum(probability is not None for _, probability, _ in together[1]) > 10
    assert together == [*numbers(monkeypatch, 0), *numbers(monkeypatch, 1)]
    assert together[0] != together[1]


def test_a_real_service_of_two_arrays(tmp_path):
    config = tmp_path / "rig.toml"
    config.write_text("source = 'simulate'\n[arrays.v4]\nsource = \"lsl:name='NoSuchStream'\"")
    with command("serve", "--port", "0", "--config", str(config)) as (process, address):
        until(f"{address}/v1/status", lambda _, body: body["predictions"] > 0, 120)
        _, problem = get(f"{address}/readyz")
        assert "array v4: the decoder is waiting: no stream yet: still looking for an LSL stream" in problem["detail"]
        assert get(f"{address}/arrays/v4/v1/status")[1]["predictions"] == 0
        for stream in ("PhosphenePredictions", "PhosphenePredictions-v4"):
            assert pylsl.resolve_byprop("name", stream, 1, 30.0), stream
        status, seconds = interrupt(process, signal.SIGTERM)
    assert status == 0
    assert seconds < 3.0


def test_who_hung_is_named_at_the_end(monkeypatch):
    """`serve` with a server that ends at once, because v4 is dead."""

    class Ended:
        def run(self, sockets):
            pass

    def build(settings, bundles, decoder, first, name):
        service = Service(FakeLive(), FakeDecoder(), settings, FakeBundles(), trigger_of=first)
        service.dead = "its inference hangs" if name == "v4" else ""
        closed.append(name)
        return service, lambda: closed.remove(name)

    closed = []
    monkeypatch.setattr(server.wiring, "Bundles", lambda *_: FakeBundles())
    monkeypatch.setattr(server.wiring, "build", build)
    monkeypatch.setattr(server.wiring, "make_server", lambda *_: Ended())
    monkeypatch.setattr(server.wiring, "_end_soon", lambda: None)
    monkeypatch.setattr(FakeDecoder, "choice", "cpu", raising=False)
    with pytest.raises(RigFault, match="array v4: its inference hangs"):
        server.wiring._serve(
            SETTINGS.model_copy(
                update={
                    "port": 0,
                    "model": "fake",
                    "arrays": {"v4": SETTINGS.arrays["v4"].model_copy(update={"model": "fake"})},
                }
            ),
            None,
        )
    assert closed == []
