"""What an operator may choose about the trigger, in a settings file or over HTTP: thresholds, and the plan of trials.

Nothing here is a limit. What may ever be asked for stands in the limits file, and no field leads there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from streaming.limits import Limits
from streaming.plan import Arm, Plan, make_plan, simple_plan
from streaming.trigger import TriggerSettings

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
MOST_TRIALS = 10_000  # in each arm: the ceiling of pulses in a session
MOST_WAITS = 2000  # a request's body and a journal's row hold 64 KiB
Wait = Annotated[float, Field(ge=0, le=3600)]


class Thresholds(BaseModel):
    """When a state counts as favourable; what is left out stays as it is."""

    model_config = STRICT
    p_on: float | None = None
    p_off: float | None = None
    dwell_hops: int | None = None
    smoothing_s: float | None = None

    def over(self, settings: TriggerSettings) -> TriggerSettings:
        """`settings`, changed where something is said.

        Raises:
            OperatorFault: outside what thresholds may be.
        """
        said = {name: getattr(self, name) for name in Thresholds.model_fields}
        return replace(settings, **{name: value for name, value in said.items() if value is not None})


class PlanSettings(BaseModel):
    """An interleaved schedule, see streaming/plan.py. `waits_s`: what yoked trials wait, those of another session
    (`phosphene journal waits`); `open_loop_s`: what open-loop trials wait."""

    model_config = STRICT
    arms: list[Arm] = Field(min_length=1, max_length=5)
    trials_per_arm: int = Field(ge=1, le=MOST_TRIALS)
    sham_fraction: float = Field(default=0.2, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)
    blind: bool = False
    waits_s: list[Wait] = Field(default=[], max_length=MOST_WAITS)
    open_loop_s: Wait = 5.0

    def plan(self, limits: Limits) -> Plan:
        """Raises as `make_plan`."""
        return make_plan(
            limits,
            tuple(self.arms),
            self.trials_per_arm,
            self.sham_fraction,
            self.seed,
            patterns=limits.patterns[:1],  # one pattern in every trial, so that arms differ in the moment alone
            blind=self.blind,
            waits_s=tuple(self.waits_s),
            open_loop_s=self.open_loop_s,
        )


def planner(settings: PlanSettings | None) -> partial[Plan]:
    """What makes the plan of given limits: without settings, favourable moments only."""
    return partial(simple_plan) if settings is None else partial(settings.plan)
