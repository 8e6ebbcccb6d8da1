"""Whoever stands by: arms whenever nothing forbids it, goes into shadow now and then, and clears what is latched."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from models.errors import Fault
from server.running import arm, ask

RENEW_S = 0.5
ARMED_S, SHADOW_S = 40.0, 8.0  # in turns
CLEARED_AS = "a fault of the soak's own making"


class Operator:
    """`armed`: how often; `cleared`: how many faults."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.armed = self.cleared = self.shadowed = 0
        self._lease, self._since = "", time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="operator", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Disarms."""
        self._ended.set()
        self._thread.join(5.0)
        with suppress(Fault):
            ask(self._port, "POST", "/v1/trigger/disarm", {"reason": "the soak is over"})

    def _run(self) -> None:
        while not self._ended.wait(RENEW_S):
            with suppress(Fault):  # not there, or not now: the next look tells
                self._look()

    def _look(self) -> None:
        trigger = ask(self._port, "GET", "/v1/trigger")
        state, passed_s = trigger["state"], time.monotonic() - self._since
        if state == "FAULT":
            ask(self._port, "POST", "/v1/trigger/clear", {"reason": CLEARED_AS})
            self.cleared += 1
        elif state == "DISARMED" and not trigger["problems"]:
            self._lease, self._since = arm(self._port), time.monotonic()
            self.armed += 1
        elif state == "SHADOW" and passed_s > SHADOW_S:
            ask(self._port, "POST", "/v1/trigger/disarm", {"reason": "enough of shadow"})
        elif state in ("ARMED", "REFRACTORY"):
            ask(self._port, "POST", "/v1/trigger/heartbeat", {"lease_token": self._lease})
            if passed_s > ARMED_S:
                ask(self._port, "POST", "/v1/trigger/disarm", {"reason": "shadow for a while"})
                ask(self._port, "POST", "/v1/trigger/shadow", {})
                self._since = time.monotonic()
                self.shadowed += 1
