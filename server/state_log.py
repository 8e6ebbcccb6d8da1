"""Tells the log what changed: the source, readiness, clients that were refused. What changes the trigger, the bundle or
the journal says so itself."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from streaming.live import LiveStatus

log = logging.getLogger("phosphene")
REFUSALS_S = 1.0  # at most one line in so long, however many knock


class StateLog:
    """Asked ten times a second; one line per change. `clock`: any steady clock in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._state = ""
        self._ready: bool | None = None
        self._refused = 0
        self._refused_told = float("-inf")

    def look(self, status: LiveStatus, not_ready: list[str]) -> None:
        """The source and whether all is ready; `not_ready` holds the reasons."""
        if status.state != self._state:
            stream = status.stream.name if status.stream else None
            fields = {"from": self._state or None, "to": status.state, "stream": stream, "problem": status.problem}
            self._state = status.state
            because = f": {status.problem}" if status.problem else ""
            log.info("source %s%s", status.state, because, extra={"event": "source", "fields": fields})
        if (ready := not not_ready) != self._ready:
            self._ready = ready
            told = {"event": "readiness", "fields": {"ready": ready, "reasons": not_ready}}
            if ready:
                log.info("ready", extra=told)
            else:
                log.warning("not ready: %s", "; ".join(not_ready), extra=told)

    def refused(self, refusals: Counter[int], newest: str) -> None:
        """Clients that were not let in: how many by the status of the answer, and what the newest was told."""
        count = refusals.total() - self._refused
        if not count or self._clock() - self._refused_told < REFUSALS_S:
            return
        self._refused, self._refused_told = refusals.total(), self._clock()
        fields = {"count": count, "so_far": {str(status): n for status, n in refusals.items()}, "newest": newest}
        log.warning("%d clients refused; %s", count, newest, extra={"event": "refused", "fields": fields})
