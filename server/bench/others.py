"""Clients that only read, in a process of their own: `python -m server.bench.others URL COUNT`.

On a rig they are other programs, and do not share an interpreter with the one that is timed.
"""

from __future__ import annotations

import selectors
import sys
from contextlib import ExitStack

from models.errors import OperatorFault
from server.bench.client import Client


def read(url: str, count: int) -> None:
    """Until the service ends; a line on standard output says when all are connected."""
    with ExitStack() as stack, selectors.DefaultSelector() as ready:
        for _ in range(count):
            client = stack.enter_context(Client(url))
            ready.register(client.socket, selectors.EVENT_READ, client)
        print("connected", flush=True)
        while True:
            for key, _ in ready.select():
                key.data.skip()


if __name__ == "__main__":
    try:
        read(sys.argv[1], int(sys.argv[2]))
    except (OSError, OperatorFault) as fault:
        sys.exit(str(fault))
