"""The journal as the engine sees it: what is written is queued, and a thread of its own puts it on the disk.

The decode thread never waits here: it appends to a deque and takes ids from another. Rows stay at the head of the queue
until their transaction has reached the disk, so a full disk loses nothing, leaves nothing half-written, and needs no
restart once there is room again. Rows marked durable are written at once; the rest in company, within 50 ms.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pylsl import local_clock

from models.errors import OperatorFault
from server.journal.ledger import DAY_S, Account, Ledger
from server.journal.reservations import Reservations
from server.journal.rows import Entry, Row
from server.journal.store import Store
from streaming.limits import Limits

QUEUE = 4096  # rows that may wait: refused beyond
AT_ONCE = 256  # rows in one transaction
COMPANY_S = 0.05
RETRY_S = 0.1
UNHEALTHY_S = 0.25
CLOSE_S = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Clocks:
    """Wall clock, LSL clock and monotonic clock, in seconds; whoever writes is stamped by all three."""

    wall: Callable[[], float] = time.time
    lsl: Callable[[], float] = local_clock
    mono: Callable[[], float] = time.monotonic

    def now(self) -> tuple[float, float, float]:
        return float(self.wall()), float(self.lsl()), float(self.mono())


@dataclass(frozen=True, slots=True)
class JournalStatistics:
    """`rows`: on the disk, of this file. `refused`: did not fit into the queue. `lag_s`: how long the oldest of those
    `waiting` has."""

    rows: int = 0
    waiting: int = 0
    lag_s: float = 0.0
    refused: int = 0
    failures: int = 0
    problem: str = ""
    healthy: bool = True


class Journal:
    """An open journal: `ledger` says what earlier runs delivered. Only one engine can have it open.

    Args:
        path: the file, made where there is none.
        run: fields of the run_started row (participant, session, source, bundle…).
        limits: ids are reserved from the first limits on; without any, nothing can be armed and nothing is reserved.
        device_steps: (µA, µs) of the device, by which the dearest train is known; see Pattern.quantised.
        run_id: a new one where none is given.
        clocks: for tests and simulated time.
        store: for tests.

    Raises:
        OperatorFault: another engine has it open, it cannot be made there, or the run is in it already.
        JournalFault: it is not what was written.
    """

    def __init__(
        self,
        path: Path,
        run: Mapping[str, object] | None = None,
        limits: Limits | None = None,
        device_steps: tuple[float, float] = (0.0, 0.0),
        run_id: str | None = None,
        clocks: Clocks | None = None,
        store: Callable[[Path], Store] = Store,
    ) -> None:
        self.run_id = run_id or uuid.uuid4().hex[:12]
        self._clocks, self._steps = clocks or Clocks(), device_steps
        self._pending: deque[Entry] = deque()
        self._ids = Reservations(self.run_id)
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._refused = self._told = self._failures = 0
        self._problem = ""
        self._closing = self._dead = self._clean = False
        self._close_by = float("inf")
        self._store = store(path)
        try:
            self.ledger = self._begin(run or {}, limits)
        except BaseException:
            self._store.close()
            raise
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    # For the decode thread, and any other: none of these waits --------------------------------------------------------

    def write(self, kind: str, fields: Mapping[str, object], durable: bool = False) -> bool:
        """Queue a row of one of KINDS, stamped now; `fields` is the journal's from here on. False: the queue is full,
        or the journal closed."""
        if self._closing:
            return False
        if len(self._pending) >= QUEUE:
            self._refused += 1
            return False
        self._pending.append(Entry(kind, fields, *self._clocks.now()))
        if durable:
            self._wake.put(None)
        return True

    def take_id(self) -> str | None:
        """An id that no other trigger of any run has; an outcome row must follow. None: no reserved one is left."""
        return self._ids.take()

    @property
    def next_id(self) -> str | None:
        """The id that `take_id` would give now: whoever alone takes ids can make ready for it."""
        return self._ids.following()

    @property
    def ids_left(self) -> int:
        return self._ids.left()

    def use_limits(self, limits: Limits) -> bool:
        """Write down under which limits ids are reserved from now on; False as for `write`."""
        return self.write("limits", self._limits(limits), durable=True)

    @property
    def healthy(self) -> bool:
        """False while a row waits for longer than 250 ms, the disk fails, or the queue is full."""
        if self._problem or self._dead or self._closing or len(self._pending) >= QUEUE:
            return False
        return self._lag_s() <= UNHEALTHY_S

    def statistics(self) -> JournalStatistics:
        return JournalStatistics(
            rows=self._store.last.rows,
            waiting=len(self._pending),
            lag_s=self._lag_s(),
            refused=self._refused,
            failures=self._failures,
            problem=self._problem,
            healthy=self.healthy,
        )

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """Write what is queued and that the run ended; True where that is on the disk. Waits for at most `timeout_s`.

        An id that was taken and has no outcome becomes one of outcome `unknown`.
        """
        self._close_by = time.monotonic() + timeout_s
        self._closing = True
        self._wake.put(None)
        self._thread.join(timeout_s + 2 * RETRY_S)
        if self._thread.is_alive():  # the disk hangs: the file is the thread's, and the lock ends with the process
            return False
        self._store.close()
        return self._clean

    def _lag_s(self) -> float:
        try:
            return self._clocks.mono() - self._pending[0].t_mono
        except IndexError:
            return 0.0

    # Opening ----------------------------------------------------------------------------------------------------------

    def _begin(self, run: Mapping[str, object], limits: Limits | None) -> Ledger:
        """What earlier runs left open is settled, and this run begins."""
        now = self._clocks.now()
        if self._store.has_run(self.run_id):
            raise OperatorFault(f"journal {self._store.path}: holds run {self.run_id} already; begin a new one")
        account = Account()
        account.add(self._store.since(now[0] - DAY_S))
        entries = [Entry("run_started", run, *now), *account.doubts(now)]
        if limits is not None:
            entries.append(Entry("limits", self._limits(limits), *now))
        try:
            account.add(self._put(entries))
            for entry in self._reserved():
                self._put([entry])
        except sqlite3.Error as error:
            raise OperatorFault(f"journal {self._store.path}: {error}; make room, or name another --journal") from error
        return account.ledger(now[0])

    def _limits(self, limits: Limits) -> dict[str, object]:
        given = [pattern.quantised(*self._steps) for pattern in limits.patterns]
        return {
            "name": limits.name,
            "participant": limits.participant,
            "simulated_only": limits.simulated_only,
            "limits_sha256": limits.sha256,
            "largest_train_uc": max(pattern.train_charge_uc for pattern in given),
            "longest_train_s": max(pattern.pulse.duration_s for pattern in given),
        }

    # The writer's thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                if len(self._pending) < AT_ONCE:
                    self._wait()
                self._flush()
            while not self._clean and time.monotonic() < self._close_by:
                if self._flush() and not self._pending:
                    self._clean = self._attempt(self._ending())
        except Exception:
            log.exception("journal: its writer ended by a fault of ours, and stimulation is inhibited from here on")
        finally:
            self._dead = True

    def _wait(self) -> None:
        """Until something is durable, or company has gathered."""
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=COMPANY_S)
            while True:
                self._wake.get_nowait()

    def _flush(self) -> bool:
        """Put the oldest rows, and the ids that are due, on the disk. They leave the queue when they are there."""
        waiting = [self._pending[i] for i in range(min(len(self._pending), AT_ONCE))]
        refused = self._refused
        entries = waiting + self._reserved()
        if refused > self._told:
            overflow = {"reason": "journal_overflow", "rows_lost": refused - self._told}
            entries.append(Entry("fault", overflow, *self._clocks.now()))
        if not self._attempt(entries):
            return False
        self._told = refused
        for _ in waiting:
            self._pending.popleft()
        return True

    def _reserved(self) -> list[Entry]:
        fields = self._ids.due()
        return [] if fields is None or self._closing else [Entry("reserved", fields, *self._clocks.now())]

    def _ending(self) -> list[Entry]:
        unused, unknown = self._ids.end()
        now = self._clocks.now()
        fields = {"result": "unknown", "reason": "the run ended before it was known"}
        return [
            *(Entry("outcome", {"trigger_id": one, **fields}, *now) for one in unknown),
            Entry("run_ended", {"unused": unused, "refused": self._refused}, *now),
        ]

    def _attempt(self, entries: list[Entry]) -> bool:
        """False: the disk did not take them; it is asked again after a moment."""
        if not entries:
            return True
        try:
            self._put(entries)
        except sqlite3.Error as error:
            self._failures += 1
            if not self._problem:
                sentence = "journal: %s; nothing is stimulated until it can be written again"
                log.error(sentence, error, extra={"event": "journal", "fields": {"writes": False}})
            self._problem = str(error) or type(error).__name__
            time.sleep(RETRY_S)
            return False
        if self._problem:
            lost = f"{self._refused} rows were lost" if self._refused else "nothing lost"
            told = {"event": "journal", "fields": {"writes": True, "refused": self._refused}}
            log.warning("journal: written again; %s", lost, extra=told)
            self._problem = ""
        return True

    def _put(self, entries: list[Entry]) -> list[Row]:
        rows = self._store.append(self.run_id, entries)
        self._ids.durable(entries)
        return rows
