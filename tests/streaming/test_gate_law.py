"""Whatever happens, in whatever order: the laws hold after every step."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from models.errors import Fault
from streaming.plan import make_plan
from streaming.trigger import TriggerSettings
from tests.streaming.gate_fakes import DECODING, Rig

STEPS = int(os.environ.get("PHOSPHENE_LAW_STEPS", "60"))
RUNS = int(os.environ.get("PHOSPHENE_LAW_RUNS", "25"))
BUDGET = "pulses_per_minute = 12\npulses_per_session = 60\ncharge_per_electrode_day_uc = 1.0\nduty = 0.01"
DUTY_S = 0.6
LIVE = ("ARMED", "REFRACTORY")
BAD = [None, math.nan, math.inf, -0.1, 1.0000001, "0.9"]


class Operators(RuleBasedStateMachine):
    """Good and bad hops, stalls, clocks that jump, leases and acknowledgements that are lost, limits that are edited,
    restarts. Each rule is one thing that can happen at a rig."""

    @initialize(seed=st.integers(0, 1000), sham=st.sampled_from([0.0, 0.3]))
    def begin(self, seed: int, sham: float) -> None:
        self.rig = Rig(BUDGET)
        found = self.rig.limits()
        plan = make_plan(found, ("favourable", "random", "open_loop"), 40, sham, seed)
        self.rig._plan = plan
        self.rig.restart()
        self.rig.gate.decoding(DECODING)
        self.confirm_token = ""
        self.confirmed = False  # by an operator, since it was last not armed
        self.spec = TriggerSettings()
        self.rig.run(1.5)

    # What can happen

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.2, 2.5]), probability=st.sampled_from([0.1, 0.65, 0.9]))
    def good_hops(self, seconds: float, probability: float) -> None:
        self.rig.run(seconds, probability)

    @rule(seconds=st.sampled_from([0.0, 1.0, 4.0]))
    def a_good_stretch(self, seconds: float) -> None:
        """So that the bad ones have something to spoil."""
        rig = self.rig
        rig.device.broken, rig.device.refuses, rig.device.fails_at_fire = "", False, False
        rig.journal.healthy, rig.journal.ids_left = True, 1_000_000
        if rig.state not in LIVE:
            self.mend_the_limits()
            rig.gate.decoding(DECODING)
            rig.run(0.6)
            self.arm()
        rig.run(1.1)
        rig.run(seconds, 0.95)

    @rule(probability=st.sampled_from(BAD), n=st.integers(1, 5))
    def bad_hops(self, probability: object, n: int) -> None:
        for _ in range(n):
            assert not self.rig.push(probability)  # type: ignore[arg-type]

    @rule(changes=st.sampled_from([{"flags": ("gap",)}, {"usable_channels": 3}, {"full_history": False}]))
    def broken_hops(self, changes: dict[str, object]) -> None:
        assert not self.rig.push(0.99, **changes)

    @rule(age_s=st.sampled_from([0.0501, 3.0, -0.2]))
    def stale_hops(self, age_s: float) -> None:
        assert not self.rig.push(0.99, age_s=age_s)

    @rule(seconds=st.sampled_from([0.2, 1.0, 2.5, 30.0]))
    def stall(self, seconds: float) -> None:
        self.rig.now += seconds

    @rule(step_s=st.sampled_from([0.0, 0.001, 0.004]), n=st.integers(50, 400))
    def a_stream_faster_than_the_clock(self, step_s: float, n: int) -> None:
        for _ in range(n):
            self.rig.push(0.95, step_s=step_s)

    @rule()
    def samples_again(self) -> None:
        self.rig.hop -= min(self.rig.hop, 20)

    @rule()
    def another_epoch(self) -> None:
        self.rig.hop = 0
        self.rig.push(0.95, epoch=1)

    @rule(seconds=st.sampled_from([0.5, 1.6, 3.5]))
    def the_operator_is_away(self, seconds: float) -> None:
        self.rig.run(seconds, 0.95, beat=False)

    @rule()
    def request(self) -> None:
        with contextlib.suppress(Fault):
            self.confirm_token, _ = self.rig.gate.request(self.rig.limits().sha256)

    @rule()
    def confirm(self) -> None:
        with contextlib.suppress(Fault):
            self.rig.token = self.rig.gate.confirm(self.confirm_token)
            self.confirmed = True

    @precondition(lambda self: self.rig.state not in LIVE)
    @rule()
    def arm(self) -> None:
        with contextlib.suppress(Fault):
            self.rig.gate.clear("looked at it")
        with contextlib.suppress(Fault):
            self.rig.arm()
            self.confirmed = True

    @rule(token=st.sampled_from(["", "another"]))
    def confirm_with_anothers_token(self, token: str) -> None:
        before = self.rig.state
        with contextlib.suppress(Fault):
            self.rig.gate.confirm(token)
            raise AssertionError("it was taken")
        assert before in LIVE or self.rig.state not in LIVE

    @rule()
    def disarm(self) -> None:
        self.rig.gate.disarm()
        assert self.rig.state not in LIVE

    @rule()
    def stop(self) -> None:
        self.rig.gate.stop()

    @rule()
    def clear(self) -> None:
        with contextlib.suppress(Fault):
            self.rig.gate.clear("looked at it")

    @rule()
    def shadow(self) -> None:
        with contextlib.suppress(Fault):
            self.rig.gate.shadow()

    @rule(p_on=st.sampled_from([0.7, 0.8]))
    def configure(self, p_on: float) -> None:
        with contextlib.suppress(Fault):
            self.rig.gate.configure(TriggerSettings(p_on=p_on))

    @rule(valid=st.booleans())
    def edit_the_limits(self, valid: bool) -> None:
        self.rig.text = self.rig.text + "\n# edited" if valid else self.rig.text + "\nphase = 3"

    @rule()
    def mend_the_limits(self) -> None:
        self.rig.text = self.rig.text.replace("\nphase = 3", "")

    @rule(fault=st.sampled_from(["", "unplugged"]))
    def the_device(self, fault: str) -> None:
        self.rig.device.broken = fault
        self.rig.device.fails_at_fire = False

    @rule()
    def an_acknowledgement_is_lost(self) -> None:
        self.rig.device.fails_at_fire = True

    @rule(refuses=st.booleans())
    def the_device_refuses(self, refuses: bool) -> None:
        self.rig.device.refuses = refuses

    @rule(healthy=st.booleans(), ids=st.sampled_from([0, 3, 1_000_000]))
    def the_journal(self, healthy: bool, ids: int) -> None:
        self.rig.journal.healthy, self.rig.journal.ids_left = healthy, ids

    @rule(change=st.sampled_from([{}, {"bundle_sha256": "c"}, {"source": "replay"}, {"fitted_to": "simulated"}]))
    def the_stream_begins_again(self, change: dict[str, object]) -> None:
        self.rig.gate.decoding(replace(DECODING, **change))  # type: ignore[arg-type]

    @rule()
    def the_service_restarts(self) -> None:
        spent = dict(self.rig.gate.engine.real.day_uc)
        log = self.rig.device.log
        self.rig.device.disarm()
        self.rig.restart(tuple((self.rig.now - at, one.electrode, one.pulse.duration_s) for at, _, one in log))
        self.rig.gate.engine.real.day_uc.update(spent)
        self.rig.gate.decoding(DECODING)
        self.rig.hop = 0
        assert self.rig.state == "DISARMED"

    # What must hold

    @invariant()
    def no_fault_is_our_own(self) -> None:
        reasons = [row["reason"] for row in self.rig.journal.kinds("transition") if row["to"] == "FAULT"]
        assert all("stop" in reason or "stimulator" in reason for reason in reasons)

    @invariant()
    def armed_only_by_an_operator(self) -> None:
        if self.rig.state in LIVE:
            assert self.confirmed
        else:
            self.confirmed = False
            assert not self.rig.device.armed

    @invariant()
    def refractory_and_rate_by_the_clock(self) -> None:
        times = [at for at, _, _ in self.rig.device.log]
        assert all(later - at >= 2.0 - 1e-9 for at, later in itertools.pairwise(times))
        assert all(sum(0 <= other - at < 60 for other in times) <= 12 for at in times)

    @invariant()
    def duty_by_the_clock(self) -> None:
        log = self.rig.device.log
        for at, _, pattern in log:
            minute = [one for other, _, one in log if 0 <= at - other < 60 and one.electrode == pattern.electrode]
            assert sum(one.pulse.duration_s for one in minute) <= DUTY_S + 1e-9

    @invariant()
    def one_pulse_for_an_id(self) -> None:
        ids = [trigger_id for _, trigger_id, _ in self.rig.device.log]
        assert len(ids) == len(set(ids))

    @invariant()
    def charge_within_the_day(self) -> None:
        charge: dict[int, float] = {}
        for _, _, pattern in self.rig.device.log:
            charge[pattern.electrode] = charge.get(pattern.electrode, 0.0) + pattern.train_charge_uc
        assert all(uc <= 1.0 + 1e-9 for uc in charge.values())

    @invariant()
    def every_pulse_stands_in_the_journal_with_all_it_rested_on(self) -> None:
        rows = {row["trigger_id"]: row for row in self.rig.journal.kinds("trigger")}
        for _, trigger_id, pattern in self.rig.device.log:
            row = rows[trigger_id]
            assert row["pattern"] == pattern.name
            assert not row["sham"]
            assert 0.0 <= row["probability"] <= 1.0
            assert abs(row["age_s"]) <= 0.05
            assert row["lease_age_s"] <= 1.5
            assert all(row["conditions"].values())
            assert row["arm"] != "favourable" or (row["probability"] >= 0.7 and row["dwell"] >= 3)


Operators.TestCase.settings = settings(max_examples=RUNS, stateful_step_count=STEPS, deadline=None)
TestGate = Operators.TestCase


def test_the_laws_are_tried_on_pulses() -> None:
    """The machine above would hold of a gate that never fires; this one shows what its good stretches do."""
    machine = Operators()
    machine.begin(seed=1, sham=0.0)
    for _ in range(5):
        machine.a_good_stretch(4.0)
    assert len(machine.rig.device.log) >= 3
