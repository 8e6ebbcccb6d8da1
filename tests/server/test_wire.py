"""The short way to a client: everything once and in order, nothing to a socket that is full, others in between."""

from __future__ import annotations

import asyncio
import json
import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

import server.wiring
from server.broadcast import History, Subscription
from server.wire import SEND_BYTES, TURN, Reader, framed
from tests.server.test_real_server import WIDE, Running


class FakeSocket:
    """Takes `room` frames, and then none until the test has emptied it."""

    def __init__(self, room=10**9):
        self.room, self.got, self.on_writable = room, [], None

    @property
    def full(self):
        return self.room <= 0

    def write(self, framed):
        assert not self.full
        self.room -= 1
        self.got.append(framed)

    def empty(self, room):
        self.room = room
        self.on_writable()


def reader(wire, frames, first=()):
    """One that is never up to date, so that everything goes through `due`."""
    left = list(frames)
    return Reader(wire, first, lambda: left.pop(0) if left else None, lambda seq: False, lambda seq: b""), left


@given(data=st.text(max_size=70_000) | st.binary(max_size=70_000))
def test_a_frame_is_what_a_client_reads(data):
    client = ClientProtocol(parse_uri("ws://127.0.0.1/"), state=State.OPEN, max_size=None)
    client.receive_data(framed(data))
    (frame,) = client.events_received()
    assert frame.opcode == (Opcode.TEXT if isinstance(data, str) else Opcode.BINARY)
    assert bytes(frame.data) == (data.encode() if isinstance(data, str) else data)


def test_what_comes_first_comes_first():
    async def run():
        wire = FakeSocket()
        one, _ = reader(wire, [b"c", b"d"], [b"a", b"b"])
        one.serve()
        return wire.got

    assert asyncio.run(run()) == [b"a", b"b", b"c", b"d"]


@given(rooms=st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_a_full_socket_is_left_alone_until_it_is_empty(rooms):
    async def run():
        wire = FakeSocket(rooms[0])
        one, left = reader(wire, range(500))
        one.serve()
        for room in rooms[1:]:
            one.serve()  # something new came meanwhile
            wire.empty(room)
        one.close()
        return wire, left

    wire, left = asyncio.run(run())
    assert wire.got == list(range(sum(rooms)))
    assert left == list(range(sum(rooms), 500))  # nothing is taken that is not written
    assert wire.on_writable is None


def test_who_catches_up_lets_others_come_between():
    async def run():
        slow, quick = FakeSocket(), FakeSocket()
        behind, _ = reader(slow, range(100))
        behind.serve()
        assert len(slow.got) == TURN
        reader(quick, [b"new"])[0].serve()
        assert quick.got
        while len(slow.got) < 100:
            await asyncio.sleep(0)
        behind.serve()
        behind.close()
        return slow.got

    assert asyncio.run(run()) == list(range(100))


@given(
    steps=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), max_size=40),
    since=st.none() | st.integers(-1, 5),
    max_hz=st.none() | st.sampled_from([20.0, 50.0]),
)
def test_the_short_way_gives_what_the_long_one_gives(steps, since, max_hz):
    """`news` beside a subscription that is asked for everything, whatever the socket takes."""

    async def run():
        history: History[int] = History(1e9, 30)
        short, long = (Subscription(history, 4, since, max_hz, lambda seq: seq * 0.01) for _ in range(2))

        wire, told = FakeSocket(3), []
        one = Reader(wire, (), short.take, short.take_newest, lambda seq: seq)

        def the_same_from_the_long_way(count):
            told.extend(long.take() for _ in range(count))
            assert wire.full or long.take() is None

        for pushes, room in steps:
            for _ in range(pushes):
                history.push(history.next_seq, history.next_seq, 0.0)
                before = len(wire.got)
                one.news(history.next_seq - 1)
                while one._again is not None:
                    await asyncio.sleep(0)
                the_same_from_the_long_way(len(wire.got) - before)
            before = len(wire.got)
            wire.empty(room)
            while one._again is not None:
                await asyncio.sleep(0)
            the_same_from_the_long_way(len(wire.got) - before)
        one.close()
        return wire.got, told

    got, told = asyncio.run(run())
    assert got == told


def test_closed_in_the_middle():
    async def run():
        wire = FakeSocket()
        one, _ = reader(wire, range(100))
        one.serve()
        one.close()
        await asyncio.sleep(0)
        return len(wire.got)

    assert asyncio.run(run()) == TURN


def test_a_client_that_does_not_read_costs_a_frame_and_what_it_reads_then_is_not_old(monkeypatch):
    monkeypatch.setattr(server.wiring, "PING_S", 60.0)  # a machine that is slow is no cable that was pulled
    running = Running()
    try:
        slow = running.socket(
            "/v1/predictions", sock=running.narrow(), max_queue=1, compression=None, close_timeout=0.1
        )
        for _ in range(40):
            running.live.say(50, embedding=WIDE)
        running.published(2000)
        (wire,) = (one for one in running.server.server_state.connections if hasattr(one, "on_writable"))
        frame = len(json.dumps([0.0] * 768)) * 3
        assert wire.full
        assert wire.transport.get_write_buffer_size() <= frame
        kernel = wire.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert kernel + frame <= 256 * 2**10
        assert kernel >= SEND_BYTES
        first = json.loads(slow.recv(timeout=10))
        assert first["seq"] == 0
        seqs = []
        while (message := json.loads(slow.recv(timeout=10)))["type"] == "prediction":
            seqs.append(message["seq"])
        assert len(seqs) * len(json.dumps(message)) < 2**20  # so many were on their way, no more
        assert message["count"] + message["resume_seq"] > 0
        slow.close()
    finally:
        running.stop()


def test_frames_are_the_same_for_all_and_events_too():
    running = Running()
    try:
        readers = [running.socket("/v1/predictions?fields=embedding&format=msgpack") for _ in range(3)]
        events = running.socket("/v1/events")
        running.live.say(40, embedding=np.ones(4, np.float32))
        heard = [[one.recv(timeout=10) for _ in range(40)] for one in readers]
        assert heard[0] == heard[1] == heard[2]
        numbers = [json.loads(events.recv(timeout=10))["event_seq"] for _ in range(6)]
        assert sorted(numbers) == numbers
        assert running.service.predictions.readers
        for one in (*readers, events):
            one.close()
    finally:
        running.stop()
    assert not running.service.predictions.readers
    assert not running.service.events.readers


def test_who_comes_behind_the_held_ones_gets_them_first():
    running = Running()
    try:
        running.live.say(3000)
        with running.socket("/v1/predictions?since_seq=-1&fields=probability") as behind:
            running.live.say(100)
            assert [json.loads(behind.recv(timeout=10))["seq"] for _ in range(3100)] == list(range(3100))
    finally:
        running.stop()


@pytest.mark.parametrize("status", [403, 400])
def test_a_refused_handshake_is_a_problem_still(status):
    running = Running()
    try:
        host = f"127.0.0.1:{running.port}" if status == 400 else "evil.example"
        one = running.raw(
            f"GET /v1/predictions?format=xml HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        said = b""
        while part := one.recv(4096):
            said += part
        assert said.startswith(b"HTTP/1.1 %d" % status)
        assert b"problem+json" in said
    finally:
        running.stop()
