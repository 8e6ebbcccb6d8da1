"""What the service says of itself, to anyone who watches: states and readiness by /v1/events, and by /metrics.

Each change is kept with its moment, so that it can be told how soon a fault was told.
"""

from __future__ import annotations

import json
import threading
import urllib.request
from contextlib import suppress
from typing import Any

from pylsl import local_clock

from models.errors import Fault, OperatorFault
from server.bench.client import Client
from server.bench.measure import memory_mib
from server.running import CUT_OFF, ask
from server.soak.supervised import Supervised

AGAIN_S = 0.05
SILENCE_S = 1.0  # the page greys out when it has heard nothing for so long
SCRAPE_S = 2.0
TRUE_WITHIN_S = 1.0
LOOKS = 5  # in that second: a single one may fall on the next pulse, and the metric is a tenth of a second old again


class Witness:
    """`told`: (moment, what, value) of each change of `ready`, `trigger`, `state` and `model`; ready is None where the
    service says nothing at all. `fired`: ids of triggers that were announced. `memory`: (moment, process, MiB).
    `contradictions`: metrics that said something else than the status beside them."""

    def __init__(self, port: int, service: Supervised) -> None:
        self._port, self._service = port, service
        self._now: dict[str, Any] = {}
        self.told: list[tuple[float, str, Any]] = []
        self.fired: list[tuple[float, str]] = []
        self.memory: list[tuple[float, int, float]] = []
        self.contradictions: list[str] = []
        self.scrapes = 0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._watch, self._scrape)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(2 * SCRAPE_S)

    def last(self, what: str) -> Any:
        return self._now.get(what)

    def _watch(self) -> None:
        url = f"ws://127.0.0.1:{self._port}/v1/events"
        while not self._ended.wait(AGAIN_S):
            with suppress(OSError, OperatorFault), Client(url, SILENCE_S) as client:
                while not self._ended.is_set():
                    self._hear(json.loads(client.receive()))
            self._note("ready", None)
            self._note("trigger", None)

    def _hear(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "status":
            self._note("ready", event["ready"])
            self._note("state", event["state"])
            self._note("model", event["model"])
        elif kind == "trigger_state":
            self._note("trigger", event["state"])
        elif kind == "trigger":
            self.fired.append((local_clock(), event["trigger_id"]))

    def _note(self, what: str, value: Any) -> None:
        if what not in self._now or self._now[what] != value:
            self._now[what] = value
            self.told.append((local_clock(), what, value))

    def _scrape(self) -> None:
        while not self._ended.wait(SCRAPE_S):
            if (pid := self._service.pid) is not None:
                self.memory.append((local_clock(), pid, memory_mib(pid)))
            with suppress(Fault, *CUT_OFF):
                self._compare()

    def _compare(self) -> None:
        """Metrics are a tenth of a second old; what differs for a whole second is not true."""
        found = self._contradiction()
        for _ in range(LOOKS):
            if not found or self._ended.wait(TRUE_WITHIN_S / LOOKS):
                return
            found = self._contradiction()
        if found:
            self.contradictions.append(found)

    def _contradiction(self) -> str:
        """The trigger's state by its metric, between two looks that agree."""
        before = ask(self._port, "GET", "/v1/trigger")["state"]
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        after = ask(self._port, "GET", "/v1/trigger")["state"]
        self.scrapes += 1
        states = [line for line in lines if line.startswith("phosphene_trigger_state{")]
        said = [line.split('"')[1] for line in states if line.endswith(" 1.0")]
        return "" if before != after or said == [before] else f"the metric says {said}, the status {before}"
