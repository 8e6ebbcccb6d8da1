"""The short way to a client: one loop that writes a frame, made once, to every socket that takes it.

Through ASGI each message of each client wakes a task and is framed anew: 20 µs a send, 100 subscribers at 100 frames a
second a fifth of a core (docs/decisions/fan-out.md). A server's frames are not masked, so they are the same bytes for
all: here they are framed once and handed to each transport. `Wire` is uvicorn's WebSocket, which shows itself to the
application; where another server runs it, everything goes through ASGI as before.

A socket that does not take what it is given is left alone until it is empty again. So a client that does not read costs
the service one frame, and the kernel what SEND_BYTES allows: what it then reads is not older than that. To close such a
socket would be to wait, for ever, until it is empty: where it has to end, it is cut off.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode

EXTENSION = "phosphene.wire"
SEND_BYTES = 64 * 2**10  # Linux doubles it for its own bookkeeping
TURN = 16  # frames to one client before others come
LEAVES_S = 0.5  # for the client to read what waits, and with it why this is the end


class Wire(WebSocketsSansIOProtocol):
    """`on_writable` is called when a socket that was full is empty again."""

    on_writable: Callable[[], None] | None = None
    _waits = False  # for the socket to take what was written

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # full as soon as more than a byte waits; at 0 a transport over TLS calls itself full while nothing does (3.11)
        self.transport.set_write_buffer_limits(high=1, low=0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)

    def handle_connect(self, event: object) -> None:
        super().handle_connect(event)  # type: ignore[arg-type]
        if hasattr(self, "scope"):  # a handshake that was refused has none
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]

    def pause_writing(self) -> None:
        super().pause_writing()
        self._waits = True

    def resume_writing(self) -> None:
        super().resume_writing()
        self._waits = False
        if self.on_writable is not None:
            self.on_writable()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()  # nothing where it is closed already

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self.loop.call_later(LEAVES_S, self.cut_off)

    def cut_off(self) -> None:
        """End it now if something waits for the client to read."""
        if self._waits:
            self.transport.abort()

    @property
    def full(self) -> bool:
        """Whether it takes nothing now: something waits to be sent, or it is closing."""
        return self._waits or self.close_sent or self.transport.is_closing()

    def write(self, framed: bytes) -> None:
        """One whole frame; ask `full` first."""
        self.transport.write(framed)


class Socket(Protocol):
    """What a `Reader` needs of a `Wire`."""

    on_writable: Callable[[], None] | None

    @property
    def full(self) -> bool: ...

    def write(self, framed: bytes) -> None: ...


class Reader:
    """One client on the short way.

    Args:
        first: what it gets before anything else, as frames.
        due: the next frame that it should get, or None.
        newest: whether the item that has just come is what it gets next, which is then taken; see `Subscription`.
        frame_of: its frame.
    """

    def __init__(
        self,
        wire: Socket,
        first: Iterable[bytes],
        due: Callable[[], bytes | None],
        newest: Callable[[int], bool],
        frame_of: Callable[[int], bytes],
    ) -> None:
        self._wire, self._first = wire, deque(first)
        self._due, self._newest, self._frame_of = due, newest, frame_of
        self._again: asyncio.Handle | None = None
        wire.on_writable = self.serve

    def news(self, seq: int) -> None:
        """`seq` has just come."""
        wire = self._wire
        if wire.full:
            return  # it calls when it is empty
        if self._first or not self._newest(seq):
            self.serve()
        else:
            wire.write(self._frame_of(seq))

    def serve(self) -> None:
        """Write what is due, as far as the socket takes it."""
        wire = self._wire
        for _ in range(TURN):
            if wire.full:
                return  # it calls when it is empty
            framed = self._first.popleft() if self._first else self._due()
            if framed is None:
                return
            wire.write(framed)
        if self._again is None:
            self._again = asyncio.get_running_loop().call_soon(self._go_on)

    def close(self) -> None:
        self._wire.on_writable = None
        if self._again is not None:
            self._again.cancel()

    def _go_on(self) -> None:
        self._again = None
        self.serve()


def framed(data: str | bytes) -> bytes:
    """One message as the bytes of a WebSocket frame from a server."""
    opcode, payload = (Opcode.TEXT, data.encode()) if isinstance(data, str) else (Opcode.BINARY, data)
    return Frame(opcode, payload).serialize(mask=False)
