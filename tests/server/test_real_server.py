"""The service on a real port: bad clients disturb nobody, slow ones learn what they lost, and it ends at once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import threading
import time
import urllib.request

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import server.wiring
from models.errors import OperatorFault
from server.closed_loop import ClosedLoop
from server.service import Service
from server.settings import Settings
from server.tokens import Tokens
from server.wiring import listen, make_server
from tests.server.fakes import FakeBundles, FakeDecoder, FakeLive
from tests.server.seen import watched

WIDE = np.linspace(-1, 1, 768, dtype=np.float32)


class Running:
    def __init__(
        self,
        settings: Settings | None = None,
        loop: ClosedLoop | None = None,
        tokens: Tokens | None = None,
        get: bool = True,
        port: int = 0,
    ) -> None:
        self.live = FakeLive()
        self.service = Service(self.live, FakeDecoder(), settings or Settings(), FakeBundles(), loop=loop)
        self.live.sink = self.service.hand_over
        self.listener = listen("127.0.0.1", port)
        self.port = self.listener.getsockname()[1]
        self.server = make_server(self.service, self.port, tokens)
        self.server.config.app = watched(self.server.config.app)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})
        self.thread.start()
        if get:
            self.get("/healthz")

    def get(self, path: str):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)

    def socket(self, path: str = "/v1/predictions?fields=probability", **options):
        return connect(f"ws://127.0.0.1:{self.port}{path}", **options)

    def narrow(self) -> socket.socket:
        """A connection with room for little on the way."""
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", self.port))
        return one

    def raw(self, sent: bytes) -> socket.socket:
        one = self.narrow()
        one.settimeout(5)
        one.sendall(sent)
        return one

    def handshake(self, headers: str = "") -> socket.socket:
        one = self.raw(
            f"GET /v1/predictions HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{headers}"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert one.recv(12) == b"HTTP/1.1 101"
        return one

    def stop(self) -> float:
        began = time.perf_counter()
        self.server.should_exit = True
        self.thread.join(10)
        return time.perf_counter() - began

    def published(self, count: int) -> None:
        """Until the event loop has published so many."""
        while self.get("/v1/status")["next_seq"] < count:
            time.sleep(0.01)


@pytest.fixture
def patient(monkeypatch):
    """A client that reads late is no cable that was pulled, however long the machine takes for it."""
    monkeypatch.setattr(server.wiring, "PING_S", 60.0)


@pytest.fixture
def running(patient):
    one = Running()
    yield one
    one.stop()
    assert not one.thread.is_alive()


def test_bad_clients_disturb_nobody(running):
    good = running.socket()
    silent = running.handshake()  # never reads
    garbage = running.handshake()
    garbage.sendall(b"\xff\xfe not a frame at all" * 50)
    unmasked = running.handshake()
    unmasked.sendall(b"\x81\x05hello")
    huge = running.handshake()
    huge.sendall(b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00")
    halfway = running.handshake()
    halfway.sendall(b"\x81\xfe\x10")  # leaves in the middle of a frame's head
    halfway.close()
    http = [running.raw(b"GET /"), running.raw(b"\x00" * 500), running.raw(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 9000)]
    for seq in range(0, 1000, 50):
        running.live.say(50, embedding=WIDE)
        assert [json.loads(good.recv(timeout=10))["seq"] for _ in range(50)] == list(range(seq, seq + 50))
    assert running.get("/v1/status")["next_seq"] == 1000
    good.close()
    for one in (silent, garbage, unmasked, huge, *http):
        one.close()


def test_a_slow_client_is_told_what_it_lost_and_can_have_it(running):
    slow = running.socket("/v1/predictions", sock=running.narrow(), max_queue=1, compression=None)
    for _ in range(60):
        running.live.say(50, embedding=WIDE)
    total = running.live.said
    running.published(total)
    have, lost = -1, []
    while have < total - 1:
        message = json.loads(slow.recv(timeout=10))
        if message["type"] == "dropped":
            assert message["count"] == message["resume_seq"] - have - 1
            lost += range(have + 1, message["resume_seq"])
            have = message["resume_seq"] - 1
        else:
            assert message["seq"] == have + 1
            have += 1
    assert lost, "the client was never slow: the test shows nothing"
    assert running.get("/v1/status")["dropped"] == len(lost)
    answer = running.get(f"/v1/predictions?since_seq={lost[0] - 1}&limit=5")
    assert [one["seq"] for one in answer["predictions"]] == lost[:5]
    slow.close()


def test_a_client_that_reads_nothing_costs_a_bounded_buffer(running):
    silent = [running.handshake() for _ in range(4)]
    good = running.socket()
    for seq in range(0, 3000, 50):
        running.live.say(50, embedding=WIDE)
        assert [json.loads(good.recv(timeout=10))["seq"] for _ in range(50)] == list(range(seq, seq + 50))
    transports = [one for one in gc.get_objects() if issubclass(type(one), asyncio.Transport)]
    waiting = [one.get_write_buffer_size() for one in transports]
    assert sum(size > 0 for size in waiting) == len(silent), "nobody was slow: the test shows nothing"
    assert max(waiting) <= 256 * 1024
    good.close()
    for one in silent:
        one.close()


@pytest.mark.parametrize("said", [0, 500])  # with 500 its socket is full
def test_a_client_behind_a_cable_that_was_pulled_is_let_go(monkeypatch, said):
    monkeypatch.setattr(server.wiring, "PING_S", 1.0)
    running = Running()
    gone = running.handshake()  # it answers no ping
    assert running.get("/v1/status")["subscribers"] == 1
    running.live.say(said, embedding=WIDE)
    until = time.monotonic() + 10
    while running.get("/v1/status")["subscribers"]:
        assert time.monotonic() < until
        time.sleep(0.02)
    to_its_end(gone)
    running.stop()


def test_it_ends_at_once_whoever_listens(patient):
    running = Running()
    reader = running.socket(max_queue=None)  # reads whatever comes, at once
    silent = [running.handshake() for _ in range(3)]
    running.live.say(2000, embedding=WIDE)
    while json.loads(reader.recv(timeout=30)).get("seq") != 1999:  # only who has read what was said can be told why
        pass
    assert running.stop() < 3.0
    assert running.live.stopped == 1
    with contextlib.suppress(ConnectionClosed):
        while True:
            reader.recv(timeout=5)
    assert reader.close_code == 1012
    for one in silent:
        to_its_end(one)


def test_a_client_that_has_not_read_is_cut_off_at_the_end(patient):
    running = Running()
    slow = running.handshake()
    running.live.say(500, embedding=WIDE)
    running.published(500)
    assert running.stop() < 3.0
    to_its_end(slow)


def to_its_end(one: socket.socket) -> None:
    """Read a socket until the other side has closed it; a timeout if it does not."""
    with one, contextlib.suppress(ConnectionResetError):
        while one.recv(2**20):
            pass


def test_a_port_in_use_is_one_sentence():
    with listen("127.0.0.1", 0) as taken, pytest.raises(OperatorFault, match="--port"):
        listen("127.0.0.1", taken.getsockname()[1])
