"""Whatever is sent, by whomever: no exception that nobody expected, and never a 500.

Requests are made by schemathesis from the service's own OpenAPI document, right ones and wrong ones; each is sent by
nobody, a viewer, an operator and an admin, and to a service that asks for no token. WebSockets get bytes.
"""

from __future__ import annotations

import io
import json
import logging
import socket
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from starlette.testclient import TestClient

from server import permission
from server.app import create_app
from server.closed_loop import open_loop
from server.roles import NEEDS, needed
from server.service import Service
from server.settings import Settings
from server.tokens import ROLES, Tokens, add_token
from tests.server.fakes import BINS, CHANNELS, FakeBundles, FakeDecoder, FakeLive
from tests.server.test_control import DECODING, LIMITS
from tests.server.test_real_server import Running

BASE = "http://127.0.0.1:8000"
QUICK = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
DOCUMENT = create_app(Service(FakeLive(), FakeDecoder(), Settings(), FakeBundles()), 8000).openapi()
LISTED = [found.ok() for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()]
OPERATIONS = {f"{operation.method.upper()} {operation.path}": operation for operation in LISTED}


class Everybody:
    """Two services that could be armed, one that asks for tokens and one that does not, and who speaks to them."""

    def __init__(self, folder: Path) -> None:
        file = folder / "tokens.json"
        self.headers: dict[str, dict[str, str]] = {"nobody": {}}
        self.headers |= {role: {"authorization": f"Bearer {add_token(file, role, role)}"} for role in ROLES}
        self.open, self.asking = (self._client(folder, tokens) for tokens in (None, Tokens(file)))

    def _client(self, folder: Path, tokens: Tokens | None) -> TestClient:
        limits, live = folder / "limits.toml", FakeLive()
        limits.write_text(LIMITS)
        journal = folder / f"{'open' if tokens is None else 'asking'}.journal"
        chosen = Settings(limits=limits, journal=journal, stimulator="simulated")
        loop = open_loop(chosen)
        service = Service(live, FakeDecoder(), chosen, FakeBundles(), loop=loop)
        live.sink = service.hand_over
        loop.gate.decoding(DECODING)
        live.say(3)
        return TestClient(create_app(service, 8000, tokens), base_url=BASE, headers={"origin": BASE})

    def send(self, method: str, path: str, **request: Any) -> None:
        """By everybody; an exception of the service's is raised here."""
        for who, headers in [("open", {}), *self.headers.items()]:
            client = self.open if who == "open" else self.asking
            sent = {**request, "headers": {**request.get("headers", {}), **headers}}
            try:
                answer = client.request(method, path, follow_redirects=False, **sent)
            except (httpx.InvalidURL, UnicodeEncodeError):
                return  # it never left the client
            told = f"{who}: {method} {path} {request}: {answer.status_code} {answer.text[:200]}"
            assert answer.status_code < 500 or answer.status_code == 503, told
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json", told
            need = needed(method, answer.request.url.path)
            if who == "nobody" and need not in ("anyone", None) and path != "/":
                assert answer.status_code in (401, 403, 413, 415), told


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(permission, "CONTROLS_AT_ONCE", 10**9)
        one = Everybody(tmp_path_factory.mktemp("everybody"))
        with one.open, one.asking:
            yield one


def test_the_document_has_every_route_that_takes_something() -> None:
    silent = {"GET /", "GET /login", "GET /page/{name:path}", "GET /arrays/{name}", "GET /openapi.json"}
    assert {f"{method} {path}" for method, path in NEEDS if method != "WEBSOCKET"} - silent == set(OPERATIONS)


def takes_something(name: str) -> bool:
    """Of a path without a query and a body nothing wrong can be asked."""
    operation = OPERATIONS[name]
    return bool(operation.body or operation.query)


ASKED = [(name, GenerationMode.POSITIVE) for name in OPERATIONS]
ASKED += [(name, GenerationMode.NEGATIVE) for name in OPERATIONS if takes_something(name)]


@pytest.mark.parametrize(("name", "mode"), ASKED)
def test_every_operation_by_everybody(everybody: Everybody, name: str, mode: GenerationMode) -> None:
    @settings(QUICK, max_examples=12 if takes_something(name) else 3)
    @given(OPERATIONS[name].as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        made = case.as_transport_kwargs(base_url=BASE)
        headers = {"content-type": "application/json"} | {key.lower(): made["headers"][key] for key in made["headers"]}
        body = {"json": made["json"]} if "json" in made else {"content": made.get("data")}
        everybody.send(made["method"], made["url"].removeprefix(BASE), params=made["params"], headers=headers, **body)

    send()


# "\ud800" is half a character: JSON can say it, UTF-8 cannot
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v1/trigger", r'{"\ud800": 1}'),
        ("PUT", "/v1/trigger", r'{"plan": {"arms": ["\ud800"], "trials_per_arm": 1}}'),
        ("POST", "/v1/trigger/disarm", r'{"reason": "\ud800"}'),
        ("POST", "/v1/trigger/clear", r'{"reason": "\ud800"}'),
        ("POST", "/v1/login", r'{"token": "\ud800"}'),
        ("POST", "/v1/models/%ED%A0%80/activate", "{}"),
        ("POST", "/v1/models/fake%00/activate", "{}"),
        ("POST", "/v1/models/..%2F..%2Fetc/activate", "{}"),
        ("POST", "/v1/models/fake@1e400/activate", '{"shadow_s": 1e400}'),
        ("PUT", "/v1/channels", '{"masked": [' + "9" * 5000 + "]}"),
        ("PUT", "/v1/channels", "[" * 30_000),
        ("PUT", "/v1/channels", '{"masked":' * 6000),
        ("POST", "/v1/decode", "[" * 100_000),
        ("POST", "/v1/decode", '{"windows": [[[1e999]]]}'),
        ("POST", "/v1/decode", '{"windows": ' + "9" * 5000 + "}"),
        ("POST", "/v1/decode?probe=%FF", "{}"),
        ("PUT", "/v1/channels", "\ufeff{}"),
    ],
)
def test_the_worst_of_them(everybody: Everybody, method: str, path: str, body: str) -> None:
    everybody.send(method, path, content=body.encode(), headers={"content-type": "application/json"})


