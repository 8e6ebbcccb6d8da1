"""The WebSockets, in process: what they say, and whom they refuse."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from server.app import create_app
from server.service import Service
from server.settings import Settings
from tests.server.fakes import FakeBundles, FakeDecoder, FakeLive
from tests.server.seen import watched


@pytest.fixture
def live():
    return FakeLive()


@pytest.fixture
def service(live):
    service = Service(live, FakeDecoder(), Settings(subscribers=3), FakeBundles())
    live.sink = service.hand_over
    return service


@pytest.fixture
def client(service):
    with TestClient(
        watched(create_app(service, 8000)), base_url="http://127.0.0.1:8000", headers={"host": "127.0.0.1:8000"}
    ) as one:
        yield one


def test_predictions_as_they_come(client, live):
    with (
        client.websocket_connect("/v1/predictions") as json,
        client.websocket_connect("/v1/predictions?format=msgpack&fields=embedding") as packed,
    ):
        live.say(3)
        for seq in range(3):
            message = json.receive_json()
            assert (message["type"], message["seq"], message["source"]) == ("prediction", seq, "simulated")
            frame = msgpack.unpackb(packed.receive_bytes())
            assert "probability" not in frame
            assert np.frombuffer(frame["embedding"], "<f4").tolist() == message["embedding"]


def test_old_predictions_again(client, live):
    live.say(200)
    with client.websocket_connect("/v1/predictions?since_seq=10&fields=probability") as socket:
        assert [socket.receive_json()["seq"] for _ in range(189)] == list(range(11, 200))


def test_thinned(client, live):
    live.say(1)
    with client.websocket_connect("/v1/predictions?since_seq=-1&max_hz=20") as socket:
        live.say(60)
        assert [socket.receive_json()["seq"] for _ in range(5)] == [0, 5, 10, 15, 20]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("format=xml", "format"),
        ("fields=raw", "raw"),
        ("max_hz=fast", "max_hz"),
        ("max_hz=0", "max_hz"),
        ("max_hz=nan", "max_hz"),
        ("max_hz=inf", "max_hz"),
        ("since_seq=1.5", "since_seq"),
        ("since_seq=-2", "since_seq"),
        ("rate=3", "rate"),
        ("format=json&format=json", "twice"),
    ],
)
def test_unknown_queries_are_refused(client, query, word):
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect(f"/v1/predictions?{query}"):
        pass
    assert denied.value.status_code == 400
    assert word in denied.value.json()["detail"]


def test_no_such_socket(client):
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/v1/raw"):
        pass
    assert denied.value.status_code == 404


def test_a_client_that_talks_is_shown_the_door(client, service):
    for speech in ({"text": "arm!"}, {"bytes": b"\x00" * 100}):
        with client.websocket_connect("/v1/predictions") as socket:
            socket.send({"type": "websocket.receive", **speech})
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_json()
            assert closed.value.code == 1008
    client.get("/healthz")
    assert service.subscribers == 0


def test_one_client_too_many(client):
    with (
        client.websocket_connect("/v1/predictions"),
        client.websocket_connect("/v1/predictions"),
        client.websocket_connect("/v1/events"),
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect("/v1/predictions"),
    ):
        pass
    assert denied.value.status_code == 503
    with client.websocket_connect("/v1/predictions"):
        pass


def test_events_say_how_it_is_and_then_what_happens(client, live, service):
    live.say(10)
    client.get("/healthz")
    client.portal.call(service.tick, 0)
    with client.websocket_connect("/v1/events") as socket:
        first = {message["type"]: message for message in (socket.receive_json() for _ in range(3))}
        assert set(first) == {"status", "array", "trigger_state"}
        assert first["trigger_state"]["state"] == first["status"]["trigger"]["state"] == "DISARMED"
        assert first["status"]["state"] == "running"
        assert len(first["array"]["envelope_uv"]) == len(first["array"]["usable"]) == 96
        assert first["array"]["z"] == [None] * 96
        service.marked_late(0, 900)
        types = []
        while "late_marker" not in types:
            message = socket.receive_json()
            types.append(message["type"])
        assert (message["first_seq"], message["last_seq"]) == (0, 3)
