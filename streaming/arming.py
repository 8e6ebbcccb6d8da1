"""Who may arm, and when: the lease of the operator's client, and every reason that forbids arming."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from streaming.limits import Limits
from streaming.matching import Decoding
from streaming.stimulators.stimulator import Capabilities, Status

NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How long things may be silent, in seconds of the monotonic clock."""

    lease_inhibits_s: float = 1.5
    lease_disarms_s: float = 3.0
    arming_s: float = 10.0
    stream_disarms_s: float = 2.0
    limits_looked_at_s: float = 0.5


@dataclass(slots=True)
class Lease:
    """The operator's client: a request that awaits its confirmation until `expires`, then whoever holds the token and
    renews it. Moments are of the monotonic clock."""

    token: str = ""
    renewed: float = NEVER
    expires: float = NEVER

    @classmethod
    def asked_for(cls, expires: float) -> Lease:
        return cls(secrets.token_urlsafe(16), expires=expires)

    @classmethod
    def granted(cls, now: float) -> Lease:
        return cls(secrets.token_urlsafe(16), renewed=now)

    def belongs_to(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self.token.encode())


def why_not(
    limits: Limits | None, decoding: Decoding | None, capabilities: Capabilities, status: Status, journal_writes: bool
) -> list[str]:
    """Every reason why it cannot be armed, in sentences.

    Args:
        limits: None where there are none, which is said elsewhere.
        decoding: None where no predictions come.
    """
    found = [] if journal_writes else ["the journal does not write"]
    if status.state == "fault":
        found.append(f"the stimulator {capabilities.name} is at fault: {status.problem}")
    elif status.problem:
        found.append(f"stimulator {capabilities.name}: {status.problem}")
    if decoding is None:
        return [*found, "no predictions come"]
    if decoding.source != "live" and not capabilities.simulated:
        found.append(f"a {decoding.source} source never drives a real device ({capabilities.name})")
    if decoding.source == "live" and decoding.fitted_to == "simulated":
        found.append(f"the bundle {decoding.model} was fitted on simulation; calibrate one on this participant")
    if decoding.not_calibrated:
        found.append(decoding.not_calibrated)
    if decoding.mode != "continuous":
        found.append("the trigger rests on continuous mode")
    if limits is not None and limits.simulated_only and not capabilities.simulated:
        found.append("these limits are for the simulated participant only")
    if limits is not None and decoding.participant is not None and limits.participant != decoding.participant:
        found.append(f"limits are of participant {limits.participant!r}, the stream of {decoding.participant!r}")
    return found
