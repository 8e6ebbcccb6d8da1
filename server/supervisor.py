"""Tells systemd that we are ready, and ten times a second that the event loop turns; where it does not, the process is
ended and started again (`docker/phosphene.service`). Without systemd there is nobody to tell."""

from __future__ import annotations

import contextlib
import os
import socket


class Supervisor:
    """Speaks to the datagram socket that `NOTIFY_SOCKET` names, as sd_notify(3) says; never waits."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address  # @: an abstract name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if address else None

    def tell(self, state: str) -> None:
        """`READY=1`, `WATCHDOG=1` or `STOPPING=1`."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it is not there, or takes nothing: the next tick tells it again
                self._socket.sendto(state.encode(), self._address)
