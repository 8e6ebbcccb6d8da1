"""What WebSocket /v1/events says: how things are (`status`, `array`, `trigger_state`) and what happened."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from server.messages.status import Array, Status
from server.messages.trigger import Trial, TriggerStatus
from streaming.states import Event as Cause
from streaming.states import State


class Event(BaseModel):
    """Every message of /v1/events; `dropped` counts these numbers."""

    event_seq: int = Field(ge=0, description="rises by one")


class StatusEvent(Event, Status):
    """Twice a second, and when `state` changes."""

    type: Literal["status"]


class ArrayEvent(Event, Array):
    """Ten times a second, while samples come."""

    type: Literal["array"]


class TriggerState(Event, TriggerStatus):
    """Five times a second, and at every transition."""

    type: Literal["trigger_state"]


class Stim(Event):
    """The rig's marker of a stimulation; `trigger_id` of our trigger that it answers, else null."""

    type: Literal["stim"]
    sample_time: float
    trial: int | None
    electrode: int | None
    current_ua: float | None
    duration_s: float
    pulses: int | None
    phase_us: float | None
    interphase_us: float | None
    frequency_hz: float | None
    trigger_id: str | None


class Report(Event):
    """The participant's answer; `trigger_id` of our trigger that it belongs to, else null."""

    type: Literal["report"]
    sample_time: float
    trial: int | None
    perceived: bool
    trigger_id: str | None


class Transition(Event):
    """The trigger moved from one state to another (docs/safety.md)."""

    type: Literal["transition"]
    from_: State = Field(alias="from")
    to: State
    event: Cause
    reason: str


class Trigger(Event, Trial):
    """A pulse was asked for."""

    type: Literal["trigger"]


class Sham(Event, Trial):
    """A sham: nothing was asked for. Under a blind plan it is told as `trigger`."""

    type: Literal["sham"]


class WouldFire(Event, Trial):
    """In shadow: what would have been asked for."""

    type: Literal["would_fire"]


class LateMarker(Event):
    """Held predictions are withdrawn: a marker came too late for them. Null what you hold of them."""

    type: Literal["late_marker"]
    first_seq: int
    last_seq: int


class Channels(Event):
    """The operator's mask, 1-based in stream order, and from when it holds."""

    type: Literal["channels"]
    masked: list[int]
    from_sample: int
    epoch: int | None
    sample_time: float | None


class ShadowSeen(BaseModel):
    """What a bundle did in shadow, against the one that runs; see streaming/shadow.py."""

    windows: int
    passed_by: int
    not_finite: int
    compared: int
    mean_difference: float | None
    mean_absolute_difference: float | None
    correlation: float | None
    constant: bool
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    problem: str


class Bundle(Event):
    """A bundle came into shadow, took over or went."""

    type: Literal["bundle"]
    what: Literal["candidate", "active", "dropped"]
    name: str
    bundle_sha256: str
    why: str
    shadow: ShadowSeen | None = Field(description="what it did in shadow, where it was")


EVENTS: tuple[type[Event], ...] = (
    StatusEvent,
    ArrayEvent,
    TriggerState,
    Stim,
    Report,
    Transition,
    Trigger,
    Sham,
    WouldFire,
    LateMarker,
    Channels,
    Bundle,
)
