"""Stimulation by a program on this machine or this network: `fire` is one datagram, the marker of the trigger stream.

Where it acknowledges, it answers each with {"trigger_id": "…", "ok": true}, or false with a "code". UDP may lose or
double a datagram: the receiver must take each trigger_id once. Arming and disarming are sent as state markers.
"""

from __future__ import annotations

import atexit
import ipaddress
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson
from pydantic import Field

from models.errors import OperatorFault, RigFault
from streaming.limits import Limits, Pattern
from streaming.stimulators.markers import state_marker
from streaming.stimulators.shots import Shots
from streaming.stimulators.stimulator import NotSent, Status, Steps

LARGEST_ANSWER = 2048
LOOK_S = 0.1


class UdpSettings(Steps):
    """Where the program listens. `host`: this machine or a private network, never the internet."""

    host: str
    port: int = Field(ge=1, le=65535)
    acknowledges: bool = True


class UdpStimulator:
    """A Stimulator. A thread of its own hears the answers, so that each has the time at which it came."""

    def __init__(self, settings: UdpSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.capabilities = settings.capabilities("udp", acknowledges=settings.acknowledges)
        self.malformed = 0  # answers that said nothing
        self._clock = clock
        self._shots = Shots(self.capabilities)
        self._lock = threading.RLock()
        self._socket = _connected(settings.host, settings.port)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="udp-answers", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def arm(self, limits: Limits) -> None:
        with self._lock:
            self._shots.arm(limits, self._clock())
            try:
                self._socket.send(state_marker("armed", limits.name).encode())
            except OSError as error:
                self._shots.disarm()
                raise RigFault(f"stimulator udp: cannot be told that it is armed ({error}); start it") from error

    def fire(self, pattern: Pattern, trigger_id: str, marker: str) -> None:
        with self._lock:
            self._shots.begin(pattern, trigger_id, self._clock())
            try:
                self._socket.send(marker.encode())
            except BlockingIOError as error:
                self._shots.withdraw()
                raise NotSent("stimulator udp: the network takes nothing now; nothing was sent") from error
            except OSError as error:  # of this datagram, or the news that an earlier one found nobody
                self._shots.fail(f"nobody takes datagrams ({error})", self._clock())
                raise RigFault(f"stimulator udp: nobody takes datagrams ({error}); start the program") from error
            self._shots.sent(self._clock())

    def status(self) -> Status:
        with self._lock:
            return self._shots.status(self._clock())

    def disarm(self) -> None:
        with self._lock:
            if self._shots.armed:
                self._shots.disarm()
                self._tell_disarmed()

    def close(self) -> None:
        atexit.unregister(self.close)
        self.disarm()
        self._stop.set()
        self._thread.join(1.0)
        with self._lock:
            self._shots.close()
            self._socket.close()

    def _tell_disarmed(self) -> None:
        try:
            self._socket.send(state_marker("disarmed", "the output was disarmed").encode())
        except OSError:
            return  # nobody is there to be told

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                if not select.select([self._socket], [], [], LOOK_S)[0]:
                    continue
                answer = self._socket.recv(LARGEST_ANSWER)
            except BlockingIOError:
                continue
            except (OSError, ValueError) as error:
                with self._lock:
                    if self._shots.armed:
                        self._shots.fail(f"nobody takes datagrams ({error})", self._clock())
                self._stop.wait(LOOK_S)
                continue
            self._heard(answer)

    def _heard(self, answer: bytes) -> None:
        """{"trigger_id": "…", "ok": true | false, "code": …}; anything else is counted."""
        try:
            found: Any = orjson.loads(answer)
            trigger_id, ok, code = found["trigger_id"], found["ok"], str(found.get("code", ""))[:100]
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            trigger_id, ok, code = None, None, ""
        with self._lock:
            if not isinstance(trigger_id, str) or not isinstance(ok, bool):
                self.malformed += 1
            elif self.capabilities.acknowledges:
                self._shots.answered(ok, self._clock(), trigger_id, code)


def _connected(host: str, port: int) -> socket.socket:
    """A socket that sends to `host` only, hears `host` only, and never waits."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError, OverflowError) as error:
        raise OperatorFault(f"udp:{host}:{port}: no such host or port ({error}); give HOST:PORT") from error
    if not ipaddress.ip_address(str(address[0]).split("%")[0]).is_private:
        raise OperatorFault(f"udp:{host}:{port}: found a public address, expected this machine or a private network")
    connection = socket.socket(family, kind, protocol)
    connection.setblocking(False)
    try:
        connection.connect(address)
    except OSError as error:
        connection.close()
        raise RigFault(f"udp:{host}:{port}: cannot be reached ({error}); check the network") from error
    return connection
