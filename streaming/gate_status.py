"""What can be seen of the gate: the body of GET /v1/trigger, the counts for metrics, and what the journal is told of a
trigger. Pure: the gate hands over its parts, under its lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from streaming.budgets import Dose
from streaming.limits import Limits
from streaming.matching import Decoding
from streaming.rules import Rules
from streaming.states import State
from streaming.stimulators.stimulator import Capabilities, Status
from streaming.trigger import Conditions, Reason, Trigger, TriggerEngine, TriggerSettings

Fields = dict[str, Any]
HIDDEN = ("probability", "arm")  # in a blind experiment


@dataclass(slots=True)
class Counts:
    triggers: int = 0
    would_fire: int = 0
    shams: int = 0
    dropped: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # since they were last written
    inhibited: Counter[str] = field(default_factory=Counter)  # ever
    last_reason: str = Reason.DISARMED.name

    def inhibit(self, reason: Reason) -> None:
        name = reason.name
        self.reasons[name] += 1
        self.inhibited[name] += 1
        self.last_reason = name


@dataclass(frozen=True, slots=True)
class GateStatistics:
    """Counts since the start; `inhibited` by the name of the reason. `lease_age_s`: of the client of an armed trigger,
    else None."""

    state: State
    triggers: int
    would_fire: int
    shams: int
    dropped: int
    inhibited: Mapping[str, int]
    lease_age_s: float | None

    @classmethod
    def of(cls, state: State, counts: Counts, lease_age_s: float | None) -> GateStatistics:
        pulses = counts.triggers, counts.would_fire, counts.shams, counts.dropped
        return cls(state, *pulses, dict(counts.inhibited), lease_age_s)


def engine_status(engine: TriggerEngine, rules: Rules, settings: TriggerSettings, rate_hz: float | None) -> Fields:
    """Limits, plan and budgets as they stand. `rate_hz` None: there is no stream."""
    return {
        "limits": rules.told if engine.limits is not None else None,
        "thresholds": asdict(settings),
        "plan": _plan(engine, rules),
        "refractory_s": _refractory_left_s(engine, settings, rate_hz),
        "pulses_session": engine.real.pulses,
        "charge_today_uc": {str(e): uc for e, uc in sorted(engine.real.day_uc.items())},
    }


def counts_status(counts: Counts, blind: bool) -> Fields:
    """In a blind experiment nothing in it tells the condition, as far as counts of what was delivered do not: those
    are never hidden."""
    return {
        "reason": "" if blind else counts.last_reason,
        "why": "" if blind else Reason[counts.last_reason].value,
        "triggers": counts.triggers,
        "would_fire": counts.would_fire,
        "shams": None if blind else counts.shams,
        "dropped": counts.dropped,
    }


def device_status(capabilities: Capabilities, status: Status) -> Fields:
    return {
        "name": capabilities.name,
        "simulated": capabilities.simulated,
        "state": status.state,
        "problem": status.problem,
    }


def _plan(engine: TriggerEngine, rules: Rules) -> Fields | None:
    plan = engine.plan
    if plan is None:
        return None
    trials, following = len(plan.trials), engine.progress.next_trial
    return {"sha256": rules.plan_sha256, "blind": plan.blind, "trials": trials, "next": following}


def _refractory_left_s(engine: TriggerEngine, settings: TriggerSettings, rate_hz: float | None) -> float | None:
    """By the stream's own time; None where none runs."""
    last, limits = engine.progress.last_pulse, engine.limits
    if last is None or limits is None or rate_hz is None:
        return None
    refractory_s = limits.budget.refractory_s + settings.max_age_s  # see TriggerEngine
    left_s = refractory_s - (engine.now - last) / rate_hz
    return left_s if left_s > 0 else None


# For the journal, and whoever listens --------------------------------------------------------------------------------


def trigger_row(
    trigger: Trigger,
    dose: Dose,
    trigger_id: str | None,
    refused: str,
    age_s: float,
    lease_age_s: float,
    conditions: Conditions,
    limits: Limits,
    settings: TriggerSettings,
    decoding: Decoding | None,
) -> Fields:
    """All that a trigger, a sham or a would-fire rested on, as it was asked for. The train's charge and
    seconds are those that the device delivers: the budgets of later runs begin with them."""
    trial = trigger.trial
    return {
        "trigger_id": trigger_id,
        "seq": trigger.seq,
        "epoch": trigger.epoch,
        "last_sample": trigger.last_sample,
        "sample_time": trigger.sample_time,
        "probability": trigger.probability,
        "age_s": age_s,
        "lease_age_s": lease_age_s if trigger.pulse else None,
        "electrode": trial.pattern.electrode,
        "current_ua": trial.pattern.current_ua,
        "pattern": trial.pattern.name,
        "charge_nc": trial.pattern.charge_nc,
        "train_charge_uc": dose.charge_uc,
        "train_s": dose.duration_s,
        "arm": trial.arm,
        "sham": trial.sham,
        "trial": trigger.trial_index,
        "draw": trial.draw,
        "dwell": trigger.dwell,
        "waited_s": trigger.waited_s,
        "refused": refused,
        "limits_sha256": limits.sha256,
        "bundle_sha256": decoding.bundle_sha256 if decoding else "",
        "p_on": settings.p_on,
        "p_off": settings.p_off,
        "dwell_hops": settings.dwell_hops,
        "conditions": conditions.as_fields(),
    }


def trigger_told(trigger: Trigger, trigger_id: str | None, refused: str, blind: bool) -> Fields:
    """What pages and streams hear of it."""
    pattern = trigger.trial.pattern
    told: Fields = {
        "trigger_id": trigger_id,
        "seq": trigger.seq,
        "sample_time": trigger.sample_time,
        "trial": trigger.trial_index,
        "electrode": pattern.electrode,
        "current_ua": pattern.current_ua,
        "refused": refused,
    }
    return told | (dict.fromkeys(HIDDEN) if blind else {"probability": trigger.probability, "arm": trigger.trial.arm})
