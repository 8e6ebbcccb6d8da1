"""The trigger as clients see it: GET /v1/trigger, the event `trigger_state`, and what becomes of a planned trial."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from server.messages.predictions import Probability
from streaming.limits import Budget
from streaming.states import State
from streaming.trigger import TriggerSettings


class LimitsTold(BaseModel):
    """What may ever be asked for, from the limits file."""

    name: str
    participant: str
    sha256: str
    simulated_only: bool
    electrodes: list[int]
    currents_ua: list[float]
    budget: Budget


class PlanTold(BaseModel):
    """The schedule: how many trials, and which comes next."""

    sha256: str
    blind: bool
    trials: int
    next: int


class Device(BaseModel):
    """The stimulator."""

    name: str
    simulated: bool
    state: Literal["idle", "busy", "not_armed", "fault"]
    problem: str


class ArmHits(BaseModel):
    """One arm so far; `rate` and its 95 % interval (Wilson) are null without an answer."""

    arm: str
    pulses: int
    shams: int
    answered: int
    perceived: int
    rate: float | None
    interval: tuple[float, float] | None


class CheckTold(BaseModel):
    """One check of the trigger; docs/wire.md has the units of each."""

    name: str
    ok: bool | None = Field(description="null where it is not asked")
    value: float | str | None
    limit: float | str | None


class TriggerStatus(BaseModel):
    """Where the trigger stands, and why it does not fire. docs/wire.md has each key."""

    state: State
    because: str
    problems: list[str] = Field(description="why it cannot be armed; empty where it can")
    confirm_s: float | None
    lease_age_s: float | None
    armed_s: float | None
    device: Device
    pulses_minute: int
    limits: LimitsTold | None
    thresholds: TriggerSettings
    plan: PlanTold | None
    refractory_s: float | None
    pulses_session: int
    charge_today_uc: dict[str, float] = Field(description="microcoulombs by electrode")
    reason: str
    why: str
    triggers: int
    would_fire: int
    shams: int | None = Field(description="null under a blind plan")
    dropped: int
    checks: list[CheckTold] = Field(description="in the order of the decision; empty before the first prediction")
    hits: list[ArmHits]


class Preview(BaseModel):
    """POST /v1/trigger/preview: how often these thresholds would have fired on the held predictions."""

    p_on: float
    p_off: float
    dwell_hops: int
    smoothing_s: float
    minutes: float = Field(description="in which it could have fired")
    would_fire: int
    per_minute: float | None
    mean_wait_s: float | None
    times: list[float] = Field(description="the `sample_time` of each")


class Trial(BaseModel):
    """A planned trial came due."""

    trigger_id: str | None = Field(description="null under a blind plan, and where no id was taken")
    seq: int
    sample_time: float
    trial: int
    electrode: int
    current_ua: float
    refused: str = Field(description="why nothing left although it should have; else empty")
    probability: Probability = Field(description="null under a blind plan")
    arm: str | None = Field(description="null under a blind plan")


class ConfirmToken(BaseModel):
    """POST /v1/trigger/arm: what the second step must bring, within `expires_s`."""

    confirm_token: str
    expires_s: float


class Lease(BaseModel):
    """POST /v1/trigger/confirm: armed, for as long as the lease is renewed every `renew_s`."""

    lease_token: str
    renew_s: float
    inhibited_after_s: float
    disarmed_after_s: float


class Beaten(BaseModel):
    """POST /v1/trigger/heartbeat."""

    state: State
