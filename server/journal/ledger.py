"""What may have been delivered, read from the journal's rows. Pure.

Budgets must hold across restarts, so they begin with what earlier runs delivered. Every doubt counts as delivered: an
id that was reserved and never accounted for, a pulse whose outcome nobody knows, and at its worst, the dearest and
longest train of the limits of its run, where nobody knows which pattern it was. The day is the last 24 hours and not
the calendar's: two budgets cannot meet at midnight, and no time zone or summer time moves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from server.journal.rows import Entry, Row
from streaming.limits import LONGEST_TRAIN_S

DAY_S = 24 * 3600.0
MINUTE_S = 60.0
NOT_DELIVERED = ("refused", "not_fired")  # any other result counts as delivered


@dataclass(frozen=True, slots=True)
class Ledger:
    """What budgets begin with, as it stood at wall-clock time `at_s`.

    `charge_today_uc` is by electrode (1-based), in microcoulombs of the last 24 hours. `charge_unknown_uc` may have
    gone through any electrode, so it counts against each. `recent` are the stimulations of the last minute, oldest
    first and none after `at_s`; where it had none, the latest of the day, since refractory may be an hour. Each id in
    doubt and each unclean end counts as one; the end takes no time of any electrode, as its ids do.
    """

    at_s: float
    charge_today_uc: Mapping[int, float]
    charge_unknown_uc: float
    recent: tuple[Delivery, ...]

    def day_uc(self, electrodes: Iterable[int]) -> dict[int, float]:
        """What each of these electrodes has had today."""
        return {e: self.charge_today_uc.get(e, 0.0) + self.charge_unknown_uc for e in electrodes}

    def pulses_ago(self) -> tuple[tuple[float, int | None, float], ...]:
        """How long before `at_s` the recent stimulations were, the latest last; their electrode, None for any; and how
        many seconds the train took."""
        return tuple((self.at_s - one.t_wall, one.electrode, one.train_s) for one in self.recent)


class Delivery(NamedTuple):
    """One train; electrode None: it may have been any."""

    t_wall: float
    electrode: int | None
    charge_uc: float
    train_s: float


class Account:
    """Rows in, in their order; then who is unaccounted for, and the ledger.

    `open` holds the ids of the last run that were reserved and of which nothing more is known.
    """

    def __init__(self) -> None:
        self.run_id: str | None = None
        self.ended = True
        self.open: dict[str, None] = {}
        self._largest_uc = self._longest_s = 0.0
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
            asked = self._asked.get(trigger_id) or Delivery(0.0, None, self._largest_uc, self._longest_s)
            fields = {
                "trigger_id": trigger_id,
                "result": "unknown",
                "reason": "nothing was written of it before the run ended",
                "of_run": self.run_id,
                "electrode": asked.electrode,
                "train_charge_uc": asked.charge_uc,
                "train_s": asked.train_s,
            }
            entries.append(Entry("outcome", fields, *now))
        return entries

    def ledger(self, at_s: float) -> Ledger:
        known: dict[int, float] = {}
        unknown = 0.0
        today = [delivery for delivery in self._delivered.values() if delivery.t_wall > at_s - DAY_S]
        for delivery in today:
            if delivery.electrode is None:
                unknown += delivery.charge_uc
            else:
                known[delivery.electrode] = known.get(delivery.electrode, 0.0) + delivery.charge_uc
        today += [Delivery(time, None, 0.0, 0.0) for time in self._unclean_ends if time > at_s - DAY_S]
        past = sorted((one._replace(t_wall=min(one.t_wall, at_s)) for one in today), key=lambda one: one.t_wall)
        recent = [one for one in past if one.t_wall > at_s - MINUTE_S] or past[-1:]
        return Ledger(at_s, known, unknown, tuple(recent))

    # One method for each kind of row that matters here ----------------------------------------------------------------

    def _run_started(self, row: Row, fields: dict[str, Any]) -> None:
        self.run_id, self.ended, self.open, self._largest_uc, self._longest_s = row.run_id, False, {}, 0.0, 0.0

    def _run_ended(self, row: Row, fields: dict[str, Any]) -> None:
        self.ended = True
        self._close(*fields["unused"])

    def _unclean_end(self, row: Row, fields: dict[str, Any]) -> None:
        self._unclean_ends.append(row.t_wall)

    def _limits(self, row: Row, fields: dict[str, Any]) -> None:
        self._largest_uc = max(self._largest_uc, fields.get("largest_train_uc", 0.0))
        self._longest_s = max(self._longest_s, fields.get("longest_train_s", LONGEST_TRAIN_S))

    def _reserved(self, row: Row, fields: dict[str, Any]) -> None:
        self.open.update(dict.fromkeys(fields["ids"]))

    def _trigger(self, row: Row, fields: dict[str, Any]) -> None:
        if fields.get("trigger_id") is not None:  # one that was refused before it took one never left
            self._asked[str(fields["trigger_id"])] = self._delivery(row, fields)

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
        electrode, charge_uc, train_s = (fields.get(name) for name in ("electrode", "train_charge_uc", "train_s"))
        return Delivery(
            row.t_wall,
            electrode if isinstance(electrode, int) else None,
            charge_uc if isinstance(charge_uc, float | int) else self._largest_uc,
            train_s if isinstance(train_s, float | int) else LONGEST_TRAIN_S,  # an older row
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
