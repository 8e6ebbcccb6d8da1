"""Between the decision and the current: who may arm, what must hold while armed, and the pulse itself.

The engine (trigger.py) decides from samples. The gate knows what is not in them: the operator's lease, the device, the
journal, the limits on disk, how old the newest sample is. It stamps them, asks, and carries a trigger out at once, on
the decode thread, before anything else happens with the prediction. It guards refractory and rate once more on the
monotonic clock, because a stream that stalls or is doubled can lie about time. Commands come from other threads; each
holds the lock for microseconds, so that after `disarm` has returned nothing fires any more.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from models.errors import Fault, OperatorFault
from streaming.limits import Limits
from streaming.matching import Decoding
from streaming.plan import Plan, simple_plan
from streaming.predictions import Prediction
from streaming.states import LIVE, Event, State
from streaming.stimulators.markers import state_marker, trigger_marker
from streaming.stimulators.stimulator import NotSent, Status, Stimulator
from streaming.trigger import Conditions, Inhibited, Progress, Reason, Trigger, TriggerEngine, TriggerSettings

log = logging.getLogger("phosphene")

Fields = dict[str, Any]
HIDDEN = ("probability", "arm")  # in a blind experiment


class Journal(Protocol):
    """What the gate needs of the journal; none of it waits."""

    @property
    def healthy(self) -> bool: ...
    @property
    def ids_left(self) -> int: ...
    def take_id(self) -> str | None: ...
    def write(self, kind: str, fields: Fields) -> bool: ...


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How long things may be silent, in seconds of the monotonic clock."""

    lease_inhibits_s: float = 1.5
    lease_disarms_s: float = 3.0
    arming_s: float = 10.0
    stream_disarms_s: float = 2.0
    limits_looked_at_s: float = 0.5


@dataclass(slots=True)
class _Lease:
    """The operator's client: a request that awaits its confirmation, then whoever renews."""

    token: str = ""
    renewed: float = float("-inf")
    expires: float = float("-inf")


@dataclass(slots=True)
class _Counts:
    triggers: int = 0
    would_fire: int = 0
    shams: int = 0
    dropped: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # since they were last written
    inhibited: Counter[str] = field(default_factory=Counter)  # ever
    last_reason: str = Reason.DISARMED.name


@dataclass(frozen=True, slots=True)
class GateStatistics:
    """Counts since the start; `inhibited` by the name of the reason."""

    state: State
    triggers: int
    would_fire: int
    shams: int
    dropped: int
    inhibited: Mapping[str, int]


