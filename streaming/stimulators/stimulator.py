"""What a stimulator is to the rest: armed with limits, fired with one of their patterns, asked how it is.

A driver executes; whether to fire is decided elsewhere (streaming/trigger.py, streaming/gate.py). Every driver holds a
lock for microseconds, so that after `disarm` has returned nothing fires any more, whichever thread called it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from models.errors import OperatorFault, RigFault
from streaming.limits import MOST_CURRENT_UA, Limits, Pattern

State = Literal["idle", "busy", "not_armed", "fault"]
Result = Literal["delivered", "refused", "unknown"]


class NotSent(RigFault):
    """`fire` refused, and nothing has left. Any other fault of `fire` leaves open whether a pulse went out."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a device can do, and vouch for."""

    name: str
    simulated: bool = False  # drives no tissue
    acknowledges: bool = False  # says of each pulse whether it was delivered
    current_step_ua: float = 0.0  # 0: no steps
    time_step_us: float = 0.0
    most_current_ua: float = MOST_CURRENT_UA


class Steps(BaseModel):
    """The part of a driver's settings that only its operator knows: the steps and the largest current of the device
    at the far end. 0 stands for no steps."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    current_step_ua: float = Field(default=0.0, ge=0, le=MOST_CURRENT_UA)
    time_step_us: float = Field(default=0.0, ge=0, le=1000)
    most_current_ua: float = Field(default=MOST_CURRENT_UA, gt=0, le=MOST_CURRENT_UA)

    def capabilities(self, name: str, simulated: bool = False, acknowledges: bool = False) -> Capabilities:
        steps = (self.current_step_ua, self.time_step_us, self.most_current_ua)
        return Capabilities(name, simulated, acknowledges, *steps)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one trigger, and the monotonic time at which that was known. Unknown counts as delivered."""

    trigger_id: str
    result: Result
    t_mono: float


@dataclass(frozen=True, slots=True)
class Status:
    """How the device is. Each outcome is told once, to whoever asks first.

    `fault` holds until `disarm`, and for good where the device is lost; `problem` is its sentence.
    """

    state: State
    problem: str = ""
    outcomes: tuple[Outcome, ...] = ()


class Stimulator(Protocol):
    """One device. All times are those of the clock that it was made with (monotonic)."""

    @property
    def capabilities(self) -> Capabilities: ...

    def arm(self, limits: Limits) -> None:
        """Make ready for the patterns of `limits`.

        Raises:
            OperatorFault: these limits are not for this device. RigFault: it cannot deliver them, or is not there.
        """

    def fire(self, pattern: Pattern, trigger_id: str, marker: str) -> None:
        """One pulse, now: returns once the command has left, and never waits for an answer. At most once for an id.

        Raises:
            NotSent: not armed, busy, an id that was used, a pattern that was not armed; nothing has left.
            RigFault: the device failed; the outcome is `unknown` and the state `fault`.
        """

    def status(self) -> Status:
        """How it is; does not wait."""

    def disarm(self) -> None:
        """Line low, device told. Never raises; as often as one likes, on every way out."""

    def close(self) -> None:
        """Disarm and let the device go, for good."""


def deliverable(capabilities: Capabilities, limits: Limits) -> Mapping[Pattern, Pattern]:
    """Each pattern of the limits, and what the device makes of it in its steps.

    Raises:
        OperatorFault: the limits are for the simulated participant, or a pattern is beyond them after rounding.
        RigFault: the device cannot deliver a pattern, or cannot tell two of them apart.
    """
    name = capabilities.name
    if limits.simulated_only and not capabilities.simulated:
        raise OperatorFault(
            f"limits {limits.name!r}: found simulated_only, expected limits of a participant for the real device "
            f"{name!r}; choose the participant's file"
        )
    found: dict[Pattern, Pattern] = {}
    for asked in limits.patterns:
        given = asked.quantised(capabilities.current_step_ua, capabilities.time_step_us)
        if problem := _undeliverable(capabilities, given):
            raise RigFault(f"{name} cannot deliver {asked.name}: {problem}; change it in the limits {limits.name!r}")
        if refusal := limits.refusal(given):
            raise OperatorFault(
                f"limits {limits.name!r}: {asked.name} becomes, in the steps of {name}, {refusal}; lower it"
            )
        found[asked] = given
    if len(set(found.values())) < len(found):
        raise RigFault(
            f"{name}: found patterns that are one after rounding to {capabilities.current_step_ua:g} µA, expected "
            f"different ones; space the currents of the limits {limits.name!r} by at least this step"
        )
    return found


def _undeliverable(capabilities: Capabilities, given: Pattern) -> str:
    pulse = given.pulse
    if given.current_ua > capabilities.most_current_ua:
        return f"found {given.current_ua:g} µA, expected at most {capabilities.most_current_ua:g} µA"
    if not given.current_ua > 0:
        return f"found no current after rounding, expected at least a step of {capabilities.current_step_ua:g} µA"
    if not (pulse.phase_us > 0 and pulse.interphase_us > 0):
        return f"found a phase or gap of 0 µs after rounding, expected at least {capabilities.time_step_us:g} µs"
    if (2 * pulse.phase_us + pulse.interphase_us) * 1e-6 > 1 / pulse.frequency_hz:
        return f"found a current pulse that, rounded, is longer than 1 / {pulse.frequency_hz:g} s, expected it to fit"
    return ""
