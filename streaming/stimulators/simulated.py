"""A device that drives no tissue: the simulated participant's, with faults that can be set.

It lives on the caller's clock and has no thread: a late pulse is handed on at once, with the later time at which it
counts, and its acknowledgement shows once the clock is there. What it really delivered stands in its own log, which an
independent checker compares with the journal.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from models.errors import OperatorFault, RigFault
from streaming.limits import Limits, Pattern
from streaming.stimulators.shots import Shots
from streaming.stimulators.stimulator import NotSent, Status, Steps

Deliver = Callable[[Pattern, str, float], bool]


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong from now on."""

    late_s: float = 0.0  # the pulse, and its acknowledgement, come so much later
    refuses: bool = False
    loses_acknowledgement: bool = False
    hangs: bool = False  # busy for ever after the next pulse
    vanishes: bool = False  # does not take the next command, and is gone


class SimulatedStimulator:
    """A Stimulator.

    Args:
        deliver: called with (pattern as delivered, trigger_id, time of onset), on the thread that fires, so it must
            not wait; False where the participant's train still runs: refused.
        log_path: where deliveries are appended as JSON lines, each written before `fire` returns; without it they stay
            in `log`.
        steps: steps and largest current to pretend.
    """

    def __init__(
        self,
        deliver: Deliver = lambda pattern, trigger_id, t_mono: True,
        log_path: Path | None = None,
        steps: Steps | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.capabilities = (steps or Steps()).capabilities("simulated", simulated=True, acknowledges=True)
        self.faults = Faults()
        self.log: list[dict[str, Any]] = []  # no more of them than Shots takes ids
        self._deliver, self._clock = deliver, clock
        self._shots = Shots(self.capabilities)
        self._lock = threading.RLock()
        self._answers: list[tuple[float, str, bool]] = []  # acknowledgements under way: (when, id, delivered)
        self._file = None if log_path is None else _appended(log_path)

    def arm(self, limits: Limits) -> None:
        with self._lock:
            self._vanish()
            self._shots.arm(limits, self._look())

    def fire(self, pattern: Pattern, trigger_id: str, marker: str) -> None:
        with self._lock:
            now, faults = self._look(), self.faults
            given = self._shots.begin(pattern, trigger_id, now)
            if faults.vanishes:
                self._shots.withdraw()
                self._vanish()
                raise NotSent("stimulator simulated: the device is gone; nothing was sent")
            onset = now + faults.late_s
            try:
                delivered = not faults.refuses and self._deliver(given, trigger_id, onset)
                if delivered:
                    self._write(given, trigger_id, onset)
            except Exception as error:
                self._shots.fail(f"the participant failed: {error}", now)
                raise RigFault(f"stimulator simulated: the participant failed: {error}") from error
            if not faults.loses_acknowledgement:
                self._answers.append((onset, trigger_id, delivered))
            if faults.hangs:
                self._shots.busy(float("inf"))
            elif delivered:
                self._shots.busy(onset + given.pulse.duration_s)

    def status(self) -> Status:
        with self._lock:
            self._vanish()
            return self._shots.status(self._look())

    def disarm(self) -> None:
        with self._lock:
            self._shots.disarm()

    def close(self) -> None:
        with self._lock:
            self._shots.close()
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _look(self) -> float:
        """Now; the acknowledgements that have come by now are heard, each at its own time."""
        now = self._clock()
        for answer in [answer for answer in self._answers if answer[0] <= now]:
            at, trigger_id, delivered = answer
            self._answers.remove(answer)
            self._shots.answered(delivered, at, trigger_id)
        return now

    def _vanish(self) -> None:
        if self.faults.vanishes and not self._shots.gone:
            self._shots.fail("the device is gone", self._clock(), gone=True)

    def _write(self, given: Pattern, trigger_id: str, onset: float) -> None:
        facts = {
            "trigger_id": trigger_id,
            "electrode": given.electrode,
            "current_ua": given.current_ua,
            "t_mono": onset,
        }
        if self._file is None:
            self.log.append(facts)
        else:
            os.write(self._file, orjson.dumps(facts) + b"\n")


def _appended(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise OperatorFault(f"device log {path}: {error.strerror or error}; choose another place") from error
