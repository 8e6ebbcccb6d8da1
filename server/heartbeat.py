"""Whether the decode thread still moves, seen from the event loop.

Counted in looks, not in seconds: where the whole process stood still (a suspended machine, a stopped process) the loop
did not look either, and nobody is accused.
"""

from __future__ import annotations

from typing import Literal

LOOK_S = 0.05
NOTICED_S = 0.15  # and a look: within 0.2 s
DEAD_S = 1.0

Verdict = Literal["moves", "hangs", "dead"]


class Heartbeat:
    """`hop_s`: where windows are further apart than NOTICED_S, an inference may take as long as a hop."""

    def __init__(self, hop_s: float) -> None:
        self.noticed_s = max(NOTICED_S, hop_s)
        self._hangs, self._dead = (round(s / LOOK_S) for s in (self.noticed_s, self.noticed_s + DEAD_S - NOTICED_S))
        self._since: float | None = None
        self._looks = 0

    def look(self, busy_since: float | None) -> Verdict:
        """`busy_since`: when the decode thread began with the chunk that it is at, None while it waits for one."""
        self._looks = self._looks + 1 if busy_since is not None and busy_since == self._since else 0
        self._since = busy_since
        if self._looks >= self._dead:
            return "dead"
        return "hangs" if self._looks >= self._hangs else "moves"
