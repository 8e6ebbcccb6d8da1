"""Each check with its value says what the decision says."""

from __future__ import annotations

from typing import Any

import pytest

from streaming.plan import Plan, make_plan
from streaming.trigger import Reason
from tests.streaming.gate_fakes import Rig
from tests.streaming.test_trigger import limits

DATA = ["PROBABILITY", "NOT_NEWER", "AGE", "WINDOW", "HISTORY", "CHANNELS", "LEASE", "DEVICE", "JOURNAL"]


def told(rig: Rig) -> dict[str, tuple[Any, Any, Any]]:
    return {one["name"]: (one["ok"], one["value"], one["limit"]) for one in rig.gate.status()["checks"]}


def mixed(blind: bool = False) -> Plan:
    return make_plan(limits(), ("favourable", "random"), 50, sham_fraction=0.0, seed=1, blind=blind)


def test_they_stand_in_the_order_of_the_decision() -> None:
    rig = Rig()
    assert rig.gate.status()["checks"] == [], "no prediction yet"
    rig.push(0.9)
    asked = [reason.name for reason in Reason if reason not in (Reason.DISARMED, Reason.ARMING, Reason.FAULT)]
    assert list(told(rig)) == asked


def test_every_value_of_an_armed_trigger() -> None:
    rig = Rig().arm()
    rig.run(1.5, 0.3)
    found = told(rig)
    assert found["PROBABILITY"] == (True, 0.3, None)
    assert found["AGE"] == (True, pytest.approx(0.003), 0.05)
    assert found["WINDOW"] == (True, "whole", None)
    assert found["CHANNELS"] == (True, 96, 64)
    assert found["LEASE"] == (True, pytest.approx(0.5, abs=0.02), 1.5)
    assert found["DEVICE"] == (True, "idle", "idle")
    assert found["UNSETTLED"] == (True, pytest.approx(1.49, abs=0.02), 1.0)
    assert found["THRESHOLD"] == (False, 0.3, 0.7)
    assert found["DWELL"] == (False, 0, 3)
    assert found["WAIT"] == (None, None, None), "this trial waits for a state"
    assert found["REFRACTORY"] == (True, 0.0, 2.0)
    assert found["RATE"] == (True, 0, 10)
    assert found["PLAN"][:2] == (True, 0)


def test_what_fails_is_what_the_decision_names() -> None:
    rig = Rig().arm()
    rig.run(1.5)
    for changes, name in (
        ({"flags": ("gap",)}, "WINDOW"),
        ({"usable_channels": 12}, "CHANNELS"),
        ({"full_history": False}, "HISTORY"),
    ):
        rig.push(0.9, **changes)
        status = rig.gate.status()
        failed = [one["name"] for one in status["checks"] if one["ok"] is False and one["name"] in DATA]
        assert failed == [name] == [status["reason"]]
    rig.run(1.5)
    while not rig.push(0.9):
        pass
    rig.run(1.5, 0.9)  # until the device is idle again, and all has been good for a second
    found = told(rig)
    assert rig.gate.status()["reason"] == "REFRACTORY"
    assert found["REFRACTORY"] == (False, pytest.approx(0.55, abs=0.02), 2.0), (
        "and 50 ms for how late a decision may leave"
    )
    assert found["RATE"][1] == found["SESSION"][1] == 1
    assert found["DAY_CHARGE"][1] > 0


def test_disarmed_the_samples_are_judged_and_nothing_is_counted() -> None:
    rig = Rig()
    rig.run(0.5, 0.9)
    found = told(rig)
    assert found["AGE"][0] is found["THRESHOLD"][0] is True
    assert found["LEASE"] == (None, None, 1.5)
    assert found["DEVICE"] == (None, "not_armed", "idle")
    assert found["UNSETTLED"] == (None, None, 1.0)


def test_a_sample_that_ages_is_told_although_nothing_comes() -> None:
    rig = Rig()
    rig.push(0.9)
    rig.now += 1.0
    assert told(rig)["AGE"] == (False, pytest.approx(1.003), 0.05)


def test_a_trial_that_waits_for_a_time() -> None:
    plan = make_plan(limits(), ("random",), 5, sham_fraction=0.0)
    rig = Rig(plan=plan).arm()
    rig.run(1.2)
    ok, waited_s, wait_s = told(rig)["WAIT"]
    assert (ok, waited_s) == (False, pytest.approx(0.19, abs=0.03))
    assert wait_s == pytest.approx(plan.wait_s(0, []))
    assert told(rig)["THRESHOLD"][:2] == (None, None)


def test_a_blind_plan_hides_what_tells_the_arm() -> None:
    rig = Rig(plan=mixed(blind=True)).arm()
    rig.run(1.5)
    assert {"PROBABILITY", "THRESHOLD", "DWELL", "WAIT"}.isdisjoint(told(rig))
    assert {"AGE", "LEASE", "REFRACTORY"} <= told(rig).keys()
