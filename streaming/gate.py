"""Between the decision and the current: who may arm, what must hold while armed, and the pulse itself.

The engine (trigger.py) decides from samples. The gate knows what is not in them: the operator's lease, the device, the
journal, the limits on disk, how old the newest sample is. It stamps them, asks, and carries a trigger out at once, on
the decode thread, before anything else happens with the prediction. It guards refractory, rate and duty once more on
the monotonic clock, because a stream that stalls or is doubled can lie about time. Commands come from other threads;
each holds the lock for microseconds, so that after `disarm` has returned nothing fires any more.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Literal, NamedTuple, Protocol

from models.errors import Fault, OperatorFault
from streaming.arming import GateSettings, Lease, why_not
from streaming.budgets import Dose
from streaming.checks import Surroundings, checks
from streaming.clock_guard import ClockGuard, Train
from streaming.gate_status import (
    Counts,
    Fields,
    GateStatistics,
    counts_status,
    device_status,
    engine_status,
    trigger_row,
    trigger_told,
)
from streaming.limits import Limits, Pattern
from streaming.matching import Decoding
from streaming.plan import Plan, simple_plan
from streaming.predictions import Prediction
from streaming.rules import Found, Rules, says
from streaming.states import LIVE, Event, State
from streaming.stimulators.markers import TriggerForm, state_marker, trigger_form
from streaming.stimulators.stimulator import NotSent, Status, Stimulator
from streaming.trigger import Conditions, Inhibited, Trigger, TriggerEngine, TriggerSettings

log = logging.getLogger("phosphene")
COUNTED_S = 1.0  # reasons are journalled as counts of so long: as rows of their own they would be all of the journal
ARMED_TOO_LONG = "armed for as long as the limits allow"
WATCHED = (State.SHADOW, State.ARMING, *LIVE)  # in which what is not in the samples is journalled
LOOKS_S = 0.02  # whoever only looks waits no longer for whoever holds it
ASKED_HOLDS_S = 0.05  # what lease, device and journal said behind a prediction holds so long for the next


class Journal(Protocol):
    """What the gate needs of the journal; none of it waits."""

    @property
    def healthy(self) -> bool: ...
    @property
    def next_id(self) -> str | None: ...
    def take_id(self) -> str | None: ...
    def write(self, kind: str, fields: Fields) -> bool: ...


class Asked(NamedTuple):
    """What the next prediction rests on beside its samples, asked for behind the one before: a pulse waits for none of
    it, and behind an inference, which empties the caches, each look would cost several times as much."""

    until: float  # moment of the monotonic clock beyond which they are asked anew
    conditions: Conditions  # where the newest sample is fresh
    free_from: float  # moment of the monotonic clock: before it refractory, rate or duty, counted on it, bar a pulse
    form: TriggerForm | None  # the marker of the trial that is next, with the id that is next


class Gate:
    """Owns the engine and the device.

    Args:
        read_limits: the limits file, read anew; raises OperatorFault where it is not valid or there is none.
        device: carries pulses out; `announce` sends a marker of the trigger stream.
        journal: see Journal.
        ledger_uc: microcoulombs that each electrode of the limits has had today, by earlier runs.
        pulses_ago: of earlier runs: (seconds ago, electrode, seconds of the train); see Ledger.pulses_ago.
        happened: told of each transition and trigger, on whichever thread; it must not wait.
        clock: the clock of `sample_time`.
    """

    def __init__(
        self,
        read_limits: Callable[[], Limits],
        device: Stimulator,
        journal: Journal,
        settings: GateSettings | None = None,
        thresholds: TriggerSettings | None = None,
        make_plan: Callable[[Limits], Plan] = simple_plan,
        ledger_uc: Callable[[Limits], Mapping[int, float]] = lambda limits: {},
        pulses_ago: Sequence[tuple[float, int | None, float]] = (),
        announce: Callable[[str], None] = lambda marker: None,
        happened: Callable[[str, Fields], None] = lambda kind, fields: None,
        clock: Callable[[], float] = time.monotonic,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self.thresholds = settings or GateSettings(), thresholds or TriggerSettings()
        self._device, self._journal, self._ledger_uc = device, journal, ledger_uc
        self._rules = Rules(read_limits, make_plan)
        self._announce, self._happened = announce, happened
        self._clock, self._monotonic = clock, monotonic
        self._lock = threading.RLock()
        self._decoding: Decoding | None = None
        self._lease = Lease()
        self._counts = Counts()
        self._shadow_ids = itertools.count()
        began = self._monotonic()
        self._guard = ClockGuard(Train(began - ago_s, electrode, s) for ago_s, electrode, s in pulses_ago)
        self._last_seq = -1
        self._last_prediction = self._limits_seen = self._armed_since = self._counted = self._monotonic()
        self._conditions: Conditions | None = None
        self._newest: Prediction | None = None  # for whoever looks
        self._drifts = False  # as the journal was told last
        self._left: str | None = None  # the id of the pulse that left with this prediction
        self._asked: Asked | None = None  # None: to be asked anew
        self._because = "nobody has armed it since the start"
        self._still: dict[str, str] = {}  # decode threads that stand still, and in which sentence
        self.engine = self._build()
        self._seen = self._device_status()  # the device, when it was asked last
        self._shown = self._status(), GateStatistics.of(self.engine.state, self._counts, None)

    # On the decode thread --------------------------------------------------------------------------------------------

    def decoding(self, decoding: Decoding) -> None:
        """A stream begins, or begins again, or another bundle does."""
        with self._lock:
            before, self._decoding = self._decoding, decoding
            self._journal.write("connection", {**asdict(decoding), "after_seq": self._last_seq})
            if before != decoding:
                self._lose("another stream or bundle")
                self._rebuild()

    def withdrawn(self) -> None:
        """A late marker changed what the newest predictions rested on."""
        with self._lock:
            self.engine.forget()

    def predict(self, prediction: Prediction) -> str | None:
        """The decision, and the pulse if there is to be one. Where one left, its id: its artifact is on the way."""
        with self._lock:
            self._left = None
            try:
                self._predict(prediction)
            except Exception as error:  # whatever it is: no pulse more, and none until a person has looked
                log.exception("the trigger failed")
                self._fail(f"the trigger failed: {error}")
            return self._left

    def _predict(self, prediction: Prediction) -> None:
        now = self._monotonic()
        if now - self._last_prediction > self.settings.stream_disarms_s:
            self._silent(now)
        self._last_prediction = now
        asked = self._asked
        if asked is None or now > asked.until:
            asked = self._ask(now, self._device_status())
        age_s = self._clock() - prediction.sample_time
        conditions = asked.conditions
        if not (-self.thresholds.max_age_s <= age_s <= self.thresholds.max_age_s or self._recorded()):
            conditions = conditions._replace(fresh=False)
        if prediction.flags or self._drifts or conditions != self._conditions:
            self._note(prediction, conditions)
        decision = self.engine.decide(prediction, conditions)
        self._last_seq, self._newest = prediction.seq, prediction
        if isinstance(decision, Inhibited):
            self._counts.inhibit(decision.reason)
            if self.engine.overdue():
                self._lose(ARMED_TOO_LONG)
        else:
            dose = self.engine.prepare().dose
            assert dose is not None  # of the trial that was decided on
            moment = self._monotonic()
            age_s += moment - now  # whatever held the thread up since, nothing leaves late
            try:
                fired = self._fire(decision, dose, asked, moment, age_s)
            finally:
                self.engine.spend(decision)  # whatever became of it
            self._account(decision, dose, *fired, conditions, now, age_s)
        self._watch(now)  # behind the pulse, which waits for nothing; the conditions have said the same

    def _note(self, prediction: Prediction, conditions: Conditions) -> None:
        """Journal what is not in the samples, where it changed."""
        if self.engine.state not in WATCHED:
            return
        arrival = [flag for flag in prediction.flags if flag in ("overload", "backlog")]  # not in the samples either
        drifts = "drift" in prediction.flags  # in no window's samples: told when it changes, and it lasts
        if arrival or drifts != self._drifts or conditions != self._conditions:
            place = {"seq": prediction.seq, "epoch": prediction.epoch, "last_sample": prediction.last_sample}
            flags = [*arrival, "drift"] if drifts else arrival
            self._journal.write("conditions", {**place, "flags": flags, **conditions.as_fields()})
            self._conditions, self._drifts = conditions, drifts

    def _fire(
        self, trigger: Trigger, dose: Dose, asked: Asked, now: float, age_s: float
    ) -> tuple[str | None, str, str]:
        """(id, why it was not sent, what went wrong once it was)."""
        trial = trigger.trial
        if trigger.shadow or trial.sham:
            return f"shadow-{next(self._shadow_ids)}", "", ""
        if self.engine.overdue():
            return None, ARMED_TOO_LONG, ""
        if now < asked.free_from and (refused := self._too_soon(dose, now)):
            return None, refused, ""
        if not (abs(age_s) <= self.thresholds.max_age_s or self._recorded()):
            return None, f"late: the newest sample was {age_s * 1e3:.0f} ms old when the pulse was to leave", ""
        trigger_id = self._journal.take_id()
        if trigger_id is None:
            return None, "no reserved id", ""
        form = asked.form
        if form is None or form.trigger_id != trigger_id or form.pattern is not trial.pattern:
            form = self._form("trigger", trigger_id, trial.pattern)
        marker = form.fill(trigger.seq, trigger.probability, trigger.sample_time)
        self._guard.add(now, dose)
        self._left = trigger_id  # until it is known that it did not: its artifact is expected, whatever fails from here
        try:
            self._device.fire(trial.pattern, trigger_id, marker)
        except NotSent as fault:
            self._left = None
            return trigger_id, str(fault), ""
        except Fault as fault:  # whether a pulse went out is not known: it counts, and its artifact is expected
            return trigger_id, "", str(fault)
        return trigger_id, "", ""

    def _too_soon(self, dose: Dose, now: float) -> str:
        """Refractory, rate and duty once more, on our own clock; the sentence where one does not hold."""
        return self._guard.why_not(self.engine.limits.budget, dose, now) if self.engine.limits is not None else ""

    def _form(self, event: Literal["trigger", "would_fire"], trigger_id: str, pattern: Pattern) -> TriggerForm:
        sha256 = self.engine.limits.sha256 if self.engine.limits is not None else ""
        return trigger_form(event, trigger_id, pattern, sha256, self.blind)

    def _account(
        self,
        trigger: Trigger,
        dose: Dose,
        trigger_id: str | None,
        refused: str,
        problem: str,
        conditions: Conditions,
        now: float,
        age_s: float,
    ) -> None:
        """All that is written and told of it."""
        limits, plan = self.engine.limits, self.engine.plan
        assert limits is not None
        assert plan is not None
        left = trigger.pulse and not refused
        kind = "would_fire" if trigger.shadow else "trigger"
        lease_age_s = now - self._lease.renewed
        row = trigger_row(
            trigger, dose, trigger_id, refused, age_s, lease_age_s, conditions, limits, self.thresholds, self._decoding
        )
        if not self._journal.write(kind, row):
            self._lose("the journal does not write")
        if refused:
            if trigger_id is not None:
                self._journal.write("outcome", {"trigger_id": trigger_id, "result": "not_fired"})
            self._counts.dropped += 1
            self._lose(refused)
        elif left:
            self._counts.triggers += 1
        else:
            self._counts.shams += trigger.trial.sham and not trigger.shadow
            self._counts.would_fire += trigger.shadow
            if trigger.shadow and not trigger.trial.sham:
                form = self._form("would_fire", trigger_id or "", trigger.trial.pattern)
                self._announce(form.fill(trigger.seq, trigger.probability, trigger.sample_time))
        if problem:
            self._fail(f"stimulator: {problem}")
        told = trigger_told(trigger, trigger_id, refused, plan.blind)
        sham = trigger.trial.sham and not trigger.shadow and not plan.blind
        self._happened("sham" if sham else kind, told)

    # Commands --------------------------------------------------------------------------------------------------------

    def request(self, limits_sha256: str) -> tuple[str, float]:
        """First step of arming: (token for `confirm`, seconds that it holds).

        Raises:
            OperatorFault: another operator arms, other limits than these, or something that forbids arming.
        """
        found = self._rules.read()  # the disk is never waited for with the lock held
        with self._lock:
            if self.engine.state in (State.ARMING, *LIVE):
                raise OperatorFault(f"the trigger is {self.engine.state} already; one operator at a time")
            self._rebuild(found)
            limits = self.engine.limits
            if limits is not None and limits_sha256 != limits.sha256:
                raise OperatorFault(
                    f"limits: found sha256 {limits_sha256[:12]}…, expected {limits.sha256[:12]}… of the file as it is "
                    "now; look at it again, then arm"
                )
            if problems := self.problems():
                raise OperatorFault("cannot be armed: " + "; ".join(problems))
            self._move(Event.REQUEST, "requested")
            self._lease = Lease.asked_for(self._monotonic() + self.settings.arming_s)
            return self._lease.token, self.settings.arming_s

    def confirm(self, token: str) -> str:
        """Second step. Returns the token with which the operator's client renews its lease twice a second.

        Raises:
            OperatorFault: too late, or another's token. RigFault: the device does not arm.
        """
        limits = self._open_request(token)
        try:
            self._device.arm(limits)  # without the lock: a serial line may take its time, and predictions go on
        except Fault:
            with self._lock:
                if self.engine.state is State.ARMING:
                    self._move(Event.EXPIRE, "the device does not arm")
            raise
        with self._lock:
            try:
                self._open_request(token)
            except Fault:
                self._device.disarm()
                raise
            self._lease = Lease.granted(self._monotonic())
            self._last_prediction = self._armed_since = self._monotonic()
            plan = self._rules.plan
            self._journal.write("plan", {"sha256": self._rules.plan_sha256, "seed": plan.seed if plan else 0})
            self._move(Event.CONFIRM, "confirmed")
            return self._lease.token

    def _open_request(self, token: str) -> Limits:
        """The limits of the request that this token confirms, where nothing forbids arming."""
        with self._lock:
            self._watch(self._monotonic())
            limits = self.engine.limits
            if self.engine.state is not State.ARMING or not self._lease.belongs_to(token) or limits is None:
                raise OperatorFault("this confirmation belongs to no request that is open; request it again")
            if problems := self.problems():
                self._move(Event.EXPIRE, "arming was refused")
                raise OperatorFault("cannot be armed: " + "; ".join(problems))
            return limits

    def heartbeat(self, token: str) -> None:
        """Renew the lease.

        Raises:
            OperatorFault: not armed, or another's lease.
        """
        with self._lock:
            self._watch(self._monotonic())
            if self.engine.state not in LIVE or not self._lease.belongs_to(token):
                raise OperatorFault("this lease is over; the trigger is " + self.engine.state)
            self._lease.renewed = self._monotonic()

    def disarm(self, reason: str = "asked to") -> None:
        """From any state, by anyone, at once; a fault stays latched."""
        with self._lock:
            self._move(Event.DISARM, reason)

    def stop(self, reason: str = "an operator's stop") -> None:
        """Disarm and latch."""
        with self._lock:
            self._move(Event.STOP, reason)

    def clear(self, reason: str) -> None:
        """An operator has looked at the fault."""
        with self._lock:
            self._move(Event.CLEAR, reason)

    def shadow(self) -> None:
        """Decide and say so; nothing leaves.

        Raises:
            OperatorFault: no limits, or not possible from this state.
        """
        found = self._rules.read()
        with self._lock:
            if self.engine.state in (State.DISARMED, State.SHADOW):
                self._rebuild(found)
            self._move(Event.SHADOW, "shadow")

    def configure(self, thresholds: TriggerSettings, make_plan: Callable[[Limits], Plan] | None = None) -> None:
        """Other thresholds, or another plan, which begins with its first trial.

        Raises:
            OperatorFault: while armed.
        """
        planned = self._rules.planned(make_plan) if make_plan is not None else None
        with self._lock:
            if self.engine.state in (State.ARMING, *LIVE):
                raise OperatorFault(f"settings: the trigger is {self.engine.state}; disarm it first")
            self.thresholds = thresholds
            if make_plan is not None:
                self._rules.use(make_plan, planned)
                self.engine.real.next_trial, self.engine.real.waits_s = 0, []
            self._journal.write("settings", asdict(thresholds))
            if self.engine.state is State.SHADOW:
                self._move(Event.DISARM, "other settings")
            self._rebuild()

    def watch(self) -> None:
        """Ten times a second, from a thread that is not the decode thread: what must not wait for a prediction."""
        now = self._monotonic()
        look = now - self._limits_seen >= self.settings.limits_looked_at_s
        found = self._rules.read() if look else None
        with self._lock:
            try:
                self._watch(now)
                self._silent(now)
                if found is not None:
                    self._limits_seen = now
                    self._compare_limits(found)
            except Exception as error:
                log.exception("the trigger's watch failed")
                self._fail(f"the trigger's watch failed: {error}")
            if now - self._counted >= COUNTED_S:
                self._count(now)

    def acknowledged(self, trigger_id: str) -> None:
        """A stimulation marker answered one of our triggers."""
        mark = getattr(self._device, "marked", None)
        if mark is not None:
            mark(trigger_id)

    def close(self) -> None:
        """Disarm, then let the device go."""
        with self._lock:
            self._count(self._monotonic())
            if self.engine.state is not State.FAULT:
                self._move(Event.DISARM, "the service ends")
        self._device.close()

    # What can be seen ------------------------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """Why it cannot be armed now; empty where it can. Asks the device."""
        return self._problems(self._device_status())

    def _problems(self, status: Status) -> list[str]:
        silent = self._monotonic() - self._last_prediction > self.settings.stream_disarms_s
        decoding = None if silent else self._decoding
        found = why_not(self.engine.limits, decoding, self._device.capabilities, status, self._journal.healthy)
        found += self._still.values()
        return [self._rules.problem, *found] if self._rules.problem else found

    def stands_still(self, who: str, why: str) -> None:
        """Nobody arms it while one of its decode threads does, as whoever watches them says; empty: it moves again."""
        others = {other: sentence for other, sentence in self._still.items() if other != who}
        self._still = {**others, who: why} if why else others

    def statistics(self) -> GateStatistics:
        """As `status`: of a moment ago, where somebody holds the trigger."""
        if self._lock.acquire(timeout=LOOKS_S):
            try:
                told = GateStatistics.of(self.engine.state, self._counts, self._lease_age_s())
                self._shown = self._shown[0], told
            finally:
                self._lock.release()
        return self._shown[1]

    def shown(self, prediction: Prediction) -> Prediction:
        """What clients see of it: no probability while a blind experiment is armed."""
        return prediction._replace(probability=None) if self.blind and self.engine.state in LIVE else prediction

    @property
    def blind(self) -> bool:
        return self.engine.plan is not None and self.engine.plan.blind

    def status(self) -> Fields:
        """The body of GET /v1/trigger, with the device as it was when it was asked last, within a tenth of a second.
        While somebody holds the trigger, such as a device that does not come back from a pulse, it is what was told
        before: whoever asks, the event loop above all, goes on."""
        if self._lock.acquire(timeout=LOOKS_S):
            try:
                self._shown = self._status(), self._shown[1]
            finally:
                self._lock.release()
        return self._shown[0]

    def _status(self) -> Fields:
        with self._lock:
            now, state = self._monotonic(), self.engine.state
            rate_hz = self._decoding.rate_hz if self._decoding else None
            device, lease_age_s = self._seen, self._lease_age_s()
            settings, plan, limits = self.thresholds, self.engine.plan, self.engine.limits
            memory, newest, recorded, blind = self.engine.memory(), self._newest, self._recorded(), self.blind
            told = {
                "state": state.value,
                "because": self._because,
                "problems": self._problems(device) if state in (State.DISARMED, State.SHADOW) else [],
                "confirm_s": max(0.0, self._lease.expires - now) if state is State.ARMING else None,
                "lease_age_s": lease_age_s,
                "armed_s": now - self._armed_since if state in LIVE else None,
                "device": device_status(self._device.capabilities, device),
                "pulses_minute": self._guard.in_minute(now),
                **engine_status(self.engine, self._rules, self.thresholds, rate_hz),
                **counts_status(self._counts, blind),
            }
        age_s = None if recorded or newest is None else self._clock() - newest.sample_time
        inhibits_s = self.settings.lease_inhibits_s
        around = Surroundings(age_s, lease_age_s, inhibits_s, device.state, self._journal.healthy)
        budget, trials = limits.budget if limits else None, len(plan.trials) if plan else 0
        return told | {"checks": checks(state, settings, memory, newest, around, budget, trials, blind)}

    def _lease_age_s(self) -> float | None:
        return self._monotonic() - self._lease.renewed if self.engine.state in LIVE else None

    # Moves -----------------------------------------------------------------------------------------------------------

    def _move(self, event: Event, reason: str) -> None:
        before = self.engine.state
        after = self.engine.handle(event)
        self._asked = None
        if before in LIVE and after not in LIVE:
            try:
                self._device.disarm()
            except Exception:  # the state says so whatever the device answers
                log.exception("the stimulator did not disarm")
        if before is after or {before, after} == set(LIVE):
            return
        self._conditions, self._because = None, reason
        fields = {"from": before.value, "to": after.value, "event": event.value, "reason": reason}
        self._journal.write("transition", {**fields, "after_seq": self._last_seq})
        log.info("trigger %s → %s: %s", before, after, reason, extra={"event": "trigger", "fields": fields})
        if after is State.ARMED:
            self._announce(state_marker("armed", reason))
        elif after is State.FAULT:
            self._announce(state_marker("fault", reason))
        elif before in (State.ARMING, *LIVE):
            self._announce(state_marker("disarmed", reason))
        self._happened("transition", fields)

    def _lose(self, reason: str) -> None:
        """What the arming rested on is gone."""
        if self.engine.state in (State.ARMING, *LIVE):
            self._move(Event.LOSE, reason)

    def _fail(self, reason: str) -> None:
        if self.engine.state is not State.FAULT:
            self._move(Event.FAIL, reason)

    def _recorded(self) -> bool:
        """A recording's times have no age; it never drives a real device."""
        return self._decoding is not None and self._decoding.recorded

    def _count(self, now: float) -> None:
        """Journal why predictions did not become triggers, since the last time."""
        self._counted = now
        if self._counts.reasons:
            self._journal.write("inhibited", dict(self._counts.reasons))
            self._counts.reasons.clear()

    def _silent(self, now: float) -> None:
        if now - self._last_prediction > self.settings.stream_disarms_s:
            self._lose(f"no prediction for {now - self._last_prediction:.1f} s")

    def _watch(self, now: float) -> None:
        """Lease, arming, device and journal, as of now."""
        state = self.engine.state
        if state is State.ARMING and now > self._lease.expires:
            self._move(Event.EXPIRE, "not confirmed in time")
        if state in LIVE:
            if now - self._lease.renewed > self.settings.lease_disarms_s:
                self._lose("the operator's client fell silent")
            if not self._journal.healthy:
                self._lose("the journal does not write")
        status = self._device_status()
        if state in LIVE and status.state == "fault":
            self._fail(f"stimulator: {status.problem}")
        self._ask(now, status)

    def _ask(self, now: float, status: Status) -> Asked:
        """What the next prediction rests on beside its samples, and the marker that it may ask for."""
        lease_ends = self._lease.renewed + self.settings.lease_inhibits_s
        lease, until = now <= lease_ends, now + ASKED_HOLDS_S
        trigger_id = self._journal.next_id
        journal = self._journal.healthy and trigger_id is not None
        conditions = Conditions(True, lease, status.state == "idle", journal)
        following, limits = self.engine.prepare(), self.engine.limits
        free_from, form = math.inf, None
        if following.trial is not None and following.dose is not None and limits is not None:
            free_from = self._guard.free_from(limits.budget, following.dose)
            if trigger_id is not None:
                form = self._form("trigger", trigger_id, following.trial.pattern)
                form.fill(self._last_seq, 0.7, now)  # for nothing: what ran a hop ago is warm
        self._asked = Asked(min(until, lease_ends) if lease else until, conditions, free_from, form)
        return self._asked

    def _device_status(self) -> Status:
        """How the device is. The outcomes that it tells, each once, go into the journal, whoever asked."""
        status = self._device.status()
        for outcome in status.outcomes:
            told = {"trigger_id": outcome.trigger_id, "result": outcome.result, "known_at": outcome.t_mono}
            self._journal.write("outcome", told)
        self._seen = status
        return status

    def _compare_limits(self, found: Found) -> None:
        if says(found) != says(self._rules.found):
            self._lose("the limits file changed")
            if self.engine.state is State.SHADOW:
                self._move(Event.DISARM, "the limits file changed")
            self._rebuild(found)

    def _rebuild(self, found: Found | None = None) -> None:
        """A new engine, with the limits that were `found` on disk just now; what was spent stays spent, and a fault
        stays latched."""
        state, real, plan_sha256 = self.engine.state, self.engine.real, self._plan_sha256
        if state in (State.ARMING, *LIVE):
            return
        if found is not None:
            self._rules.look(found)
            if state is State.SHADOW and self._rules.limits is None:
                self._move(Event.DISARM, "there are no valid limits any more")
                state = State.DISARMED
        engine = self._build()
        same_plan = engine.plan is not None and plan_sha256 == self._plan_sha256
        real = replace(real, next_trial=real.next_trial if same_plan else 0)
        for electrode, uc in self._ledger(engine.limits).items():
            real.day_uc.setdefault(electrode, uc)
        possible = engine.limits is not None or state is State.FAULT
        engine.resume(real, self.engine.now, state if possible else State.DISARMED)
        self.engine, self._asked = engine, None
        self._journal.write("engine", self._made_of(engine))

    def _made_of(self, engine: TriggerEngine) -> Fields:
        """All that a new engine starts from, for a replay; rate and channels stand with the connection."""
        real, capabilities = engine.real, self._device.capabilities
        return {
            "after_seq": self._last_seq,
            "now": engine.now,
            "thresholds": asdict(self.thresholds),
            "limits_sha256": engine.limits.sha256 if engine.limits else None,
            "plan_sha256": self._rules.plan_sha256 if engine.plan else None,
            "device_steps": [capabilities.current_step_ua, capabilities.time_step_us],
            "day_uc": dict(real.day_uc),
            "next_trial": real.next_trial,
            "waits": len(real.waits_s),
        }

    def _build(self) -> TriggerEngine:
        self._plan_sha256 = self._rules.plan_sha256
        decoding, capabilities = self._decoding, self._device.capabilities
        return TriggerEngine(
            self.thresholds,
            self._rules.limits,
            self._rules.plan,
            rate_hz=decoding.rate_hz if decoding else 30_000.0,
            min_usable_channels=decoding.min_usable_channels if decoding else 1,
            device_steps=(capabilities.current_step_ua, capabilities.time_step_us),
            day_uc=self._ledger(self._rules.limits),
        )

    def _ledger(self, limits: Limits | None) -> Mapping[int, float]:
        return {} if limits is None else self._ledger_uc(limits)
