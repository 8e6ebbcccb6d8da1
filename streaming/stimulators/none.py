"""No stimulator: decisions are made and written down in shadow, and arming is refused."""

from __future__ import annotations

from models.errors import OperatorFault
from streaming.limits import Limits, Pattern
from streaming.stimulators.stimulator import Capabilities, NotSent, Status


class NoStimulator:
    """A Stimulator that is never armed."""

    capabilities = Capabilities("none")

    def arm(self, limits: Limits) -> None:
        raise OperatorFault(
            "stimulator: found none, expected one to arm; start with --stimulator lsl, serial:…, udp:… or simulated"
        )

    def fire(self, pattern: Pattern, trigger_id: str, marker: str) -> None:
        raise NotSent("stimulator none: there is none; nothing was sent")

    def status(self) -> Status:
        return Status("not_armed", "there is no stimulator")

    def disarm(self) -> None: ...

    def close(self) -> None: ...
