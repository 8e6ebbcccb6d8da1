"""The origin guard, on HTTP and WebSockets: the whole matrix of who may pass."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse

from server.app import create_app
from server.service import Service
from server.settings import Settings
from tests.server.fakes import FakeBundles, FakeDecoder, FakeLive
from tests.server.seen import watched

OURS = [None, "http://127.0.0.1:8000", "http://localhost:8000"]
FOREIGN = [
    "null",
    "",
    "http://evil.example",
    "https://127.0.0.1:8000",
    "http://127.0.0.1:8001",
    "http://127.0.0.1",
    "http://127.0.0.1:8000.evil.example",
    "http://evil.example/http://127.0.0.1:8000",
    "http://127.0.0.1:80001",
    "http://127.0.0.2:8000",
    "file://",
]
HOSTS = ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000"]
FOREIGN_HOSTS = ["", "evil.example", "evil.example:8000", "127.0.0.1", "127.0.0.1:8001", "localhost.evil.example:8000"]
CHANGES = [
    ("PUT", "/v1/channels"),
    *(("POST", f"/v1/models/{word}") for word in ("fake/activate", "rollback", "drop")),
    ("PUT", "/v1/trigger"),
    *(("POST", f"/v1/trigger/{word}") for word in ("arm", "confirm", "heartbeat", "shadow", "clear", "preview")),
]
DISARM = ("POST", "/v1/trigger/disarm")
CONTROLS = [*CHANGES, DISARM, ("POST", "/v1/decode")]


@pytest.fixture(scope="module")
def client():
    app = watched(create_app(Service(FakeLive(), FakeDecoder(), Settings(), FakeBundles()), 8000))
    with TestClient(app, base_url="http://127.0.0.1:8000") as one:
        yield one


def headers(origin, host="127.0.0.1:8000"):
    return {"host": host} | ({} if origin is None else {"origin": origin})


@pytest.mark.parametrize("origin", OURS)
@pytest.mark.parametrize("host", HOSTS)
def test_ours_pass(client, origin, host):
    assert client.get("/healthz", headers=headers(origin, host)).status_code == 200
    with client.websocket_connect("/v1/events", headers=headers(origin, host)):
        pass


@pytest.mark.parametrize("origin", FOREIGN)
def test_foreign_origins_do_not(client, origin):
    for method, path in CONTROLS:
        assert client.request(method, path, json={}, headers=headers(origin)).status_code == 403
    assert client.get("/v1/status", headers=headers(origin)).status_code == 403
    for path in ("/v1/predictions", "/v1/events"):
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect(path, headers=headers(origin)):
            pass
        assert denied.value.status_code == 403


def test_a_control_needs_an_origin_and_stopping_needs_none(client):
    for method, path in CHANGES:
        assert client.request(method, path, json={}, headers=headers(None)).status_code == 403
        assert client.request(method, path, json={}, headers=headers(OURS[1])).status_code != 403
    assert client.request(*DISARM, json={}, headers=headers(None)).json()["state"] == "DISARMED"
    stopped = client.request(*DISARM, json={"stop": True}, headers=headers(None))
    assert stopped.json()["state"] == "FAULT"
    cleared = client.post("/v1/trigger/clear", json={"reason": "a test"}, headers=headers(OURS[2]))
    assert cleared.json()["state"] == "DISARMED"


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_foreign_hosts_do_not(client, host):
    for method, path in [*CONTROLS, ("GET", "/"), ("GET", "/v1/status")]:
        assert client.request(method, path, headers=headers(None, host)).status_code == 403
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect("/v1/predictions", headers=headers(None, host)),
    ):
        pass
    assert denied.value.status_code == 403


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_foreign_form_could_send_is_no_control(client, media_type):
    for method, path in CONTROLS:
        sent = {"origin": OURS[1]} | ({} if media_type is None else {"content-type": media_type})
        assert client.request(method, path, content=b"{}", headers=sent).status_code == 415
