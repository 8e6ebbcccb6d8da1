"""Clients that nobody wants: one byte a second, none at all, in and out, garbage. Each must cost the others nothing."""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import ExitStack, suppress

from models.errors import OperatorFault
from server.bench.client import Client

TIMEOUT_S = 2.0
SMALL_BYTES = 4096  # of a receive buffer, so that little fits on the way
UPGRADE = (
    "GET /v1/predictions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
HALF_FRAMES = (b"\x81\xfe\x10", b"\x81\x05hello", b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff", b"\xff\xfe" * 200)


def drip(port: int, ended: threading.Event) -> None:
    """One byte a second, again and again, until `ended`."""
    while not ended.wait(1.0):
        with suppress(OSError), _handshake(port) as one:
            while not ended.wait(1.0):
                if not one.recv(1):
                    break


def silence(port: int, seconds: float, clients: int = 16) -> None:
    """Clients that connect and never read: the far end of a cable that was pulled."""
    with ExitStack() as stack:
        for _ in range(clients):
            with suppress(OSError):
                stack.enter_context(_handshake(port))
        time.sleep(seconds)


def come_and_go(port: int, seconds: float, draw: random.Random, most: int = 500) -> int:
    """Subscribers that stay for a moment; beyond the service's limit they are refused. Returns how many came."""
    until, came = time.monotonic() + seconds, 0
    while time.monotonic() < until and came < most:
        with ExitStack() as stack:
            for _ in range(draw.randrange(1, 12)):
                came += 1
                with suppress(OSError, OperatorFault):
                    stack.enter_context(Client(f"ws://127.0.0.1:{port}/v1/predictions?fields=probability", TIMEOUT_S))
            time.sleep(draw.uniform(0, 0.1))
    return came


def garbage(port: int, seconds: float, draw: random.Random) -> int:
    """Bytes that are no HTTP, heads that never end, frames that are none. Returns how many connections."""
    until, sent = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        with suppress(OSError), _connection(port) as one:
            sent += 1
            kind = draw.randrange(4)
            if kind == 0:
                one.sendall(draw.randbytes(draw.randrange(1, 4000)))
            elif kind == 1:
                one.sendall(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * draw.randrange(1, 9000))
            elif kind == 2:
                one.sendall(
                    b"POST /v1/decode HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 999999999\r\n\r\n" + b"x" * 1000
                )
            else:
                one.sendall(UPGRADE.format(port=port).encode())
                one.recv(300)
                one.sendall(draw.choice(HALF_FRAMES))
        time.sleep(draw.uniform(0, 0.02))
    return sent


def _connection(port: int) -> socket.socket:
    one = socket.socket()
    one.settimeout(TIMEOUT_S)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BYTES)
    try:
        one.connect(("127.0.0.1", port))
    except OSError:
        one.close()
        raise
    return one


def _handshake(port: int) -> socket.socket:
    """A subscriber of full frames that has read nothing yet but the server's yes."""
    one = _connection(port)
    one.sendall(UPGRADE.format(port=port).encode())
    return one
