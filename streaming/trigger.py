"""May we stimulate now? Pure: predictions in, decisions out, one positive comparison at the end.

    (state × event) → state    the table in states.py; the diagram in docs/safety.md is drawn from it
    prediction → Trigger | Inhibited(reason)    every check must hold; the first that does not is the reason

Time is the stream's own: refractory, rates and waits are counted in samples, so that a recorded session replays. What
is not in the samples (how old they are, whether the operator is there, device, journal) comes with each prediction as
`Conditions` and is journalled when it changes; with the journal a session replays to the bit, without one these are
taken as good. Whoever carries a trigger out checks refractory and rate once more, on a clock of its own (gate.py).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from models.errors import OperatorFault
from streaming.limits import Limits, Pattern
from streaming.plan import STATE_ARMS, Plan, Trial
from streaming.predictions import Prediction
from streaming.states import LIVE, TABLE, Event, State

MINUTE_S = 60.0
LEAST_ODDS = 1e-6  # beyond them one window would rule the mean for many time constants


class Reason(Enum):
    """Why a prediction did not become a trigger, in the order of the checks."""

    DISARMED = "nobody has armed the trigger"
    ARMING = "armed, but not confirmed yet"
    FAULT = "a fault is latched until an operator clears it"
    PROBABILITY = "there is no probability that is finite and in [0, 1]"
    NOT_NEWER = "the window is not newer than the one before"
    AGE = "the newest sample is more than 50 ms old"
    WINDOW = "the window is not whole"
    HISTORY = "the normaliser has not seen its full history yet"
    CHANNELS = "fewer channels are usable than the bundle needs"
    LEASE = "the operator's client has been silent for over 1.5 s"
    DEVICE = "the stimulator is not idle and ready"
    JOURNAL = "the journal does not write, or has no reserved id left"
    UNSETTLED = "all of this has been good for less than 1 s"
    THRESHOLD = "the state is not the one that the trial waits for"
    DWELL = "the state has not lasted long enough"
    WAIT = "the trial's time has not come"
    REFRACTORY = "the last pulse is too recent"
    RATE = "the pulses of this minute are spent"
    SESSION = "the pulses of this session are spent"
    DUTY = "this electrode's share of the minute is spent"
    DAY_CHARGE = "this electrode's charge of the day is spent"
    PLAN = "every planned trial is done"


INERT = {State.DISARMED: Reason.DISARMED, State.ARMING: Reason.ARMING, State.FAULT: Reason.FAULT}


class Conditions(NamedTuple):
    """What is not in the samples, as it stood when a prediction was judged."""

    fresh: bool = True  # the newest sample is at most `max_age_s` old
    lease: bool = True
    device: bool = True
    journal: bool = True

    def as_fields(self) -> dict[str, bool]:
        """For the journal (`asdict` costs twenty times as much)."""
        return {"fresh": self.fresh, "lease": self.lease, "device": self.device, "journal": self.journal}


GOOD = Conditions()


@dataclass(frozen=True, slots=True)
class TriggerSettings:
    """When a state counts as favourable, and what a prediction must rest on.

    A state is entered at `p_on` and left below `p_off` (unfavourable: 1 − p_on and 1 − p_off); it must have lasted
    `dwell_hops` predictions, and hold at the moment of the decision. With `smoothing_s` what is compared is the
    probability of the running mean of the log odds, which forgets with this time constant: a state that lasts seconds
    is read better from several windows than from one (docs/experiment.md). It begins anew behind every null.
    """

    p_on: float = 0.70
    p_off: float = 0.60
    dwell_hops: int = 3
    smoothing_s: float = 0.0
    max_age_s: float = 0.050
    settled_s: float = 1.0

    def __post_init__(self) -> None:
        if not 0.5 <= self.p_off < self.p_on <= 0.999:
            raise OperatorFault(
                f"thresholds: found p_on {self.p_on} and p_off {self.p_off}, expected 0.5 ≤ p_off < p_on ≤ 0.999"
            )
        if not 1 <= self.dwell_hops <= 50 or not 0 < self.max_age_s <= 0.2 or not 1.0 <= self.settled_s <= 60.0:
            raise OperatorFault("trigger: expected dwell_hops in 1-50, max_age_s up to 0.2 and settled_s in 1-60")
        if not 0 <= self.smoothing_s <= 10.0:
            raise OperatorFault(f"trigger: found smoothing_s {self.smoothing_s}, expected 0 to 10 s")


class Trigger(NamedTuple):
    """Stimulate now. Where `shadow`, the word is would-fire; where the trial is a sham, nothing leaves either.
    `probability` is the one that was compared: smoothed, where the settings say so."""

    trial_index: int
    trial: Trial
    seq: int
    epoch: int
    last_sample: int
    sample_time: float
    probability: float
    dwell: int
    waited_s: float
    shadow: bool

    @property
    def pulse(self) -> bool:
        """Whether current is to flow."""
        return not self.shadow and not self.trial.sham


@dataclass(frozen=True, slots=True)
class Inhibited:
    reason: Reason


Decision = Trigger | Inhibited


class Dose(NamedTuple):
    """What one pulse takes from the budgets, as the device delivers it."""

    electrode: int
    charge_uc: float
    duration_s: float

    @classmethod
    def of(cls, pattern: Pattern) -> Dose:
        return cls(pattern.electrode, pattern.train_charge_uc, pattern.pulse.duration_s)


@dataclass(slots=True)
class Progress:
    """How far the plan is, and what its pulses took. Moments are samples of the engine's running count.

    The real one lives as long as the run, through every disarming; shadow begins with a new one each time.
    """

    day_uc: dict[int, float] = field(default_factory=dict)  # by electrode
    next_trial: int = 0
    waits_s: list[float] = field(default_factory=list)  # that favourable trials needed
    pulses: int = 0
    last_pulse: int | None = None
    moments: deque[int] = field(default_factory=deque)  # of the last minute
    trains: deque[tuple[int, int, float]] = field(default_factory=deque)  # (moment, electrode, seconds), last minute

    def add(self, moment: int, trial: Trial, dose: Dose, waited_s: float) -> None:
        """A sham takes its place in the rates, so that arms stay alike; it takes no charge."""
        self.next_trial += 1
        self.pulses += 1
        self.last_pulse = moment
        self.moments.append(moment)
        if trial.arm == "favourable":
            self.waits_s.append(waited_s)
        if not trial.sham:
            self.trains.append((moment, dose.electrode, dose.duration_s))
            self.day_uc[dose.electrode] = self.day_uc.get(dose.electrode, 0.0) + dose.charge_uc

    def forget(self, before: int) -> None:
        while self.moments and self.moments[0] <= before:
            self.moments.popleft()
        while self.trains and self.trains[0][0] <= before:
            self.trains.popleft()

    def duty_s(self, electrode: int) -> float:
        return sum(seconds for _, of, seconds in self.trains if of == electrode)


class TriggerEngine:
    """The state and the decision of one run.

    Args:
        settings: thresholds.
        limits: what may be asked for; None: it can neither be armed nor shadow.
        plan: the trials; their patterns are among the limits'.
        rate_hz: samples a second of the stream.
        min_usable_channels: what the bundle declares.
        device_steps: (current in µA, time in µs) of the device, by which charge is counted; 0: none.
        day_uc: microcoulombs that each electrode has had today, unknown outcomes included.
    """

    def __init__(
        self,
        settings: TriggerSettings,
        limits: Limits | None,
        plan: Plan | None,
        rate_hz: float,
        min_usable_channels: int,
        device_steps: tuple[float, float] = (0.0, 0.0),
        day_uc: Mapping[int, float] | None = None,
    ) -> None:
        self.settings, self.limits, self.plan = settings, limits, plan
        self.state = State.DISARMED
        self._rate = rate_hz
        # One decision leaves later behind its newest sample than another, by up to max_age_s; so much closer may two
        # pulses be on the clock than they are in the samples, and on the clock, too, every limit holds.
        slack = math.ceil(settings.max_age_s * rate_hz)
        self._minute = math.ceil(MINUTE_S * rate_hz) + slack
        self._refractory = math.ceil(limits.budget.refractory_s * rate_hz) + slack if limits is not None else 0
        self._settling = settings.settled_s * rate_hz
        self._min_usable = min_usable_channels
        self._listed = frozenset(limits.patterns if limits is not None else ())
        self._device_steps = device_steps
        self._next: tuple[int, Trial, Dose] | None = None  # the trial that is next, looked up once
        self.real = Progress(dict(day_uc or {}))
        self.shadow = Progress(dict(day_uc or {}))
        self._epoch: int | None = None
        self._offset = 0  # from a sample of the epoch to the running count
        self.now = -1  # the running count of samples, over all epochs
        self._armed_at = 0
        self._good_since: int | None = None
        self._waiting_since: int | None = None
        self._in_state = False
        self._log_odds: tuple[float, int] | None = None  # the running mean, and the moment that it belongs to
        self.dwell = 0

    # The table -------------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> State:
        """One transition.

        Raises:
            OperatorFault: not possible from this state, or there are no limits to arm with. Nothing changed.
        """
        to = TABLE[self.state].get(event)
        if to is None:
            possible = ", ".join(sorted(TABLE[self.state]))
            raise OperatorFault(f"{event} while {self.state}: not possible; expected one of {possible}")
        if to in (State.SHADOW, State.ARMING) and (self.limits is None or self.plan is None):
            raise OperatorFault("there is no valid limits file, so nothing may be asked for; name one (docs/safety.md)")
        if to is State.SHADOW or event is Event.CONFIRM:
            self.shadow = Progress(dict(self.real.day_uc))
            self._armed_at, self._good_since, self._waiting_since = self.now, None, None
            self._in_state, self._log_odds, self.dwell = False, None, 0
        self.state = to
        return to

    # Predictions -----------------------------------------------------------------------------------------------------

    def push(self, prediction: Prediction, conditions: Conditions = GOOD) -> Decision:
        """The decision that this prediction asks for. A trigger is final: it is spent, whoever carries it out."""
        newer = self._follow(prediction)
        progress = self.progress
        rested = progress.last_pulse is None or self.now - progress.last_pulse >= self._refractory
        if rested and self.state is State.REFRACTORY:
            self.handle(Event.RECOVER)
        plan, limits = self.plan, self.limits
        trial, dose = self._next_trial(progress.next_trial)
        probability = self._smooth(prediction.probability)
        favour = self._dwell(trial, probability)
        bad = self._why_not_now(prediction, conditions, probability is not None, newer)
        if bad is not None:
            self._good_since = self._waiting_since = None
            return Inhibited(bad)
        if self._good_since is None:
            self._good_since = self.now
        if self.now - self._good_since < self._settling:
            return Inhibited(Reason.UNSETTLED)
        if plan is None or limits is None or trial is None or dose is None:
            return Inhibited(Reason.PLAN)
        unlawful = self._why_not_lawful(limits, dose, progress, rested)
        if unlawful is not None:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = self.now
        reason = self._why_not_wanted(plan, trial, favour, progress) or unlawful
        if reason is None and self._waiting_since is not None and probability is not None:
            return self._fire(trial, dose, prediction, probability, self._waiting_since, progress)
        return Inhibited(reason or Reason.PLAN)

    @property
    def progress(self) -> Progress:
        """That of the state it is in."""
        return self.shadow if self.state is State.SHADOW else self.real

    def overdue(self) -> bool:
        """Armed for longer than the limits allow, by the stream's time."""
        if self.limits is None or self.state not in LIVE:
            return False
        return self.now - self._armed_at > self.limits.budget.armed_max_s * self._rate

    # The checks, in their order --------------------------------------------------------------------------------------

    def _why_not_now(
        self, prediction: Prediction, conditions: Conditions, is_probability: bool, newer: bool
    ) -> Reason | None:
        """Each line asks for what must hold, so that what cannot be compared does not."""
        if self.state in INERT:
            return INERT[self.state]
        if not is_probability:
            return Reason.PROBABILITY
        if not newer:
            return Reason.NOT_NEWER
        if not conditions.fresh:
            return Reason.AGE
        if not (prediction.mode == "continuous" and not prediction.flags):
            return Reason.WINDOW
        if not prediction.full_history:
            return Reason.HISTORY
        if not prediction.usable_channels >= self._min_usable:
            return Reason.CHANNELS
        if not (conditions.lease or self.state is State.SHADOW):
            return Reason.LEASE
        if not (conditions.device or self.state is State.SHADOW):
            return Reason.DEVICE
        return None if conditions.journal else Reason.JOURNAL

    def _why_not_wanted(self, plan: Plan, trial: Trial, favour: float, progress: Progress) -> Reason | None:
        if trial.arm in STATE_ARMS:
            if not self._in_state or not favour >= self.settings.p_on:
                return Reason.THRESHOLD
            return None if self.dwell >= self.settings.dwell_hops else Reason.DWELL
        if self._waiting_since is None:
            return Reason.WAIT
        wait = plan.wait_s(progress.next_trial, progress.waits_s) * self._rate
        return None if self.now - self._waiting_since >= wait else Reason.WAIT

    def _why_not_lawful(self, limits: Limits, dose: Dose, progress: Progress, rested: bool) -> Reason | None:
        budget = limits.budget
        progress.forget(self.now - self._minute)
        if not rested:
            return Reason.REFRACTORY
        if not len(progress.moments) < budget.pulses_per_minute:
            return Reason.RATE
        if not progress.pulses < budget.pulses_per_session:
            return Reason.SESSION
        if not progress.duty_s(dose.electrode) + dose.duration_s <= budget.duty * MINUTE_S:
            return Reason.DUTY
        day_uc = progress.day_uc.get(dose.electrode, 0.0) + dose.charge_uc
        return None if day_uc <= budget.charge_per_electrode_day_uc else Reason.DAY_CHARGE

    # Small parts -----------------------------------------------------------------------------------------------------

    def _follow(self, prediction: Prediction) -> bool:
        """Advance the running count; True where the window is newer than the last. What passed between two epochs is
        not known here and counts as nothing: refractory and rates only last longer by it."""
        if prediction.epoch != self._epoch:
            self._epoch = prediction.epoch
            self._offset = self.now + 1 - prediction.last_sample
        at = self._offset + prediction.last_sample
        newer = at > self.now
        self.now = max(self.now, at)
        return newer

    def _next_trial(self, index: int) -> tuple[Trial, Dose] | tuple[None, None]:
        """Found with the first prediction behind a pulse, long before the next one may leave."""
        if self._next is None or self._next[0] != index:
            if self.plan is None or index >= len(self.plan.trials):
                return None, None
            trial = self.plan.trials[index]
            if trial.pattern not in self._listed:
                raise ValueError(f"trial {index}: found pattern {trial.pattern.name}, expected one of the limits'")
            self._next = index, trial, Dose.of(trial.pattern.quantised(*self._device_steps))
        return self._next[1], self._next[2]

    def _smooth(self, probability: float | None) -> float | None:
        """The probability of the running mean of the log odds; None for what is none, which ends the mean."""
        if not (isinstance(probability, float) and 0.0 <= probability <= 1.0):  # nor for NaN
            self._log_odds = None
            return None
        tau_s = self.settings.smoothing_s
        if tau_s == 0:
            return probability
        bounded = min(max(probability, LEAST_ODDS), 1.0 - LEAST_ODDS)
        odds = math.log(bounded / (1.0 - bounded))
        if self._log_odds is not None:
            mean, at = self._log_odds
            odds += math.exp(-(self.now - at) / (tau_s * self._rate)) * (mean - odds)
        self._log_odds = odds, self.now
        return 1.0 / (1.0 + math.exp(-odds))

    def _dwell(self, trial: Trial | None, probability: float | None) -> float:
        """How much the state is the one that the trial's arm waits for, 0 where that is not known. Counts for how many
        predictions in a row it has been."""
        if trial is None or probability is None:
            self._in_state, self.dwell = False, 0
            return 0.0
        favour = 1.0 - probability if trial.arm == "unfavourable" else probability
        if favour >= self.settings.p_on:
            self._in_state = True
        elif favour < self.settings.p_off:
            self._in_state = False
        self.dwell = self.dwell + 1 if self._in_state else 0
        return favour

    def _fire(
        self,
        trial: Trial,
        dose: Dose,
        prediction: Prediction,
        probability: float,
        waiting_since: int,
        progress: Progress,
    ) -> Trigger:
        shadow = self.state is State.SHADOW
        waited_s = (self.now - waiting_since) / self._rate
        trigger = Trigger(
            trial_index=progress.next_trial,
            trial=trial,
            seq=prediction.seq,
            epoch=prediction.epoch,
            last_sample=prediction.last_sample,
            sample_time=prediction.sample_time,
            probability=probability,
            dwell=self.dwell,
            waited_s=waited_s,
            shadow=shadow,
        )
        progress.add(self.now, trial, dose, waited_s)
        self._waiting_since, self.dwell, self._in_state = None, 0, False
        if not shadow:
            self.handle(Event.PULSE)
        return trigger
