"""Trigger ids of one run. Pure.

An id is reserved before it can be taken: a block at a time, in a row that is on the disk by then. So whatever a killed
process did with its ids, the next one finds them, and counts as delivered what was not accounted for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from server.journal.rows import Entry

BLOCK = 8


class Reservations:
    """`take` is for any thread, the rest for the one that writes.

    Nothing is reserved before the first limits are known: without any nothing can be asked for, and an engine that was
    never near to stimulating costs the participant's day nothing when it is killed.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._free: deque[str] = deque()
        self._unused: list[str] = []
        self._open: dict[str, None] = {}  # reserved, and not accounted for
        self._numbered = 0
        self._largest_uc: float | None = None

    def take(self) -> str | None:
        """The next id, in order; None where none is left. Never waits."""
        try:
            return self._free.popleft()
        except IndexError:
            return None

    def following(self) -> str | None:
        """The id that `take` would give now."""
        try:
            return self._free[0]
        except IndexError:
            return None

    def left(self) -> int:
        return len(self._free)

    def due(self) -> dict[str, object] | None:
        """Fields of the `reserved` row that is to be written next; None while more than half a block is left."""
        if self._largest_uc is None or len(self._free) > BLOCK // 2:
            return None
        ids = [f"{self._run_id}-{self._numbered + i}" for i in range(1, BLOCK + 1)]
        return {"ids": ids, "largest_train_uc": self._largest_uc}

    def durable(self, entries: Iterable[Entry]) -> None:
        """These entries have reached the disk, in this order."""
        for entry in entries:
            fields: Mapping[str, Any] = entry.fields
            if entry.kind == "reserved":
                self._numbered += len(fields["ids"])
                self._open.update(dict.fromkeys(fields["ids"]))
                self._free.extend(fields["ids"])
            elif entry.kind == "limits" and "largest_train_uc" in fields:
                self._largest_uc = max(self._largest_uc or 0.0, fields["largest_train_uc"])
            elif entry.kind in ("outcome", "would_fire"):
                self._open.pop(str(fields.get("trigger_id")), None)

    def end(self) -> tuple[list[str], list[str]]:
        """The ids that were never taken, and those that were and are not accounted for. None can be taken any more."""
        while (left := self.take()) is not None:
            self._unused.append(left)
        return self._unused, [trigger_id for trigger_id in self._open if trigger_id not in self._unused]
