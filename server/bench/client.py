"""A lean WebSocket client: one blocking socket, so that what the bench measures is the service and not its client.

An event loop of its own between the socket and the frame costs a client a tenth of a millisecond here; a rig in a
compiled language does not have it either. The protocol is that of the `websockets` library, without its input/output.
"""

from __future__ import annotations

import socket
from types import TracebackType

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from models.errors import OperatorFault

READ_BYTES = 1 << 16


class Client:
    """`receive` blocks until the next message is whole. A context manager.

    Raises:
        OperatorFault: the service refused the connection.
    """

    def __init__(self, url: str, timeout_s: float = 10.0, receive_bytes: int | None = None) -> None:
        uri = parse_uri(url)
        self.socket = socket.socket()
        if receive_bytes is not None:  # of the kernel's buffer; before the connection, which tells the other side
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(timeout_s)
        self.socket.connect((uri.host, uri.port))
        self._protocol = ClientProtocol(uri, max_size=None)
        self._protocol.send_request(self._protocol.connect())
        self._messages: list[bytes] = []
        self._answered = False
        while not self._answered:
            self._read()
        if self._protocol.handshake_exc is not None:
            raise OperatorFault(f"{url}: {self._protocol.handshake_exc}")

    def receive(self) -> bytes:
        """The payload of the next text or binary message."""
        while not self._messages:
            self._read()
        return self._messages.pop(0)

    def skip(self) -> None:
        """Read what is there, answer what must be answered, and forget the rest."""
        self._read()
        self._messages.clear()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def _read(self) -> None:
        self._send()
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise OperatorFault("the service closed the connection")
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._answered = True
            elif isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
                self._messages.append(bytes(event.data))
        self._send()  # an answer to a ping

    def _send(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.socket.sendall(data)
