"""Each check of the trigger with its value and what it is held against: why it does or does not fire, for an operator.

The decode thread computes none of it. Whoever takes the status asks, from what the engine remembers and the newest
prediction; the order is that of the decision, the names are those of `Reason`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from streaming.limits import Budget
from streaming.predictions import Prediction
from streaming.states import LIVE, State
from streaming.trigger import Memory, Reason, TriggerSettings

MINUTE_S = 60.0
TELLING = (Reason.PROBABILITY, Reason.THRESHOLD, Reason.DWELL, Reason.WAIT)  # the arm of the next trial, or its outcome
Value = float | str | None


class Surroundings(NamedTuple):
    """What is not in the samples, as of now. `age_s` None: times have no age (a recording); `lease_age_s` None: nothing
    is armed."""

    age_s: float | None
    lease_age_s: float | None
    lease_inhibits_s: float
    device: str
    journal: bool


class Check(NamedTuple):
    """`ok` None: not asked in this state, or of this trial. Units: docs/wire.md."""

    reason: Reason
    ok: bool | None
    value: Value = None
    limit: Value = None


def checks(
    state: State,
    settings: TriggerSettings,
    memory: Memory,
    newest: Prediction | None,
    around: Surroundings,
    budget: Budget | None,
    trials: int,
    blind: bool,
) -> list[dict[str, Any]]:
    """In their order; under a blind plan without those that tell a trial's arm. Empty before the first prediction."""
    if newest is None:
        return []
    found = [*_of_the_data(state, settings, memory, newest, around), *_of_the_state(state, settings, memory)]
    if budget is not None:
        found += _of_the_budgets(memory, budget)
        done = memory.following.progress.next_trial
        found.append(Check(Reason.PLAN, done < trials, done, trials))
    shown = (one for one in found if not (blind and one.reason in TELLING))
    return [{"name": one.reason.name, "ok": one.ok, "value": one.value, "limit": one.limit} for one in shown]


def _of_the_data(
    state: State, settings: TriggerSettings, memory: Memory, newest: Prediction, around: Surroundings
) -> list[Check]:
    age_s, lease_age_s, live = around.age_s, around.lease_age_s, state in LIVE
    whole = newest.mode == "continuous" and not newest.flags
    return [
        Check(Reason.PROBABILITY, memory.probability is not None, memory.probability),
        Check(Reason.NOT_NEWER, newest.last_sample >= memory.newest),
        Check(Reason.AGE, age_s is None or abs(age_s) <= settings.max_age_s, age_s, settings.max_age_s),
        Check(Reason.WINDOW, whole, "whole" if whole else ", ".join(newest.flags) or newest.mode),
        Check(Reason.HISTORY, newest.full_history),
        Check(Reason.CHANNELS, newest.usable_channels >= memory.min_usable, newest.usable_channels, memory.min_usable),
        Check(
            Reason.LEASE,
            None if lease_age_s is None else lease_age_s <= around.lease_inhibits_s,
            lease_age_s,
            around.lease_inhibits_s,
        ),
        Check(Reason.DEVICE, around.device == "idle" if live else None, around.device, "idle"),
        Check(Reason.JOURNAL, around.journal),
    ]


def _of_the_state(state: State, settings: TriggerSettings, memory: Memory) -> list[Check]:
    following, trial, p = memory.following, memory.following.trial, memory.probability
    counts = state is State.SHADOW or state in LIVE
    by_state, by_time = trial is not None and following.by_state, trial is not None and not following.by_state
    favour = 1.0 - p if p is not None and trial is not None and trial.arm == "unfavourable" else p
    there = memory.in_state and favour is not None and favour >= settings.p_on
    settled_s, waited_s = memory.settled_s if counts else None, memory.waited_s if counts else None
    return [
        Check(
            Reason.UNSETTLED,
            settled_s is not None and settled_s >= settings.settled_s if counts else None,
            settled_s,
            settings.settled_s,
        ),
        Check(Reason.THRESHOLD, there if by_state else None, favour if by_state else None, settings.p_on),
        Check(
            Reason.DWELL,
            memory.dwell >= settings.dwell_hops if by_state else None,
            memory.dwell if by_state else None,
            settings.dwell_hops,
        ),
        Check(
            Reason.WAIT,
            waited_s is not None and waited_s >= memory.wait_s if by_time and counts else None,
            waited_s if by_time else None,
            memory.wait_s if by_time else None,
        ),
    ]


def _of_the_budgets(memory: Memory, budget: Budget) -> list[Check]:
    def check(reason: Reason, value: float, limit: float) -> Check:
        return Check(reason, reason not in memory.barred if memory.following.trial is not None else None, value, limit)

    pulses = memory.following.progress.pulses
    return [
        check(Reason.REFRACTORY, memory.rested_in_s, budget.refractory_s),
        check(Reason.RATE, memory.pulses_minute, budget.pulses_per_minute),
        check(Reason.SESSION, pulses, budget.pulses_per_session),
        check(Reason.DUTY, memory.duty_s / MINUTE_S, budget.duty),
        check(Reason.DAY_CHARGE, memory.day_uc, budget.charge_per_electrode_day_uc),
    ]
