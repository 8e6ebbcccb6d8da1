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
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from models.errors import OperatorFault
from streaming.budgets import NEVER, Dose, Progress
from streaming.favour import Favour
from streaming.limits import Budget, Limits
from streaming.plan import STATE_ARMS, Plan, Trial
from streaming.predictions import Prediction
from streaming.states import LIVE, TABLE, Event, State

MINUTE_S = 60.0


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
# To name a member of an Enum, or to look one up in a dict, runs Python code of the enum module, which a pulse would
# wait for. So the way from a prediction to a pulse has their names, and its one line of the table, at hand.
SHADOW, ARMED, REFRACTORY = State.SHADOW, State.ARMED, State.REFRACTORY
RECOVERED = TABLE[REFRACTORY][Event.RECOVER]


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


class Next(NamedTuple):
    """The trial that is next, and all that is known of its pulse before the prediction comes that may ask for it. Holds
    until something is spent or the state changes."""

    progress: Progress
    rested_from: float  # moments: when refractory is over
    trial: Trial | None = None  # None: there is no plan, or it is done
    dose: Dose | None = None
    by_state: bool = False  # it waits for a state, and not for a time
    wait: float = 0.0  # in samples, where it waits for a time
    barred: tuple[tuple[float, Reason], ...] = ()  # until which moment what bars the pulse, in the order of the checks
    lawful_from: float = NEVER  # when all of these are over


