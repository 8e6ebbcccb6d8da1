"""Tells the log what changed: the source, readiness, clients that were refused. What changes the trigger, the bundle or
the journal says so itself."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from streaming.live_status import LiveStatus

REFUSALS_S = 1.0  # at most one line in so long, however many knock
HOLDS_S = 1.0  # ready is told once it has been so for so long: at a limit it would go back and forth


class StateLog:
    """Asked ten times a second; one line per change. `clock`: any steady clock in seconds; `log`: whose lines."""

    def __init__(self, clock: Callable[[], float], log: logging.Logger) -> None:
        self._clock, self._log = clock, log
        self._state = ""
        self._ready: bool | None = None
        self._not_ready_at = float("-inf")
        self._refused = 0
        self._refused_told = float("-inf")

    def look(self, status: LiveStatus, not_ready: list[str]) -> None:
        """The source and whether all is ready; `not_ready` holds the reasons."""
        if status.state != self._state:
            stream = status.stream.name if status.stream else None
            fields = {"from": self._state or None, "to": status.state, "stream": stream, "problem": status.problem}
            self._state = status.state
            because = f": {status.problem}" if status.problem else ""
            self._log.info("source %s%s", status.state, because, extra={"event": "source", "fields": fields})
        now = self._clock()
        if not_ready:
            self._not_ready_at = now
            if self._ready is not False:
                self._ready = False
                told = {"event": "readiness", "fields": {"ready": False, "reasons": not_ready}}
                self._log.warning("not ready: %s", "; ".join(not_ready), extra=told)
        elif not self._ready and now - self._not_ready_at >= HOLDS_S:
            self._ready = True
            self._log.info("ready", extra={"event": "readiness", "fields": {"ready": True, "reasons": []}})

    def refused(self, refusals: Counter[int], newest: str) -> None:
        """Clients that were not let in: how many by the status of the answer, and what the newest was told."""
        count = refusals.total() - self._refused
        if not count or self._clock() - self._refused_told < REFUSALS_S:
            return
        self._refused, self._refused_told = refusals.total(), self._clock()
        fields = {"count": count, "so_far": {str(status): n for status, n in refusals.items()}, "newest": newest}
        self._log.warning("%d clients refused; %s", count, newest, extra={"event": "refused", "fields": fields})
