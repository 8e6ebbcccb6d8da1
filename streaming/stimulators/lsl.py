"""Stimulation by a rig that listens to the trigger stream: `fire` is one marker.

What it vouches for: that somebody listened. Whether a pulse went out is known only from the rig's own event stream,
where its `stim` marker names our `trigger_id`; the caller passes that on to `marked`. Without it (`acknowledges` off,
rigs that send no events) every outcome is unknown: it counts as delivered, and a rig that died goes on being asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from pydantic import Field

from models.errors import RigFault
from streaming.limits import Limits, Pattern
from streaming.stimulators.outlet import NAME, TriggerOutlet
from streaming.stimulators.shots import Shots
from streaming.stimulators.stimulator import NotSent, Status, Steps

SIMULATED_NAME = f"{NAME}Simulated"  # no rig that keeps the contract listens to this one


class LslSettings(Steps):
    """How the rig behind the trigger stream is.

    simulated: a simulated participant obeys, and nobody else; by default it is then sent on a stream of its own name.
    acknowledged_within_s: how long the rig's `stim` marker may take; many rigs send it when the train is over. Live,
        bins are held back for half a second; of a marker that comes later what was decoded is withdrawn, and of one
        later than a second the next eleven seconds are not vouched for (docs/decisions/late-markers.md).
    """

    acknowledges: bool = True
    acknowledged_within_s: float = Field(default=0.5, gt=0, le=2.0)
    simulated: bool = False
    name: str = ""

    @property
    def stream_name(self) -> str:
        return self.name or (SIMULATED_NAME if self.simulated else NAME)


class Outlet(Protocol):
    """What this driver needs of a TriggerOutlet."""

    def push(self, marker: str) -> bool: ...
    def announce(self, marker: str) -> None: ...
    def has_consumers(self) -> bool: ...
    def rivals(self) -> tuple[str, ...]: ...
    def close(self) -> None: ...


class LslStimulator:
    """A Stimulator. `outlet`: the service's trigger stream, where it has one already (and closes it itself); else it is
    opened here."""

    def __init__(
        self,
        settings: LslSettings | None = None,
        outlet: Outlet | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = settings or LslSettings()
        self.capabilities = settings.capabilities("lsl", settings.simulated, settings.acknowledges)
        self._shared = outlet is not None
        self._outlet: Outlet = outlet if outlet is not None else TriggerOutlet(settings.stream_name)
        self._clock = clock
        self._shots = Shots(self.capabilities, settings.acknowledged_within_s)
        self._lock = threading.RLock()

    def arm(self, limits: Limits) -> None:
        with self._lock:
            self._shots.arm(limits, self._clock())
            if problem := self._why_not():
                self._shots.disarm()
                raise RigFault(f"stimulator lsl: {problem}")

    def fire(self, pattern: Pattern, trigger_id: str, marker: str) -> None:
        with self._lock:
            self._shots.begin(pattern, trigger_id, self._clock())
            try:
                heard = self._outlet.push(marker)
            except Exception as error:  # of liblsl, whatever it is
                self._shots.fail(f"the trigger stream failed: {error}", self._clock())
                raise RigFault(f"stimulator lsl: the trigger stream failed: {error}") from error
            if not heard:
                self._shots.withdraw()
                self._deserted()
                raise NotSent("stimulator lsl: the rig listens no more; nothing was sent")
            self._shots.sent(self._clock())

    def announce(self, marker: str) -> None:
        """Send a marker that is no pulse: would_fire, armed, disarmed, fault."""
        self._outlet.announce(marker)

    def marked(self, trigger_id: str) -> None:
        """The rig's event stream named this trigger as delivered."""
        with self._lock:
            if self.capabilities.acknowledges:
                self._shots.answered(True, self._clock(), trigger_id)

    def status(self) -> Status:
        with self._lock:
            if self._shots.armed and not self._outlet.has_consumers():
                self._deserted()
            status = self._shots.status(self._clock())
            if not status.problem and (rivals := self._outlet.rivals()):
                return replace(status, problem=_two_outlets(rivals))
            return status

    def disarm(self) -> None:
        with self._lock:
            self._shots.disarm()

    def close(self) -> None:
        with self._lock:
            self._shots.close()
            if not self._shared:
                self._outlet.close()

    def _why_not(self) -> str:
        if rivals := self._outlet.rivals():
            return _two_outlets(rivals)
        if not self._outlet.has_consumers():
            return "found nobody listening to the trigger stream, expected the rig; connect it first"
        return ""

    def _deserted(self) -> None:
        self._shots.fail("the rig listens to the trigger stream no more", self._clock())


def _two_outlets(rivals: tuple[str, ...]) -> str:
    return f"found another trigger stream of this name, on {', '.join(rivals)}, expected one; end the other service"