def test_paths_that_nobody_wrote(everybody: Everybody) -> None:
    @settings(QUICK, max_examples=40)
    @given(st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "TRACE", "QUX"]), st.binary(max_size=20))
    def send(method: str, tail: bytes) -> None:
        quoted = "".join(f"%{byte:02X}" for byte in tail)
        everybody.send(method, f"/v1/{quoted}", content=b"{}", headers={"content-type": "application/json"})
        everybody.send(method, f"/page/{quoted}")

    send()


def test_windows_with_any_harm(everybody: Everybody) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((1, CHANNELS, BINS), np.float32))
    head = buffer.getvalue()[:300]

    @settings(QUICK, max_examples=60)
    @given(st.integers(0, 200), st.binary(max_size=6), st.integers(0, 40))
    def harm(at: int, put: bytes, cut: int) -> None:
        content = head[:at] + put + head[at + cut :]
        everybody.send("POST", "/v1/decode", content=content, headers={"content-type": "application/x-npy"})

    harm()


# WebSockets ----------------------------------------------------------------------------------------------------------


def frame(opcode: int, payload: bytes, head: int, masked: bool, claimed: int | None) -> bytes:
    """A frame as a client might send it: `head` are FIN and the reserved bits, `claimed` another length than it has."""
    size = len(payload) if claimed is None else claimed
    length = (
        bytes([size])
        if size < 126
        else b"\x7e" + size.to_bytes(2, "big")
        if size < 2**16
        else b"\x7f" + size.to_bytes(8, "big")
    )
    first = bytes([head << 4 | opcode, length[0] | (0x80 if masked else 0)]) + length[1:]
    return first + (b"\0\0\0\0" if masked else b"") + payload


FRAMES = st.builds(
    frame,
    st.integers(0, 15),
    st.binary(max_size=140),
    st.sampled_from([8, 0]) | st.integers(0, 15),
    st.just(True) | st.booleans(),
    st.none() | st.integers(0, 2**63),
)
HANDSHAKES = st.tuples(
    st.sampled_from([b"/v1/predictions", b"/v1/events", b"/"])
    | st.binary(max_size=30).map(lambda tail: b"/v1/" + tail),
    st.sampled_from([b"", b"?format=json", b"?max_hz=1e999", b"?since_seq=-1"])
    | st.binary(max_size=30).map(lambda tail: b"?" + tail),
    st.sampled_from([b"13", b"", b"\xff", b"8, 13"]),
    st.sampled_from([b"dGhlIHNhbXBsZSBub25jZQ==", b"", b"short", b"\xff" * 30]),
    st.sampled_from(
        [
            b"",
            b"Authorization: Bearer \xff\xfe\r\n",
            b"Cookie: a=b; \xff=\x01; phosphene\r\n",
            b"Sec-WebSocket-Protocol: \xff\r\n",
        ]
    ),
)


def heard(port: int, sent: bytes, then: bytes = b"") -> bytes:
    """What comes back at once."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as one:
        one.sendall(sent)
        got = one.recv(4096)
        if then and got.startswith(b"HTTP/1.1 101"):
            one.sendall(then)
        return got


def test_anything_on_a_websocket(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    token = add_token(tmp_path / "tokens.json", "rig", "viewer")
    runs = [Running(), Running(tokens=Tokens(tmp_path / "tokens.json"))]
    good = runs[0].socket()
    caplog.set_level(logging.WARNING)

    @settings(QUICK, max_examples=100)
    @given(HANDSHAKES, st.lists(FRAMES, max_size=4) | st.lists(st.binary(max_size=60), max_size=2), st.booleans())
    def send(handshake: tuple[bytes, ...], frames: list[bytes], asking: bool) -> None:
        path, query, version, key, more = handshake
        one = runs[asking]
        if asking and not more:
            more = b"Authorization: Bearer %s\r\n" % token.encode()
        request = (
            b"GET %s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: %s\r\nSec-WebSocket-Key: %s\r\n%s\r\n"
        ) % (path, query, one.port, version, key, more)
        try:
            answer = heard(one.port, request, b"".join(frames))
        except (ConnectionError, TimeoutError):  # it hung up, or waits for the rest of a request that was none
            return
        assert b" 500 " not in answer.split(b"\r\n")[0], request

    send()
    runs[0].live.say(1)
    assert json.loads(good.recv(timeout=5))["type"] == "prediction"
    good.close()
    for one in runs:
        assert one.stop() < 5
    unexpected = [r.getMessage() for r in caplog.records if r.exc_info or r.name.startswith("asyncio")]
    assert [said for said in unexpected if "Invalid UTF-8" not in said] == []