class Gate:
    """Owns the engine and the device.

    Args:
        read_limits: the limits file, read anew; raises OperatorFault where it is not valid or there is none.
        device: carries pulses out; `announce` sends a marker of the trigger stream.
        journal: see Journal.
        ledger_uc: microcoulombs that each electrode of the limits has had today, by earlier runs.
        pulses_ago_s: how long ago pulses of earlier runs were, of the last minute.
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
        pulses_ago_s: Sequence[float] = (),
        announce: Callable[[str], None] = lambda marker: None,
        happened: Callable[[str, Fields], None] = lambda kind, fields: None,
        clock: Callable[[], float] = time.monotonic,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self.thresholds = settings or GateSettings(), thresholds or TriggerSettings()
        self._read_limits, self._device, self._journal = read_limits, device, journal
        self._make_plan, self._ledger_uc = make_plan, ledger_uc
        self._announce, self._happened = announce, happened
        self._clock, self._monotonic = clock, monotonic
        self._lock = threading.RLock()
        self._decoding: Decoding | None = None
        self._lease = _Lease()
        self._counts = _Counts()
        self._shadow_ids = itertools.count()
        self._fired = deque(sorted(self._monotonic() - ago_s for ago_s in pulses_ago_s))  # of the last minute
        self._last_seq = -1
        self._last_prediction = self._limits_seen = self._armed_since = self._monotonic()
        self._conditions: Conditions | None = None
        self._device_idle = False  # as asked behind the last prediction: `fire` asks the device itself once more
        self._limits_problem = ""
        self._planned: tuple[str, Plan, str] | None = None  # the limits' hash, their plan, its hash
        self._because = "nobody has armed it since the start"
        self.engine = self._build()

    # On the decode thread --------------------------------------------------------------------------------------------

    def decoding(self, decoding: Decoding) -> None:
        """A stream begins, or begins again, or another bundle does."""
        with self._lock:
            before, self._decoding = self._decoding, decoding
            self._journal.write("connection", {**asdict(decoding), "after_seq": self._last_seq})
            if before != decoding:
                self._lose("another stream or bundle")
                self._rebuild()

    def predict(self, prediction: Prediction) -> str | None:
        """The decision, and the pulse if there is to be one. Where one left, its id: its artifact is on the way."""
        with self._lock:
            try:
                return self._predict(prediction)
            except Exception as error:  # whatever it is: no pulse, and none until a person has looked
                log.exception("the trigger failed")
                self._fail(f"the trigger failed: {error}")
                return None

    def _predict(self, prediction: Prediction) -> str | None:
        now = self._monotonic()
        self._silent(now)
        self._last_prediction = now
        conditions = self._stamp(prediction, now)
        decision = self.engine.push(prediction, conditions)
        self._last_seq = prediction.seq
        if isinstance(decision, Inhibited):
            self._counts.reasons[decision.reason.name] += 1
            self._counts.inhibited[decision.reason.name] += 1
            self._counts.last_reason = decision.reason.name
            if self.engine.overdue():
                self._lose("armed for as long as the limits allow")
            left = None
        else:
            left = self._carry_out(decision, conditions, now)
        self._watch(now)  # behind the pulse, which waits for nothing; the conditions have said the same
        return left

    def _stamp(self, prediction: Prediction, now: float) -> Conditions:
        """What is not in the samples, now; journalled where it changed."""
        age_s = self._clock() - prediction.sample_time
        conditions = Conditions(
            fresh=abs(age_s) <= self.thresholds.max_age_s or self._recorded(),
            lease=now - self._lease.renewed <= self.settings.lease_inhibits_s,
            device=self._device_idle,
            journal=self._journal.healthy and self._journal.ids_left > 0,
        )
        arrival = [flag for flag in prediction.flags if flag in ("overload", "backlog")]  # not in the samples either
        told = arrival or conditions != self._conditions
        if told and self.engine.state in (State.SHADOW, State.ARMING, *LIVE):
            place = {"seq": prediction.seq, "epoch": prediction.epoch, "last_sample": prediction.last_sample}
            self._journal.write("conditions", {**place, "flags": arrival, **conditions.as_fields()})
            self._conditions = conditions
        return conditions

    def _carry_out(self, trigger: Trigger, conditions: Conditions, now: float) -> str | None:
        limits, decoding = self.engine.limits, self._decoding
        assert limits is not None
        trial = trigger.trial
        age_s = self._clock() - trigger.sample_time
        trigger_id: str | None = f"shadow-{next(self._shadow_ids)}"
        refused = ""
        if trigger.pulse:
            refused = self._guard(limits, now, age_s)
            trigger_id = None if refused else self._journal.take_id()
            if trigger_id is None:
                refused = refused or "no reserved id"
        plan = self.engine.plan
        marker = trigger_marker(
            "trigger" if trigger.pulse else "would_fire",
            trigger_id=trigger_id or "",
            seq=trigger.seq,
            probability=None if plan and plan.blind else trigger.probability,
            pattern=trial.pattern,
            limits_sha256=limits.sha256,
            sample_time=trigger.sample_time,
        )
        left = False
        problem = ""
        if trigger.pulse and trigger_id is not None:
            self._fired.append(now)
            try:
                self._device.fire(trial.pattern, trigger_id, marker)
                left = True
            except NotSent as fault:
                refused = str(fault)
            except Fault as fault:  # whether a pulse went out is not known: it counts, and its artifact is expected
                left, problem = True, str(fault)
        kind = "would_fire" if trigger.shadow else "trigger"
        self._journal.write(
            kind,
            {
                "trigger_id": trigger_id,
                "seq": trigger.seq,
                "epoch": trigger.epoch,
                "last_sample": trigger.last_sample,
                "sample_time": trigger.sample_time,
                "probability": trigger.probability,
                "age_s": age_s,
                "lease_age_s": now - self._lease.renewed if trigger.pulse else None,
                "electrode": trial.pattern.electrode,
                "current_ua": trial.pattern.current_ua,
                "pattern": trial.pattern.name,
                "charge_nc": trial.pattern.charge_nc,
                "train_charge_uc": trial.pattern.train_charge_uc,
                "arm": trial.arm,
                "sham": trial.sham,
                "trial": trigger.trial_index,
                "draw": trial.draw,
                "dwell": trigger.dwell,
                "waited_s": trigger.waited_s,
                "refused": refused,
                "limits_sha256": limits.sha256,
                "bundle_sha256": decoding.bundle_sha256 if decoding else "",
                "p_on": self.thresholds.p_on,
                "p_off": self.thresholds.p_off,
                "dwell_hops": self.thresholds.dwell_hops,
                "conditions": conditions.as_fields(),
            },
        )
        if refused:
            if trigger_id is not None:
                self._journal.write("outcome", {"trigger_id": trigger_id, "result": "not_fired"})
            self._counts.dropped += 1
            self._lose(refused)
        elif left:
            self._counts.triggers += 1
        else:
            self._counts.shams += trial.sham
            self._counts.would_fire += trigger.shadow
            if trigger.shadow:
                self._announce(marker)
        if problem:
            self._fail(f"stimulator: {problem}")
        blind = plan is not None and plan.blind
        told: Fields = {
            "trigger_id": trigger_id,
            "seq": trigger.seq,
            "sample_time": trigger.sample_time,
            "trial": trigger.trial_index,
            "electrode": trial.pattern.electrode,
            "current_ua": trial.pattern.current_ua,
            "refused": refused,
        }
        told |= {key: None for key in HIDDEN} if blind else {"probability": trigger.probability, "arm": trial.arm}
        self._happened("sham" if trial.sham and not blind else kind, told)
        return trigger_id if left else None

    def _guard(self, limits: Limits, now: float, age_s: float) -> str:
        """Refractory, rate and age once more, on our own clocks; the sentence where one does not hold."""
        while self._fired and now - self._fired[0] >= 60.0:
            self._fired.popleft()
        if self._fired and now - self._fired[-1] < limits.budget.refractory_s:
            return f"the stream runs faster than the clock: {now - self._fired[-1]:.3f} s since the last pulse"
        if len(self._fired) >= limits.budget.pulses_per_minute:
            return "the stream runs faster than the clock: this minute's pulses are spent"
        if abs(age_s) > self.thresholds.max_age_s and not self._recorded():
            return f"late: the newest sample was {age_s * 1e3:.0f} ms old when the pulse was to leave"
        return ""

    # Commands --------------------------------------------------------------------------------------------------------

    def request(self, limits_sha256: str) -> tuple[str, float]:
        """First step of arming: (token for `confirm`, seconds that it holds).

        Raises:
            OperatorFault: another operator arms, other limits than these, or something that forbids arming.
        """
        with self._lock:
            if self.engine.state in (State.ARMING, *LIVE):
                raise OperatorFault(f"the trigger is {self.engine.state} already; one operator at a time")
            self._rebuild()
            limits = self.engine.limits
            if limits is not None and limits_sha256 != limits.sha256:
                raise OperatorFault(
                    f"limits: found sha256 {limits_sha256[:12]}…, expected {limits.sha256[:12]}… of the file as it is "
                    "now; look at it again, then arm"
                )
            if problems := self.problems():
                raise OperatorFault("cannot be armed: " + "; ".join(problems))
            self._move(Event.REQUEST, "requested")
            self._lease = _Lease(secrets.token_urlsafe(16), expires=self._monotonic() + self.settings.arming_s)
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
            self._lease = _Lease(secrets.token_urlsafe(16), renewed=self._monotonic())
            self._last_prediction = self._armed_since = self._monotonic()
            plan = self._planned
            self._journal.write("plan", {"sha256": plan[2] if plan else "", "seed": plan[1].seed if plan else 0})
            self._move(Event.CONFIRM, "confirmed")
            return self._lease.token

    def _open_request(self, token: str) -> Limits:
        """The limits of the request that this token confirms, where nothing forbids arming."""
        with self._lock:
            self._watch(self._monotonic())
            limits = self.engine.limits
            same = secrets.compare_digest(token.encode(), self._lease.token.encode())
            if self.engine.state is not State.ARMING or not same or limits is None:
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
            if self.engine.state not in LIVE or not secrets.compare_digest(token.encode(), self._lease.token.encode()):
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
        with self._lock:
            if self.engine.state in (State.DISARMED, State.SHADOW):
                self._rebuild()
            self._move(Event.SHADOW, "shadow")

    def configure(self, thresholds: TriggerSettings, make_plan: Callable[[Limits], Plan] | None = None) -> None:
        """Other thresholds, or another plan, which begins with its first trial.

        Raises:
            OperatorFault: while armed.
        """
        with self._lock:
            if self.engine.state in (State.ARMING, *LIVE):
                raise OperatorFault(f"settings: the trigger is {self.engine.state}; disarm it first")
            self.thresholds = thresholds
            if make_plan is not None:
                self._make_plan, self._planned = make_plan, None
                self.engine.real.next_trial, self.engine.real.waits_s = 0, []
            self._journal.write("settings", asdict(thresholds))
            if self.engine.state is State.SHADOW:
                self._move(Event.DISARM, "other settings")
            self._rebuild()

    def watch(self) -> None:
        """Ten times a second, from a thread that is not the decode thread: what must not wait for a prediction."""
        now = self._monotonic()
        look = now - self._limits_seen >= self.settings.limits_looked_at_s
        found = self._limits_on_disk() if look else None  # the disk is never waited for with the lock held
        with self._lock:
            try:
                self._watch(now)
                self._silent(now)
                if look:
                    self._limits_seen = now
                    self._compare_limits(found)
            except Exception as error:
                log.exception("the trigger's watch failed")
                self._fail(f"the trigger's watch failed: {error}")
            if self._counts.reasons:
                self._journal.write("inhibited", dict(self._counts.reasons))
                self._counts.reasons.clear()

    def acknowledged(self, trigger_id: str) -> None:
        """A stimulation marker answered one of our triggers."""
        mark = getattr(self._device, "marked", None)
        if mark is not None:
            mark(trigger_id)

    def close(self) -> None:
        """Disarm, then let the device go."""
        with self._lock:
            if self.engine.state is not State.FAULT:
                self._move(Event.DISARM, "the service ends")
        self._device.close()

    # What can be seen ------------------------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """Why it cannot be armed now; empty where it can."""
        limits, decoding, capabilities = self.engine.limits, self._decoding, self._device.capabilities
        found = [self._limits_problem] if self._limits_problem else []
        if not self._journal.healthy:
            found.append("the journal does not write")
        status = self._device_status()
        if status.state == "fault":
            found.append(f"the stimulator {capabilities.name} is at fault: {status.problem}")
        elif status.problem:
            found.append(f"stimulator {capabilities.name}: {status.problem}")
        if decoding is None or self._monotonic() - self._last_prediction > self.settings.stream_disarms_s:
            return [*found, "no predictions come"]
        if decoding.source != "live" and not capabilities.simulated:
            found.append(f"a {decoding.source} source never drives a real device ({capabilities.name})")
        if decoding.source == "live" and decoding.fitted_to == "simulated":
            found.append(f"the bundle {decoding.model} was fitted on simulation; calibrate one on this participant")
        if decoding.not_calibrated:
            found.append(decoding.not_calibrated)
        if decoding.mode != "continuous":
            found.append("the trigger rests on continuous mode")
        if limits is not None and limits.simulated_only and not capabilities.simulated:
            found.append("these limits are for the simulated participant only")
        if limits is not None and decoding.participant is not None and limits.participant != decoding.participant:
            found.append(f"limits are of participant {limits.participant!r}, the stream of {decoding.participant!r}")
        return found

    def statistics(self) -> GateStatistics:
        with self._lock:
            counts = self._counts
            return GateStatistics(
                self.engine.state,
                counts.triggers,
                counts.would_fire,
                counts.shams,
                counts.dropped,
                dict(counts.inhibited),
            )

    def shown(self, prediction: Prediction) -> Prediction:
        """What clients see of it: no probability while a blind experiment is armed."""
        return replace(prediction, probability=None) if self.blind and self.engine.state in LIVE else prediction

    @property
    def blind(self) -> bool:
        return self.engine.plan is not None and self.engine.plan.blind

    def status(self) -> Fields:
        """The body of GET /v1/trigger. In a blind experiment nothing in it tells the condition, as far as counts of
        what was delivered do not: those are never hidden."""
        with self._lock:
            now, engine, counts, blind = self._monotonic(), self.engine, self._counts, self.blind
            device, capabilities = self._device_status(), self._device.capabilities
            state, live = engine.state, engine.state in LIVE
            return {
                "state": state.value,
                "reason": "" if blind else counts.last_reason,
                "why": "" if blind else Reason[counts.last_reason].value,
                "because": self._because,
                "problems": self.problems() if state in (State.DISARMED, State.SHADOW) else [],
                "limits": self._limits_status(),
                "thresholds": asdict(self.thresholds),
                "plan": self._plan_status(),
                "confirm_s": max(0.0, self._lease.expires - now) if state is State.ARMING else None,
                "lease_age_s": now - self._lease.renewed if live else None,
                "armed_s": now - self._armed_since if live else None,
                "refractory_s": self._refractory_left_s(),
                "device": {
                    "name": capabilities.name,
                    "simulated": capabilities.simulated,
                    "state": device.state,
                    "problem": device.problem,
                },
                "pulses_session": engine.real.pulses,
                "pulses_minute": len([at for at in self._fired if now - at < 60.0]),
                "charge_today_uc": {str(e): uc for e, uc in sorted(engine.real.day_uc.items())},
                "triggers": counts.triggers,
                "would_fire": counts.would_fire,
                "shams": None if blind else counts.shams,
                "dropped": counts.dropped,
            }

    def _limits_status(self) -> Fields | None:
        limits = self.engine.limits
        if limits is None:
            return None
        return {
            "name": limits.name,
            "participant": limits.participant,
            "sha256": limits.sha256,
            "simulated_only": limits.simulated_only,
            "electrodes": sorted({pattern.electrode for pattern in limits.patterns}),
            "currents_ua": sorted({pattern.current_ua for pattern in limits.patterns}),
            "budget": limits.budget.model_dump(),
        }

    def _plan_status(self) -> Fields | None:
        plan = self.engine.plan
        if plan is None or self._planned is None:
            return None
        trials, following = len(plan.trials), self.engine.progress.next_trial
        return {"sha256": self._planned[2], "blind": plan.blind, "trials": trials, "next": following}

    def _refractory_left_s(self) -> float | None:
        """By the stream's own time; None where none runs."""
        last, limits, decoding = self.engine.progress.last_pulse, self.engine.limits, self._decoding
        if last is None or limits is None or decoding is None:
            return None
        refractory_s = limits.budget.refractory_s + self.thresholds.max_age_s  # see TriggerEngine
        left_s = refractory_s - (self.engine.now - last) / decoding.rate_hz
        return left_s if left_s > 0 else None

    # Moves -----------------------------------------------------------------------------------------------------------

    def _move(self, event: Event, reason: str) -> None:
        before = self.engine.state
        after = self.engine.handle(event)
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
        log.info("trigger %s → %s: %s", before, after, reason)
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

    def _device_status(self) -> Status:
        """How the device is. The outcomes that it tells, each once, go into the journal, whoever asked."""
        status = self._device.status()
        for outcome in status.outcomes:
            told = {"trigger_id": outcome.trigger_id, "result": outcome.result, "known_at": outcome.t_mono}
            self._journal.write("outcome", told)
        self._device_idle = status.state == "idle"
        return status

    def _limits_on_disk(self) -> Limits | None:
        try:
            return self._read_limits()
        except OperatorFault:
            return None

    def _compare_limits(self, found: Limits | None) -> None:
        limits = self.engine.limits
        if (found and found.sha256) != (limits and limits.sha256):
            self._lose("the limits file changed")
            if self.engine.state is State.SHADOW:
                self._move(Event.DISARM, "the limits file changed")
            self._rebuild()

    def _rebuild(self) -> None:
        """A new engine with the limits as they are now; what was spent stays spent, and a fault stays latched."""
        state, real = self.engine.state, self.engine.real
        if state in (State.ARMING, *LIVE):
            return
        before, planned = self.engine, self._planned
        engine = self._build()
        same_plan = planned is not None and self._planned is not None and planned[2] == self._planned[2]
        engine.real = replace(real, next_trial=real.next_trial if same_plan else 0)
        engine.now = before.now
        for electrode, uc in self._ledger(engine.limits).items():
            engine.real.day_uc.setdefault(electrode, uc)
        engine.shadow = Progress(dict(engine.real.day_uc))
        engine.state = state if engine.limits is not None or state is State.FAULT else State.DISARMED
        self.engine = engine
        self._journal.write("engine", self._made_of(engine))

    def _made_of(self, engine: TriggerEngine) -> Fields:
        """All that a new engine starts from, for a replay; rate and channels stand with the connection."""
        real, capabilities = engine.real, self._device.capabilities
        return {
            "after_seq": self._last_seq,
            "now": engine.now,
            "thresholds": asdict(self.thresholds),
            "limits_sha256": engine.limits.sha256 if engine.limits else None,
            "plan_sha256": self._planned[2] if engine.plan and self._planned else None,
            "device_steps": [capabilities.current_step_ua, capabilities.time_step_us],
            "day_uc": dict(real.day_uc),
            "next_trial": real.next_trial,
            "waits": len(real.waits_s),
        }

    def _build(self) -> TriggerEngine:
        limits = plan = None
        self._limits_problem = ""
        try:
            limits = self._read_limits()
            if self._planned is None or self._planned[0] != limits.sha256:  # thousands of trials, at worst
                plan = self._make_plan(limits)
                self._planned = limits.sha256, plan, plan.sha256
            plan = self._planned[1]
        except OperatorFault as fault:
            self._limits_problem, limits = str(fault), None
        decoding, capabilities = self._decoding, self._device.capabilities
        return TriggerEngine(
            self.thresholds,
            limits,
            plan,
            rate_hz=decoding.rate_hz if decoding else 30_000.0,
            min_usable_channels=decoding.min_usable_channels if decoding else 1,
            device_steps=(capabilities.current_step_ua, capabilities.time_step_us),
            day_uc=self._ledger(limits),
        )

    def _ledger(self, limits: Limits | None) -> Mapping[int, float]:
        return {} if limits is None else self._ledger_uc(limits)
