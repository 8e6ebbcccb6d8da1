"""The loop against the simulated participant, hop by hop and without a clock: window → prediction → trigger → train.

Engine, limits and plan are those of the service. The rigs are in rigs.py, and the yardstick in ideal_gate.py. What the
service itself does in real time is told in the same words by live_session.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from streaming.favour import LEAST_ODDS
from streaming.limits import Limits, Pattern
from streaming.participant import draws
from streaming.participant.session import Session
from streaming.participant.stimulation import Delivered
from streaming.plan import Plan
from streaming.predictions import Prediction
from streaming.states import Event
from streaming.trigger import Trigger, TriggerEngine, TriggerSettings


class Rig(Protocol):
    """A participant, an instrument and a decoder. `session` holds the truth about percepts."""

    session: Session

    def look(self) -> Prediction:
        """The next hop's prediction."""

    def stimulate(self, pattern: Pattern, trigger_id: str) -> Delivered:
        """Give the train, as soon as one can after the samples that were seen."""


@dataclass(frozen=True, slots=True)
class Row:
    """One trial as it went. `truth` is the simulator's own probability of a percept, `state` the pre-stimulus state in
    standard deviations; nothing that decides sees either. `sample` is the newest one that the decision rests on.
    `perceived` is None where nobody answered, which only happens live."""

    session: int
    trial: int
    arm: str
    sham: bool
    electrode: int
    current_ua: float
    charge_uc: float
    sample: int
    onset_sample: int
    probability: float
    waited_s: float
    perceived: bool | None
    truth: float
    state: float


@dataclass(frozen=True, slots=True)
class Walked:
    """A session's trials, how long it lasted in its own time, and what was seen in its first minute: (seconds,
    probability or None, state)."""

    rows: tuple[Row, ...]
    seconds: float
    complete: bool
    hops: int
    excerpt: tuple[tuple[float, float | None, float], ...]
    push_us: tuple[float, ...]  # of each prediction that became a trigger: what the decision itself took


def walk(
    rig: Rig,
    number: int,
    limits: Limits,
    plan: Plan,
    thresholds: TriggerSettings,
    min_usable: int,
    excerpt_s: float = 0.0,
    longest_s: float = float("inf"),
) -> Walked:
    """One session, armed from its beginning, until its plan is done or what the limits or `longest_s` allow is over."""
    participant, settings = rig.session.participant, rig.session.participant.settings
    engine = TriggerEngine(thresholds, limits, plan, settings.rate_hz, min_usable)
    engine.handle(Event.REQUEST)
    engine.handle(Event.CONFIRM)
    rows: list[Row] = []
    excerpt: list[tuple[float, float | None, float]] = []
    push_us: list[float] = []
    seconds, hops = 0.0, 0
    while len(rows) < len(plan.trials) and not engine.overdue() and seconds < longest_s:
        prediction = rig.look()
        began = time.perf_counter_ns()
        decision = engine.push(prediction)
        took = time.perf_counter_ns() - began
        seconds, hops = prediction.sample_time, hops + 1
        if seconds <= excerpt_s:
            state = participant.latent.prestimulus((prediction.last_sample + 1) // settings.samples_per_bin)
            excerpt.append((seconds, prediction.probability, state))
        if isinstance(decision, Trigger):
            push_us.append(took / 1e3)
            rows.append(_carry_out(rig, number, decision))
    return Walked(tuple(rows), seconds, len(rows) == len(plan.trials), hops, tuple(excerpt), tuple(push_us))


def _carry_out(rig: Rig, number: int, trigger: Trigger) -> Row:
    """Give the train and hear the answer; in a sham nothing is given, and the participant may say yes all the same."""
    participant, settings = rig.session.participant, rig.session.participant.settings
    trial = trigger.trial
    onset, state = trigger.last_sample + 1, 0.0
    if trigger.pulse:
        delivered = rig.stimulate(trial.pattern, f"{number}-{trigger.trial_index}")
        onset, truth, perceived = delivered.onset_sample, delivered.probability, delivered.perceived
        state = delivered.prestimulus_state
    else:
        truth = settings.lapse
        rng = draws.at(settings.seed, "sham", settings.day, settings.session, trigger.trial_index)
        perceived = bool(rng.random() < truth)
        state = participant.latent.prestimulus(onset // settings.samples_per_bin)
    return Row(
        session=number,
        trial=trigger.trial_index,
        arm=trial.arm,
        sham=trial.sham,
        electrode=trial.pattern.electrode,
        current_ua=trial.pattern.current_ua,
        charge_uc=0.0 if trial.sham else trial.pattern.train_charge_uc,
        sample=trigger.last_sample,
        onset_sample=onset,
        probability=trigger.probability,
        waited_s=trigger.waited_s,
        perceived=perceived,
        truth=truth,
        state=state,
    )


def log_odds(probability: float) -> float:
    """Within the engine's bounds, so that a window that is sure of itself has some too."""
    bounded = min(max(probability, LEAST_ODDS), 1 - LEAST_ODDS)
    return math.log(bounded / (1 - bounded))


def mean_odds(seen: list[tuple[float, float | None]], smoothing_s: float) -> Iterator[tuple[float, float | None]]:
    """(seconds, probability) → (seconds, running mean of the log odds), as the engine smooths them; None begins anew.
    For figures and for calibration: what decides is the engine's own."""
    mean: float | None = None
    before = 0.0
    for seconds, probability in seen:
        if probability is None:
            mean = None
        else:
            odds = log_odds(probability)
            keep = 0.0 if mean is None or smoothing_s == 0 else math.exp(-(seconds - before) / smoothing_s)
            mean = odds if mean is None else odds + keep * (mean - odds)
        before = seconds
        yield seconds, mean
