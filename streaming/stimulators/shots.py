"""One pulse at a time, each id once, each with an outcome: the rules that every driver keeps.

Pure: time is an argument, and the driver holds its lock around every call. The order in a driver's `fire`:

    shots.begin(...)      refused → NotSent, nothing has left; else the id is spent, whatever comes
    (the command leaves)
    shots.sent(...)       or `fail`: whether it left is not known; or `withdraw`: it surely did not
"""

from __future__ import annotations

from collections.abc import Mapping

from models.errors import OperatorFault, RigFault
from streaming.limits import Limits, Pattern
from streaming.stimulators.stimulator import Capabilities, NotSent, Outcome, Result, Status, deliverable

ACKNOWLEDGED_WITHIN_S = 0.1
MOST_OUTCOMES = 256  # held for whoever asks; when full, nothing more is fired
MOST_IDS = 65_536  # several times what limits may allow in a session; then the device is opened anew


class Shots:
    """State of one device. `armed` and `gone` (why it is lost for good, "" while it is there) may be read."""

    def __init__(self, capabilities: Capabilities, acknowledged_within_s: float = ACKNOWLEDGED_WITHIN_S) -> None:
        self._capabilities = capabilities
        self._within_s = acknowledged_within_s
        # as asked for → as delivered, and for how many seconds; empty: not armed
        self._patterns: Mapping[Pattern, tuple[Pattern, float]] = {}
        self._ids: set[str] = set()  # spent, over all armings
        self._waiting: tuple[str, float] | None = None  # the id whose outcome is open, and until when it may be
        self._busy_until = float("-inf")
        self._outcomes: list[Outcome] = []
        self._problem = ""  # of the last fault; while armed it is one
        self.gone = ""

    @property
    def armed(self) -> bool:
        return bool(self._patterns)

    def arm(self, limits: Limits, now: float) -> None:
        """Raises as `Stimulator.arm`."""
        name = self._capabilities.name
        self._expire(now)
        if self.gone:
            raise RigFault(f"stimulator {name}: {self.gone}; open it anew")
        if self._patterns:
            raise OperatorFault(f"stimulator {name}: found it armed, expected it disarmed; disarm it first")
        if self._waiting is not None:
            raise RigFault(f"stimulator {name}: found an unanswered pulse; arm it again in {self._within_s:g} s")
        delivered = deliverable(self._capabilities, limits)
        self._patterns = {asked: (given, given.pulse.duration_s) for asked, given in delivered.items()}
        self._problem = ""

    def disarm(self) -> None:
        """Also ends a fault. A pulse that is under way still gets its outcome."""
        self._patterns = {}
        self._problem = self.gone

    def close(self) -> None:
        """Disarm, for good."""
        self.gone = "it was closed"
        self.disarm()

    def begin(self, pattern: Pattern, trigger_id: str, now: float) -> Pattern:
        """The pattern as the device delivers it; from here on the id is spent and the device busy.

        Raises:
            NotSent: it may not be.
        """
        if self._waiting is not None:
            self._expire(now)
        found = self._patterns.get(pattern)
        refusal = self._refusal(pattern, found is not None, trigger_id, now)
        if refusal or found is None:
            raise NotSent(f"stimulator {self._capabilities.name}: {refusal}; nothing was sent")
        given, duration_s = found
        self._ids.add(trigger_id)
        self._waiting = (trigger_id, now + self._within_s)
        self._busy_until = now + duration_s
        return given

    def sent(self, now: float) -> None:
        """The command has left. A device that cannot answer leaves the outcome unknown, which is no fault."""
        if not self._capabilities.acknowledges:
            self._resolve("unknown", now)

    def withdraw(self) -> None:
        """It has surely not left: no outcome; the id stays spent."""
        self._waiting = None
        self._busy_until = float("-inf")

    def answered(self, delivered: bool, now: float, trigger_id: str | None = None, why: str = "") -> bool:
        """The device's word on `trigger_id` (None: on the one that waits); False where it answers nothing open.

        A refusal is a fault: it is not tried again, nor with other values. Where it was disarmed meanwhile there is
        nothing left to stop: the outcome says it.
        """
        self._expire(now)
        if self._waiting is None or trigger_id not in (None, self._waiting[0]):
            return False
        refused = self._waiting[0]
        self._resolve("delivered" if delivered else "refused", now)
        if not delivered and self._patterns:
            self._problem = f"it refused trigger {refused}" + (f" ({why})" if why else "")
        return True

    def fail(self, problem: str, now: float, gone: bool = False) -> None:
        """The device is at fault, `gone` for good; what waits is unknown."""
        self._resolve("unknown", now)
        self._problem = problem
        if gone:
            self.gone = problem

    def busy(self, until: float) -> None:
        """The device says that it is busy until then."""
        self._busy_until = until

    def status(self, now: float) -> Status:
        self._expire(now)
        outcomes, self._outcomes = tuple(self._outcomes), []
        if self.gone or (self._problem and self._patterns):
            return Status("fault", self._problem, outcomes)
        if not self._patterns:
            return Status("not_armed", self._problem, outcomes)
        if self._waiting is not None or now < self._busy_until:
            return Status("busy", "", outcomes)
        return Status("idle", "", outcomes)

    def _refusal(self, pattern: Pattern, listed: bool, trigger_id: str, now: float) -> str:
        if not self._patterns:
            return "found it not armed, expected it armed"
        if self._problem or self.gone:
            return f"found it at fault ({self._problem}), expected it well"
        if trigger_id in self._ids or not trigger_id:
            return f"found trigger id {trigger_id!r}, expected one that was not used before"
        if not listed:
            return f"found pattern {pattern.name}, expected one that it was armed with"
        if self._waiting is not None or now < self._busy_until:
            return "found it busy with the last pulse, expected it idle"
        if len(self._outcomes) >= MOST_OUTCOMES:
            return f"found {MOST_OUTCOMES} outcomes that nobody asked for, expected `status` to be asked"
        if len(self._ids) >= MOST_IDS:
            return f"found {MOST_IDS} ids used, expected fewer; open it anew"
        return ""

    def _expire(self, now: float) -> None:
        if self._waiting is not None and now > self._waiting[1]:
            trigger_id = self._waiting[0]
            self._resolve("unknown", now)
            if self._patterns:  # else only arming would end it, which it forbids
                self._problem = f"no acknowledgement of trigger {trigger_id} within {self._within_s * 1e3:g} ms"

    def _resolve(self, result: Result, now: float) -> None:
        if self._waiting is not None:
            self._outcomes.append(Outcome(self._waiting[0], result, now))
            self._waiting = None