class Memory(NamedTuple):
    """What the next decision rests on beside its prediction, for whoever shows it; times in seconds, None where nothing
    is counted."""

    newest: int  # the newest sample of the epoch that was judged
    min_usable: int
    probability: float | None  # smoothed, where the settings say so
    in_state: bool
    dwell: int
    settled_s: float | None
    waited_s: float | None
    following: Next
    wait_s: float
    rested_in_s: float
    barred: frozenset[Reason]
    pulses_minute: int  # shams among them
    duty_s: float  # of the next trial's electrode in the last minute, with its pulse
    day_uc: float  # and of the day


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
        self._next: Next | None = None
        self.real = Progress(dict(day_uc or {}))
        self.shadow = Progress(dict(day_uc or {}))
        self._epoch: int | None = None
        self._offset = 0  # from a sample of the epoch to the running count
        self.now = -1  # the running count of samples, over all epochs
        self._armed_at = 0
        self._good_since: int | None = None
        self._waiting_since: int | None = None
        self._seen = Favour(settings.p_on, settings.p_off, settings.smoothing_s * rate_hz)

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
            self._armed_at = self.now
            self.forget()
        self.state, self._next = to, None
        return to

    # Predictions -----------------------------------------------------------------------------------------------------

    def push(self, prediction: Prediction, conditions: Conditions = GOOD) -> Decision:
        """The decision that this prediction asks for. A trigger is final: it is spent, whoever carries it out."""
        decision = self.decide(prediction, conditions)
        if isinstance(decision, Trigger):
            self.spend(decision)
        return decision

    def decide(self, prediction: Prediction, conditions: Conditions = GOOD) -> Decision:
        """The first half of `push`, for whoever lets the pulse leave before it is written down; `spend` must follow a
        trigger, whatever became of it, before anything else."""
        following = self._next or self.prepare()
        if prediction.epoch != self._epoch:
            self._begin(prediction)
        now = self._offset + prediction.last_sample
        newer = now > self.now
        if newer:
            self.now = now
        else:
            now = self.now
        if self.state is REFRACTORY and now >= following.rested_from:
            self.state = RECOVERED
        trial = following.trial
        favour = self._seen.push(trial, prediction.probability, now)
        probability = self._seen.probability
        bad = self._why_not_now(prediction, conditions, probability, newer)
        if bad is not None:
            self._good_since = self._waiting_since = None
            return Inhibited(bad)
        if self._good_since is None:
            self._good_since = now
        if now - self._good_since < self._settling:
            return Inhibited(Reason.UNSETTLED)
        if trial is None:
            return Inhibited(Reason.PLAN)
        lawful = now >= following.lawful_from
        if not lawful:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        unwanted = self._why_not_wanted(following, favour)
        if unwanted is not None:
            return Inhibited(unwanted)
        if lawful and self._waiting_since is not None and probability is not None:
            return Trigger(
                following.progress.next_trial,
                trial,
                prediction.seq,
                prediction.epoch,
                prediction.last_sample,
                prediction.sample_time,
                probability,
                self._seen.dwell,
                (now - self._waiting_since) / self._rate,
                self.state is SHADOW,
            )
        return Inhibited(self._why_not_lawful(following))

    def _begin(self, prediction: Prediction) -> None:
        """An epoch: its samples go on in the running count. What passed between two epochs is not known here and counts
        as nothing: refractory and rates only last longer by it."""
        self._epoch = prediction.epoch
        self._offset = self.now + 1 - prediction.last_sample

    def spend(self, trigger: Trigger) -> None:
        """Take it from the budgets, and go on with the next trial."""
        dose = self.prepare().dose
        assert dose is not None  # of the trial that was decided on
        self.progress.add(self.now, trigger.trial, dose, trigger.waited_s)
        self._next, self._waiting_since = None, None
        self._seen.leave()
        if not trigger.shadow:
            self.handle(Event.PULSE)

    def prepare(self) -> Next:
        """Look up what a pulse of the next trial rests on. `push` does where nobody has: asked for behind a prediction,
        it is done by the time the next one comes."""
        if self._next is not None:
            return self._next
        plan, limits, progress = self.plan, self.limits, self.progress
        progress.forget(self.now - self._minute)
        rested_from = progress.rested_from(self._refractory)
        index = progress.next_trial
        if plan is None or limits is None or index >= len(plan.trials):
            self._next = Next(progress, rested_from)
            return self._next
        trial = plan.trials[index]
        if trial.pattern not in self._listed:
            raise ValueError(f"trial {index}: found pattern {trial.pattern.name}, expected one of the limits'")
        dose = Dose.of(trial.pattern.quantised(*self._device_steps))
        by_state = trial.arm in STATE_ARMS
        barred = self._barred(limits.budget, dose, progress, rested_from)
        self._next = Next(
            progress,
            rested_from,
            trial,
            dose,
            by_state,
            wait=0.0 if by_state else plan.wait_s(index, progress.waits_s) * self._rate,
            barred=barred,
            lawful_from=max(until for until, _ in barred),
        )
        return self._next

    def resume(self, real: Progress, now: int, state: State) -> None:
        """Go on where another engine was: what it spent stays spent. Shadow begins anew."""
        self.real, self.shadow = real, Progress(dict(real.day_uc))
        self.now, self.state, self._next = now, state, None

    def forget(self) -> None:
        """Settling, mean and dwell begin anew: it was armed, or a late marker withdrew what was decided on."""
        self._good_since = self._waiting_since = None
        self._seen.begin()

    @property
    def progress(self) -> Progress:
        """That of the state it is in."""
        return self.shadow if self.state is State.SHADOW else self.real

    def memory(self) -> Memory:
        """As it stands; nothing is decided by it."""
        following, now, rate = self.prepare(), self.now, self._rate
        progress, since, dose = following.progress, now - self._minute, following.dose
        electrode, duty_s, uc = (None, 0.0, 0.0) if dose is None else (dose.electrode, dose.duration_s, dose.charge_uc)
        return Memory(
            newest=now - self._offset,
            min_usable=self._min_usable,
            probability=self._seen.probability,
            in_state=self._seen.inside,
            dwell=self._seen.dwell,
            settled_s=None if self._good_since is None else (now - self._good_since) / rate,
            waited_s=None if self._waiting_since is None else (now - self._waiting_since) / rate,
            following=following,
            wait_s=following.wait / rate,
            rested_in_s=max(0.0, following.rested_from - now) / rate,
            barred=frozenset(reason for until, reason in following.barred if not now >= until),
            pulses_minute=sum(moment > since for moment in progress.moments),
            duty_s=duty_s + sum(s for moment, of, s in progress.trains if of == electrode and moment > since),
            day_uc=uc if electrode is None else uc + progress.day_uc.get(electrode, 0.0),
        )

    def overdue(self) -> bool:
        """Armed for longer than the limits allow, by the stream's time."""
        if self.limits is None or self.state not in LIVE:
            return False
        return self.now - self._armed_at > self.limits.budget.armed_max_s * self._rate

    # The checks, in their order --------------------------------------------------------------------------------------

    def _why_not_now(
        self, prediction: Prediction, conditions: Conditions, probability: float | None, newer: bool
    ) -> Reason | None:
        """Each line asks for what must hold, so that what cannot be compared does not."""
        state = self.state
        if not (state is ARMED or state is REFRACTORY or state is SHADOW):
            return INERT[state]
        if probability is None:
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
        if not (conditions.lease or state is SHADOW):
            return Reason.LEASE
        if not (conditions.device or state is SHADOW):
            return Reason.DEVICE
        return None if conditions.journal else Reason.JOURNAL

    def _why_not_wanted(self, following: Next, favour: float) -> Reason | None:
        if following.by_state:
            if not self._seen.inside or not favour >= self.settings.p_on:
                return Reason.THRESHOLD
            return None if self._seen.dwell >= self.settings.dwell_hops else Reason.DWELL
        if self._waiting_since is None:
            return Reason.WAIT
        return None if self.now - self._waiting_since >= following.wait else Reason.WAIT

    def _why_not_lawful(self, following: Next) -> Reason:
        return next(reason for until, reason in following.barred if not self.now >= until)

    def _barred(
        self, budget: Budget, dose: Dose, progress: Progress, rested_from: float
    ) -> tuple[tuple[float, Reason], ...]:
        """Until which moment each limit bars the pulse."""
        return (
            (rested_from, Reason.REFRACTORY),
            (progress.rate_allows_from(budget.pulses_per_minute, self._minute), Reason.RATE),
            (progress.session_allows_from(budget.pulses_per_session), Reason.SESSION),
            (progress.duty_allows_from(dose, budget.duty * MINUTE_S, self._minute), Reason.DUTY),
            (progress.day_allows_from(dose, budget.charge_per_electrode_day_uc), Reason.DAY_CHARGE),
        )
