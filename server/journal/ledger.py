"""What may have been delivered, read from the journal's rows. Pure.

Budgets must hold across restarts, so they begin with what earlier runs delivered. Every doubt counts as delivered: an
id that was reserved and never accounted for, a pulse whose outcome nobody knows, and at its worst, the largest train of
the limits of its run, where nobody knows which pattern it was. The day is the last 24 hours and not the calendar's: two
budgets cannot meet at midnight, and no time zone or summer time moves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from server.journal.rows import Entry, Row

DAY_S = 24 * 3600.0
MINUTE_S = 60.0
NOT_DELIVERED = ("refused", "not_fired")  # any other result counts as delivered


@dataclass(frozen=True, slots=True)
class Ledger:
    """What budgets begin with, as it stood at wall-clock time `at_s`.

    `charge_today_uc` is by electrode (1-based), in microcoulombs of the last 24 hours. `charge_unknown_uc` may have
    gone through any electrode, so it counts against each. `recent_s` are the wall-clock times, oldest first and none
    after `at_s`, of the stimulations of the last minute; each id in doubt and each unclean end counts as one.
    """

    at_s: float
    charge_today_uc: Mapping[int, float]
    charge_unknown_uc: float
    recent_s: tuple[float, ...]

    def day_uc(self, electrodes: Iterable[int]) -> dict[int, float]:
        """What each of these electrodes has had today."""
        return {e: self.charge_today_uc.get(e, 0.0) + self.charge_unknown_uc for e in electrodes}

    def ages_s(self) -> tuple[float, ...]:
        """How long before `at_s` the recent stimulations were, the latest last."""
        return tuple(self.at_s - time for time in self.recent_s)


class Delivery(NamedTuple):
    """One train; electrode None: it may have been any."""

    t_wall: float
    electrode: int | None
    charge_uc: float


class Account:
    """Rows in, in their order; then who is unaccounted for, and the ledger.

    `open` holds the ids of the last run that were reserved and of which nothing more is known.
    """

    def __init__(self) -> None:
        self.run_id: str | None = None
        self.ended = True
        self.open: dict[str, None] = {}
        self._largest_uc = 0.0
        self._asked: dict[str, Delivery] = {}
        self._delivered: dict[str, Delivery] = {}
        self._unclean_ends: list[float] = []

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if step := STEPS.get(row.kind):
                step(self, row, row.load())

    def doubts(self, now: tuple[float, float, float]) -> list[Entry]:
        """What a new run has to write first: that the last one ended uncleanly, and what may have been delivered."""
        entries = []
        if not self.ended:
            entries.append(Entry("unclean_end", {"of_run": self.run_id, "ids": list(self.open)}, *now))
        for trigger_id in self.open:
            asked = self._asked.get(trigger_id) or Delivery(0.0, None, self._largest_uc)
            fields = {
                "trigger_id": trigger_id,
                "result": "unknown",
                "reason": "nothing was written of it before the run ended",
                "of_run": self.run_id,
                "electrode": asked.electrode,
                "train_charge_uc": asked.charge_uc,
            }
            entries.append(Entry("outcome", fields, *now))
        return entries

    def ledger(self, at_s: float) -> Ledger:
        known: dict[int, float] = {}
        unknown = 0.0
        for delivery in self._delivered.values():
            if delivery.t_wall <= at_s - DAY_S:
                continue
            if delivery.electrode is None:
                unknown += delivery.charge_uc
            else:
                known[delivery.electrode] = known.get(delivery.electrode, 0.0) + delivery.charge_uc
        times = [delivery.t_wall for delivery in self._delivered.values()] + self._unclean_ends
        recent = sorted(min(time, at_s) for time in times if time > at_s - MINUTE_S)
        return Ledger(at_s, known, unknown, tuple(recent))

    # One method for each kind of row that matters here ----------------------------------------------------------------

    def _run_started(self, row: Row, fields: dict[str, Any]) -> None:
        self.run_id, self.ended, self.open, self._largest_uc = row.run_id, False, {}, 0.0

    def _run_ended(self, row: Row, fields: dict[str, Any]) -> None:
        self.ended = True
        self._close(*fields["unused"])

    def _unclean_end(self, row: Row, fields: dict[str, Any]) -> None:
        self._unclean_ends.append(row.t_wall)

    def _limits(self, row: Row, fields: dict[str, Any]) -> None:
        self._largest_uc = max(self._largest_uc, fields.get("largest_train_uc", 0.0))

    def _reserved(self, row: Row, fields: dict[str, Any]) -> None:
        self.open.update(dict.fromkeys(fields["ids"]))

    def _trigger(self, row: Row, fields: dict[str, Any]) -> None:
        self._asked[str(fields.get("trigger_id"))] = self._delivery(row, fields)

    def _would_fire(self, row: Row, fields: dict[str, Any]) -> None:
        self._close(str(fields.get("trigger_id")))  # nothing leaves in shadow

    def _outcome(self, row: Row, fields: dict[str, Any]) -> None:
        trigger_id = str(fields.get("trigger_id"))
        self._close(trigger_id)
        if fields.get("result") not in NOT_DELIVERED:
            self._deliver(trigger_id, row, fields)

    def _stimulation(self, row: Row, fields: dict[str, Any]) -> None:
        """The rig says that it delivered one of ours: then it did, whatever the outcome says."""
        trigger_id = str(fields.get("trigger_id"))
        if trigger_id in self._asked:
            self._deliver(trigger_id, row, fields)

    def _close(self, *trigger_ids: str) -> None:
        for trigger_id in trigger_ids:
            self.open.pop(trigger_id, None)

    def _deliver(self, trigger_id: str, row: Row, fields: dict[str, Any]) -> None:
        self._delivered[trigger_id] = self._asked.get(trigger_id) or self._delivery(row, fields)

    def _delivery(self, row: Row, fields: dict[str, Any]) -> Delivery:
        electrode, charge_uc = fields.get("electrode"), fields.get("train_charge_uc")
        return Delivery(
            row.t_wall,
            electrode if isinstance(electrode, int) else None,
            charge_uc if isinstance(charge_uc, float | int) else self._largest_uc,
        )


STEPS: dict[str, Callable[[Account, Row, dict[str, Any]], None]] = {
    "run_started": Account._run_started,
    "run_ended": Account._run_ended,
    "unclean_end": Account._unclean_end,
    "limits": Account._limits,
    "reserved": Account._reserved,
    "trigger": Account._trigger,
    "would_fire": Account._would_fire,
    "outcome": Account._outcome,
    "stimulation": Account._stimulation,
}
