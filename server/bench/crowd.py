"""Many subscribers in a process of their own, which reads what comes and looks at nothing but the pings.

`slow` of them subscribe to everything and read nothing, until a line comes on standard input; then each reads on, and
prints how many messages it is told that it missed.
"""

from __future__ import annotations

import selectors
import sys
import threading

import msgpack
from websockets.frames import Frame, Opcode

from server.bench.client import Client

PING = b"\x89\x04"  # of four bytes; no JSON holds the first of them
QUICK = "fields=probability"
SLOW = "format=msgpack"


def crowd(port: int, quick: int, slow: int) -> None:
    """Until killed; says "ready" when all are there."""
    url = f"ws://127.0.0.1:{port}/v1/predictions?"
    selector = selectors.DefaultSelector()
    for _ in range(quick):
        selector.register(Client(url + QUICK).socket, selectors.EVENT_READ)
    sleepers = [Client(url + SLOW, receive_bytes=4096) for _ in range(slow)]
    print("ready", *(one.socket.getsockname()[1] for one in sleepers), flush=True)
    threading.Thread(target=_wake, args=(sleepers,), daemon=True).start()
    while True:
        for key, _ in selector.select():
            data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
            if not data:
                selector.unregister(key.fileobj)
            elif (at := data.find(PING)) >= 0:
                pong = Frame(Opcode.PONG, data[at + 2 : at + 6]).serialize(mask=True)
                key.fileobj.sendall(pong)  # type: ignore[union-attr]


def _wake(sleepers: list[Client]) -> None:
    sys.stdin.readline()
    for one in sleepers:
        while (message := msgpack.unpackb(one.receive()))["type"] != "dropped":
            pass
        print(message["count"], flush=True)


if __name__ == "__main__":
    crowd(*(int(argument) for argument in sys.argv[1:]))
