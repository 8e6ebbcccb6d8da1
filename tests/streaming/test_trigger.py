"""The trigger decides by one table and one list of checks, in the stream's own samples."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from models.errors import OperatorFault
from streaming.limits import Limits, parse_limits
from streaming.plan import Plan, Trial, make_plan, simple_plan
from streaming.predictions import Latency, Prediction
from streaming.states import LIVE, TABLE, Event, State, diagram
from streaming.trigger import (
    Conditions,
    Decision,
    Inhibited,
    Reason,
    Trigger,
    TriggerEngine,
    TriggerSettings,
)

RATE = 1000.0
HOP = 10
TOML = """
name = "tests"
participant = "p07"
electrodes = [34, 35]
currents_ua = [10.0, 5.0]
[pulse]
phase_us = 170
interphase_us = 60
frequency_hz = 300
pulses = 50
[limits]
refractory_s = 2.0
"""
GOOD = Conditions()


def limits(extra: str = "") -> Limits:
    return parse_limits((TOML + extra).encode())


def prediction(hop: int, probability: float | None = 0.9, **changes: object) -> Prediction:
    told = Prediction(
        seq=hop,
        source="live",
        sample_time=hop * HOP / RATE,
        last_sample=hop * HOP,
        epoch=0,
        mode="continuous",
        trial=None,
        model="m@1",
        probability=probability,
        embedding=None,
        usable_channels=96,
        flags=(),
        latency_ms=Latency(0, 0, 0, 0),
    )
    return told._replace(**changes)  # type: ignore[arg-type]


class Run:
    """An engine and its predictions, ten milliseconds apart."""

    def __init__(
        self,
        found: Limits | None = None,
        plan: Plan | None = None,
        state: State = State.ARMED,
        thresholds: TriggerSettings | None = None,
    ) -> None:
        self.limits = found or limits()
        self.engine = TriggerEngine(
            thresholds or TriggerSettings(), self.limits, plan or simple_plan(self.limits), RATE, min_usable_channels=64
        )
        self.hop = 0
        if state is State.SHADOW:
            self.engine.handle(Event.SHADOW)
        elif state is State.ARMED:
            self.engine.handle(Event.REQUEST)
            self.engine.handle(Event.CONFIRM)

    def push(self, probability: float | None = 0.9, conditions: Conditions = GOOD, **changes: object) -> Decision:
        self.hop += 1
        return self.engine.push(prediction(self.hop, probability, **changes), conditions)

    def reason(self, probability: float | None = 0.9, conditions: Conditions = GOOD, **changes: object) -> Reason:
        decision = self.push(probability, conditions, **changes)
        assert isinstance(decision, Inhibited)
        return decision.reason

    def settle(self, probability: float = 0.1, seconds: float = 1.01) -> Run:
        for _ in range(math.ceil(seconds * RATE / HOP)):
            self.push(probability)
        return self

    def until_trigger(self, probability: float = 0.9, most: int = 10_000) -> Trigger:
        for _ in range(most):
            decision = self.push(probability)
            if isinstance(decision, Trigger):
                return decision
        raise AssertionError("no trigger")


# The table


def expected(state: State, event: Event) -> State | None:
    """Written down a second time, in words of its own."""
    if event in (Event.FAIL, Event.STOP):
        return State.FAULT
    if state is State.FAULT:
        return {
            Event.CLEAR: State.DISARMED,
            Event.DISARM: State.FAULT,
            Event.LOSE: State.FAULT,
        }.get(event)
    if event in (Event.DISARM, Event.LOSE):
        return State.DISARMED
    return {
        (State.DISARMED, Event.SHADOW): State.SHADOW,
        (State.DISARMED, Event.REQUEST): State.ARMING,
        (State.SHADOW, Event.SHADOW): State.SHADOW,
        (State.SHADOW, Event.REQUEST): State.ARMING,
        (State.ARMING, Event.CONFIRM): State.ARMED,
        (State.ARMING, Event.EXPIRE): State.DISARMED,
        (State.ARMED, Event.PULSE): State.REFRACTORY,
        (State.REFRACTORY, Event.RECOVER): State.ARMED,
    }.get((state, event))


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_state_and_event(state: State, event: Event) -> None:
    run = Run(state=State.DISARMED)
    run.engine.state = state
    to = expected(state, event)
    if to is None:
        with pytest.raises(OperatorFault, match=f"{event} while {state}: not possible"):
            run.engine.handle(event)
        assert run.engine.state is state
    else:
        assert run.engine.handle(event) is to is run.engine.state


def test_only_an_operator_leads_to_armed() -> None:
    ways = {(state, event) for state, row in TABLE.items() for event, to in row.items() if to in LIVE}
    assert ways == {
        (State.ARMING, Event.CONFIRM),
        (State.ARMED, Event.PULSE),
        (State.REFRACTORY, Event.RECOVER),
    }


def test_the_diagram_in_the_docs_is_drawn_from_the_table() -> None:
    assert diagram() in (Path(__file__).parents[2] / "docs" / "safety.md").read_text()


def test_every_reason_has_its_sentence_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "safety.md").read_text()
    for reason in Reason:
        assert f"| `{reason.name}` | {reason.value} |" in text


def test_without_limits_nothing_can_be_asked_for() -> None:
    engine = TriggerEngine(TriggerSettings(), None, None, RATE, 64)
    for event in (Event.SHADOW, Event.REQUEST):
        with pytest.raises(OperatorFault, match="no valid limits file"):
            engine.handle(event)
    assert engine.state is State.DISARMED
    assert engine.push(prediction(1)) == Inhibited(Reason.DISARMED)


# The checks, each alone


def test_a_favourable_state_fires_once_and_not_again_within_the_refractory_time() -> None:
    run = Run().settle()
    trigger = run.until_trigger()
    assert trigger.dwell == 3
    assert trigger.pulse
    assert run.engine.state is State.REFRACTORY
    at = run.hop
    run.until_trigger()
    assert (run.hop - at) * HOP / RATE >= 2.0


@pytest.mark.parametrize(
    ("state", "reason"), [(State.DISARMED, Reason.DISARMED), (State.ARMING, Reason.ARMING), (State.FAULT, Reason.FAULT)]
)
def test_a_state_that_lets_nothing_out(state: State, reason: Reason) -> None:
    run = Run().settle()
    run.engine.state = state
    assert run.reason() is reason


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf, -1e-9, 1.0000001, "0.9", True])
def test_what_is_no_probability(bad: object) -> None:
    assert Run().settle().reason(bad) is Reason.PROBABILITY  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("conditions", "changes", "reason"),
    [
        (GOOD, {"last_sample": 5}, Reason.NOT_NEWER),
        (Conditions(fresh=False), {}, Reason.AGE),
        (GOOD, {"flags": ("gap",)}, Reason.WINDOW),
        (GOOD, {"flags": ("overload",)}, Reason.WINDOW),
        (GOOD, {"mode": "evoked"}, Reason.WINDOW),
        (GOOD, {"full_history": False}, Reason.HISTORY),
        (GOOD, {"usable_channels": 63}, Reason.CHANNELS),
        (Conditions(lease=False), {}, Reason.LEASE),
        (Conditions(device=False), {}, Reason.DEVICE),
        (Conditions(journal=False), {}, Reason.JOURNAL),
    ],
)
def test_what_must_hold_now_and_for_a_second(
    conditions: Conditions, changes: dict[str, object], reason: Reason
) -> None:
    run = Run().settle(0.9, 0.98)
    assert run.reason(0.9, conditions, **changes) is reason
    for _ in range(99):
        assert run.reason() is Reason.UNSETTLED, "all must be good for a second again"
    assert isinstance(run.push(), Inhibited | Trigger)
    run.until_trigger(most=5)


def test_threshold_hysteresis_and_dwell() -> None:
    run = Run().settle()
    assert run.reason(0.69) is Reason.THRESHOLD
    assert run.reason(0.70) is Reason.DWELL
    assert run.reason(0.61) is Reason.THRESHOLD, "still in the state, but not at the threshold at this moment"
    assert isinstance(run.push(0.70), Trigger), "a dip that stays above p_off does not end the state"
    run.settle(0.1, 3.0)
    assert run.reason(0.9) is Reason.DWELL
    assert run.reason(0.59) is Reason.THRESHOLD
    assert run.reason(0.9) is Reason.DWELL, "below p_off the state ended"


def test_a_smoothed_probability_is_that_of_the_mean_log_odds() -> None:
    run = Run(thresholds=TriggerSettings(smoothing_s=0.5)).settle(0.5, 10.0)
    high, keep, odds = 0.9, math.exp(-HOP / RATE / 0.5), 0.0
    decision, hop = run.push(0.5), 0
    while not isinstance(decision, Trigger):
        odds = keep * odds + (1 - keep) * math.log(high / (1 - high))
        decision, hop = run.push(high), hop + 1
    assert decision.probability == pytest.approx(1 / (1 + math.exp(-odds)), abs=1e-12)
    first = math.ceil(math.log(1 - math.log(0.7 / 0.3) / math.log(high / (1 - high))) / math.log(keep))
    assert hop == first + 2, "where the mean reaches p_on, and two predictions of dwell later"
    assert run.reason(None, flags=("blanking",)) is Reason.PROBABILITY
    run.push(0.2)
    assert run.engine.memory().probability == pytest.approx(0.2), "behind a null the mean begins anew"


def test_the_order_of_the_checks() -> None:
    run = Run().settle()
    everything = {"flags": ("gap",), "usable_channels": 0, "full_history": False, "last_sample": 0}
    bad = Conditions(False, False, False, False)
    assert run.reason(math.nan, bad, **everything) is Reason.PROBABILITY
    assert run.reason(0.9, bad, **everything) is Reason.NOT_NEWER
    del everything["last_sample"]
    assert run.reason(0.9, bad, **everything) is Reason.AGE
    assert run.reason(0.9, bad._replace(fresh=True), **everything) is Reason.WINDOW


def test_refractory_is_named() -> None:
    run = Run().settle()
    run.until_trigger()
    reasons = {run.reason() for _ in range(100)}
    assert reasons == {Reason.DWELL, Reason.REFRACTORY}


def spend(run: Run, n: int) -> Run:
    run.settle()
    for _ in range(n):
        run.until_trigger()
    run.settle(0.1, 3.0)
    run.push(), run.push()
    return run


def test_the_pulses_of_a_minute() -> None:
    run = spend(Run(limits("pulses_per_minute = 3\nduty = 0.5")), 3)
    at = run.hop
    assert run.reason() is Reason.RATE
    run.until_trigger()
    assert (run.hop - at) * HOP / RATE > 45
    run.push()
    assert len(run.engine.real.moments) == len(run.engine.real.trains) == 3, "older ones are forgotten"


def test_a_decision_alone_spends_nothing() -> None:
    run = Run().settle()
    run.push(), run.push()
    run.hop += 1
    decision = run.engine.decide(prediction(run.hop))
    assert isinstance(decision, Trigger)
    assert (run.engine.state, run.engine.real.pulses) == (State.ARMED, 0)
    run.engine.spend(decision)
    assert (run.engine.state, run.engine.real.pulses) == (State.REFRACTORY, 1)


def test_the_pulses_of_a_session_and_they_outlast_a_disarming() -> None:
    found = limits("pulses_per_session = 3")
    run = spend(Run(found, Plan(0, simple_plan(found).trials * 2)), 3).settle(0.1, 0.1)
    assert [run.reason() for _ in range(3)] == [Reason.DWELL, Reason.DWELL, Reason.SESSION]
    run.engine.handle(Event.DISARM)
    run.engine.handle(Event.REQUEST)
    run.engine.handle(Event.CONFIRM)
    run.settle()
    assert {run.reason() for _ in range(3)} == {Reason.DWELL, Reason.SESSION}


def test_an_electrodes_share_of_the_minute() -> None:
    found = limits("duty = 0.006")  # of which two trains of 0.164 s fit
    assert spend(Run(found), 2).reason() is Reason.DUTY


def test_an_electrodes_charge_of_the_day() -> None:
    found = limits("charge_per_electrode_day_uc = 0.2")  # a train has 50 x 1.7 nC
    assert spend(Run(found), 2).reason() is Reason.DAY_CHARGE
    run = Run(found)
    run.engine.real.day_uc[34] = 0.16
    assert spend(run, 0).reason() is Reason.DAY_CHARGE, "earlier runs count"


def test_charge_is_that_of_the_quantised_pattern() -> None:
    found = limits()
    engine = TriggerEngine(TriggerSettings(), found, simple_plan(found), RATE, 64, device_steps=(3.0, 50.0))
    engine.handle(Event.REQUEST)
    engine.handle(Event.CONFIRM)
    run = Run(found)
    run.engine = engine
    run.settle().until_trigger()
    assert engine.real.day_uc[34] == pytest.approx(50 * 9.0 * 150e-6)  # 10 → 9 µA, 170 → 150 µs


def test_a_plan_cannot_ask_for_what_the_limits_do_not_list() -> None:
    found = limits()
    other = found.patterns[0].quantised(0.7, 0.0)
    assert other not in found.patterns
    with pytest.raises(ValueError, match="expected one of the limits'"):
        Run(found, Plan(0, (Trial("favourable", False, other, 0.5),))).push()


def test_when_the_plan_is_done() -> None:
    found = limits()
    run = spend(Run(found, Plan(0, simple_plan(found).trials[:2])), 2)
    assert run.reason() is Reason.PLAN


def test_armed_for_too_long() -> None:
    run = Run(limits("armed_max_s = 5.0")).settle(0.1, 4.9)
    assert not run.engine.overdue()
    run.settle(0.1, 0.3)
    assert run.engine.overdue()


# Shadow, shams, arms


def test_shadow_says_would_fire_and_spends_nothing() -> None:
    run = Run(state=State.SHADOW).settle()
    trigger = run.until_trigger()
    assert trigger.shadow
    assert not trigger.pulse
    assert run.engine.state is State.SHADOW
    assert run.engine.real.pulses == 0
    at = run.hop
    run.until_trigger()
    assert (run.hop - at) * HOP / RATE >= 2.0, "what would not be lawful would not fire either"


def test_shadow_needs_neither_operator_nor_device() -> None:
    run = Run(state=State.SHADOW)
    alone = Conditions(lease=False, device=False)
    decisions = [run.push(0.9, alone) for _ in range(110)]
    assert any(isinstance(decision, Trigger) for decision in decisions)


def test_a_sham_takes_its_place_and_no_charge() -> None:
    found = limits()
    sham = Trial("favourable", True, found.patterns[0], 0.5)
    run = Run(found, Plan(0, (sham,)))
    trigger = run.settle().until_trigger()
    assert not trigger.pulse
    assert run.engine.state is State.REFRACTORY
    assert run.engine.real.pulses == 1
    assert run.engine.real.day_uc == {}


def test_unfavourable_is_the_mirror() -> None:
    found = limits()
    run = Run(found, Plan(0, (Trial("unfavourable", False, found.patterns[0], 0.5),))).settle(0.5)
    assert run.reason(0.9) is Reason.THRESHOLD
    assert run.until_trigger(0.29, 3).dwell == 3


def test_open_loop_random_and_yoked_wait_blindly() -> None:
    found = limits()
    trials = tuple(Trial(arm, False, found.patterns[0], 0.5) for arm in ("open_loop", "yoked", "random"))
    plan = Plan(0, trials, waits_s=(9.0, 1.5), open_loop_s=3.0, random_s=2.0)
    run = Run(found, plan).settle()
    waits = [run.until_trigger(0.01).waited_s for _ in trials]
    assert waits == pytest.approx([3.0, 1.5, 2.0 * math.log(2)], abs=HOP / RATE)


def test_random_waits_as_favourable_ones_did() -> None:
    found = limits()
    trials = [Trial("favourable", False, found.patterns[0], 0.5), Trial("random", False, found.patterns[0], 0.5)]
    run = Run(found, Plan(0, tuple(trials))).settle(0.1, 4.0)
    favourable = run.until_trigger()
    assert run.until_trigger(0.1).waited_s == pytest.approx(favourable.waited_s, abs=HOP / RATE)


def test_a_plan_is_balanced_seeded_and_known_beforehand() -> None:
    found = limits()
    plan = make_plan(found, ("favourable", "random"), 40, sham_fraction=0.25, seed=3)
    assert plan.sha256 == make_plan(found, ("favourable", "random"), 40, sham_fraction=0.25, seed=3).sha256
    assert plan.sha256 != make_plan(found, ("favourable", "random"), 40, sham_fraction=0.25, seed=4).sha256
    for arm in ("favourable", "random"):
        of = [trial for trial in plan.trials if trial.arm == arm]
        assert len(of) == 40
        assert sum(trial.sham for trial in of) == 10
        counts = {pattern: sum(t.pattern == pattern and not t.sham for t in of) for pattern in found.patterns}
        assert set(counts.values()) == {10} or sum(counts.values()) == 30
    for block in zip(plan.trials[::2], plan.trials[1::2], strict=True):
        assert {trial.arm for trial in block} == {"favourable", "random"}


@pytest.mark.parametrize(
    ("arms", "fraction"), [((), 0.2), (("sideways",), 0.2), (("yoked",), 0.2), (("favourable",), 1.0)]
)
def test_a_plan_that_cannot_be(arms: tuple[str, ...], fraction: float) -> None:
    with pytest.raises(OperatorFault, match="plan"):
        make_plan(limits(), arms, 10, fraction)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"p_on": 0.6, "p_off": 0.6},
        {"p_on": 1.0},
        {"dwell_hops": 0},
        {"max_age_s": 1.0},
        {"settled_s": 0.5},
        {"smoothing_s": 11.0},
    ],
)
def test_thresholds_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(OperatorFault, match=r"found|expected"):
        TriggerSettings(**wrong)  # type: ignore[arg-type]


# Epochs


def test_a_new_epoch_never_shortens_anything() -> None:
    run = Run().settle()
    run.until_trigger()
    at = run.engine.now
    for hop in range(300):
        decision = run.engine.push(prediction(hop, 0.9, epoch=1, seq=5000 + hop))
        if isinstance(decision, Trigger):
            break
    assert run.engine.now - at >= 2.0 * RATE


def test_a_session_replays_to_the_bit() -> None:
    def session() -> list[Decision]:
        run = Run(plan=make_plan(limits(), ("favourable", "random"), 20, seed=1))
        return [run.push(0.5 + 0.5 * math.sin(i / 40)) for i in range(6000)]

    assert session() == session()
    assert sum(isinstance(decision, Trigger) for decision in session()) > 5
