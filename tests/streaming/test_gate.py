"""The gate: nobody and nothing but an operator arms it, and what the arming rested on must stay as it was."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from models.errors import OperatorFault, RigFault
from streaming.plan import Plan, Trial
from streaming.predictions import Prediction
from streaming.stimulators.stimulator import Capabilities
from streaming.trigger import Conditions, Decision, TriggerSettings
from tests.streaming.gate_fakes import DECODING, Rig


def armed(**arguments: object) -> Rig:
    rig = Rig(**arguments)  # type: ignore[arg-type]
    rig.run(1.5)
    return rig.arm()


# Arming


def test_two_steps_then_a_favourable_state_fires() -> None:
    rig = armed()
    assert rig.state == "ARMED"
    assert rig.run(1.1) == 0
    assert rig.run(0.1, 0.9) == 1
    assert rig.state == "REFRACTORY"
    marker = json.loads(rig.device.markers[0])
    assert marker["event"] == "trigger"
    assert marker["limits_sha256"] == rig.limits().sha256
    (row,) = rig.journal.kinds("trigger")
    assert row["trigger_id"] == marker["trigger_id"] == rig.device.log[0][1]
    assert row["probability"] == 0.9
    assert row["age_s"] == pytest.approx(0.003)
    (outcome,) = rig.journal.kinds("outcome")
    assert outcome["result"] == "delivered"
    assert [json.loads(text)["event"] for text in rig.announced] == ["armed"]


def test_limits_are_named_by_their_hash() -> None:
    rig = Rig()
    rig.run(0.1)
    with pytest.raises(OperatorFault, match="found sha256 0000"):
        rig.gate.request("0" * 64)
    assert rig.state == "DISARMED"


def test_the_confirmation_is_the_requests_own_and_in_time() -> None:
    rig = Rig()
    rig.run(0.1)
    token, seconds = rig.gate.request(rig.limits().sha256)
    with pytest.raises(OperatorFault, match="no request that is open"):
        rig.gate.confirm("another")
    with pytest.raises(OperatorFault, match="one operator at a time"):
        rig.gate.request(rig.limits().sha256)
    rig.run(seconds + 0.1)
    assert rig.state == "DISARMED"
    with pytest.raises(OperatorFault, match="no request that is open"):
        rig.gate.confirm(token)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"source": "replay"}, "a replay source never drives a real device"),
        ({"source": "simulated"}, "a simulated source never drives a real device"),
        ({"fitted_to": "simulated"}, "was fitted on simulation"),
        ({"not_calibrated": "the bundle is of another"}, "the bundle is of another"),
        ({"mode": "evoked"}, "continuous mode"),
        ({"participant": "p08"}, "limits are of participant 'p07', the stream of 'p08'"),
    ],
)
def test_what_forbids_arming(change: dict[str, object], problem: str) -> None:
    rig = Rig()
    rig.gate.decoding(replace(DECODING, **change))  # type: ignore[arg-type]
    rig.run(0.2)
    with pytest.raises(OperatorFault, match=problem):
        rig.gate.request(rig.limits().sha256)
    assert rig.state == "DISARMED"


def test_limits_of_the_simulated_participant_and_a_real_device() -> None:
    rig = Rig()
    rig.text = rig.text.replace('participant = "p07"', 'participant = "p07"\nsimulated_only = true')
    rig.run(0.6)
    with pytest.raises(OperatorFault, match="simulated participant only"):
        rig.gate.request(rig.limits().sha256)
    rig.device.capabilities = Capabilities("fake", simulated=True)
    rig.arm()
    assert rig.state == "ARMED"


def test_limits_that_are_not_valid_and_a_stream_that_does_not_come() -> None:
    rig = Rig()
    rig.text = rig.text.replace("phase_us", "phase")
    with pytest.raises(OperatorFault, match=r"pulse\.phase"):
        rig.gate.request("0" * 64)
    with pytest.raises(OperatorFault, match="no valid limits"):
        rig.gate.shadow()
    rig = Rig()
    rig.now += 2.1
    with pytest.raises(OperatorFault, match="no predictions come"):
        rig.gate.request(rig.limits().sha256)


def test_a_journal_or_device_at_fault() -> None:
    rig = Rig()
    rig.run(0.1)
    rig.journal.healthy = False
    with pytest.raises(OperatorFault, match="journal does not write"):
        rig.gate.request(rig.limits().sha256)
    rig.journal.healthy = True
    token, _ = rig.gate.request(rig.limits().sha256)
    rig.device.broken = "unplugged"
    with pytest.raises((OperatorFault, RigFault), match="unplugged"):
        rig.gate.confirm(token)
    assert rig.state == "DISARMED"


# While armed


def test_the_lease_inhibits_then_disarms() -> None:
    rig = armed()
    rig.run(1.2)
    rig.gate.heartbeat(rig.token)
    assert rig.run(1.49, 0.5, beat=False) == 0
    rig.push(0.5)
    rig.push(0.9)
    assert rig.run(0.5, 0.9, beat=False) == 0, "inhibited after 1.5 s"
    assert rig.gate.status()["reason"] == "LEASE"
    assert rig.state == "ARMED"
    rig.run(1.1, 0.9, beat=False)
    assert rig.state == "DISARMED"
    with pytest.raises(OperatorFault, match="this lease is over"):
        rig.gate.heartbeat(rig.token)


def test_only_the_holder_renews() -> None:
    rig = armed()
    with pytest.raises(OperatorFault, match="this lease is over"):
        rig.gate.heartbeat("another")


def stop(rig: Rig) -> None:
    rig.gate.stop()


def break_device(rig: Rig) -> None:
    rig.device.broken = "unplugged"


def fill_disk(rig: Rig) -> None:
    rig.journal.healthy = False


def edit_limits(rig: Rig) -> None:
    rig.text += "\n# another thought"


def other_bundle(rig: Rig) -> None:
    rig.gate.decoding(replace(DECODING, bundle_sha256="c" * 64))


def stall(rig: Rig) -> None:
    rig.now += 2.5


@pytest.mark.parametrize(
    ("happens", "state"),
    [
        (stop, "FAULT"),
        (break_device, "FAULT"),
        (fill_disk, "DISARMED"),
        (edit_limits, "DISARMED"),
        (other_bundle, "DISARMED"),
        (stall, "DISARMED"),
        (lambda rig: rig.gate.disarm(), "DISARMED"),
    ],
)
def test_what_disarms_within_a_second_and_never_rearms(happens: Callable[[Rig], None], state: str) -> None:
    rig = armed()
    rig.run(1.1)
    happens(rig)
    assert rig.run(1.0) == 0
    assert rig.state == state
    assert not rig.device.armed
    rig.device.broken, rig.journal.healthy = "", True
    assert rig.run(3.0, 0.9) == 0
    assert rig.state == state
    assert json.loads(rig.announced[-1])["event"] == ("fault" if state == "FAULT" else "disarmed")


def test_a_fault_is_latched_until_it_is_cleared() -> None:
    rig = armed()
    rig.gate.stop()
    rig.gate.disarm()
    assert rig.state == "FAULT"
    with pytest.raises(OperatorFault, match="not possible"):
        rig.gate.request(rig.limits().sha256)
    rig.gate.clear("looked at it")
    assert rig.state == "DISARMED"
    rig.run(0.1)
    assert rig.arm().state == "ARMED"


def test_a_late_decision_is_dropped() -> None:
    rig = armed()
    rig.run(1.1)
    for _ in range(20):
        assert not rig.push(0.9, age_s=0.051)
    assert rig.gate.status()["reason"] == "AGE"


def test_a_stream_that_runs_twice_as_fast_as_the_clock() -> None:
    """Two seconds of samples in one of the clock: by its samples the refractory time is over, by ours it is not."""
    rig = armed()
    rig.run(1.1)
    assert rig.run(0.1, 0.9) == 1
    for _ in range(250):
        with contextlib.suppress(OperatorFault):
            rig.gate.heartbeat(rig.token)
        assert not rig.push(0.9, step_s=0.004)
    assert len(rig.device.log) == 1
    assert rig.state == "DISARMED"
    assert "faster than the clock" in rig.journal.kinds("transition")[-1]["reason"]


def test_a_pulse_that_left_late_does_not_make_the_next_one_too_early() -> None:
    """The first leaves 43 ms after its newest sample, the next 3 ms: 2 s of samples, 40 ms less on the clock."""
    rig = Rig()
    pattern = rig.limits().patterns[0]
    plan = Plan(0, (Trial("open_loop", False, pattern, 0.0),) * 3, open_loop_s=0.0)
    rig = armed(plan=plan)
    while rig.gate.engine._good_since is None or rig.gate.engine.now - rig.gate.engine._good_since < 990:
        rig.push(0.5)
    assert rig.push(0.5, age_s=0.043, step_s=0.05)
    rig.gate.heartbeat(rig.token)
    for _ in range(4):  # the ones that were held up
        rig.push(0.5, step_s=0.0)
    assert rig.run(2.5, 0.5) == 1
    assert rig.state == "REFRACTORY"
    (first, _, _), (second, _, _) = rig.device.log
    assert second - first >= 2.0


@pytest.mark.parametrize(
    ("refractory_s", "duty", "earlier", "why"),
    [
        (2.0, 0.1, (0.1, 34, 0.16), "since the last pulse"),
        (600.0, 0.1, (590.0, 34, 0.16), "since the last pulse"),
        (2.0, 0.1, (30.0, 34, 5.9), "share of the minute is spent"),
        (2.0, 0.1, (30.0, None, 5.9), "share of the minute is spent"),
        (600.0, 0.1, (600.0, 34, 5.9), ""),
        (2.0, 0.1, (30.0, 35, 5.9), ""),
        (2.0, 0.11, (30.0, 34, 5.9), ""),
    ],
)
def test_a_pulse_of_an_earlier_run_counts(
    refractory_s: float, duty: float, earlier: tuple[float, int | None, float], why: str
) -> None:
    rig = Rig()
    rig.text = rig.text.replace("refractory_s = 2.0", f"refractory_s = {refractory_s}\nduty = {duty}")
    rig.restart((earlier,))
    rig.gate.decoding(DECODING)
    rig.run(0.02)
    rig.arm()
    assert rig.run(1.5, 0.9) == (0 if why else 1)
    assert rig.state == ("DISARMED" if why else "REFRACTORY")
    assert why in rig.journal.kinds("transition")[-1]["reason"]


def test_the_row_has_the_charge_and_the_time_that_the_device_delivers() -> None:
    """10 µA in steps of 4 are 8, 170 µs in steps of 100 are 200: 0.08 µC, and not 0.085."""
    rig = armed(capabilities=Capabilities("fake", current_step_ua=4.0, time_step_us=100.0))
    rig.run(1.1)
    assert rig.run(0.1, 0.9) == 1
    (row,) = rig.journal.kinds("trigger")
    assert row["current_ua"] == 10.0
    assert row["train_charge_uc"] == pytest.approx(0.08)
    assert row["train_s"] == pytest.approx(49 / 300 + 500e-6)
    assert rig.gate.engine.real.day_uc == {34: row["train_charge_uc"]}


def test_what_a_late_marker_withdrew_is_no_reason_for_a_pulse() -> None:
    rig = armed()
    rig.run(1.1)
    rig.push(0.9)
    rig.push(0.9)
    rig.gate.withdrawn()
    memory = rig.gate.engine.memory()
    assert (memory.settled_s, memory.waited_s, memory.in_state, memory.dwell) == (None, None, False, 0)
    assert rig.run(0.9, 0.9) == 0
    assert rig.gate.status()["reason"] == "UNSETTLED"
    assert rig.run(0.3, 0.9) == 1


def test_no_reserved_id_no_pulse() -> None:
    rig = armed()
    rig.journal.ids_left = 0
    assert rig.run(2.0, 0.9) == 0
    assert rig.gate.status()["reason"] == "JOURNAL"


def test_a_device_that_refuses_and_one_that_breaks_at_the_pulse() -> None:
    rig = armed()
    rig.device.refuses = True
    assert rig.run(1.5, 0.9) == 0
    assert rig.state == "DISARMED"
    assert rig.journal.kinds("outcome")[-1]["result"] == "not_fired"
    rig = armed()
    rig.device.fails_at_fire = True
    assert rig.run(1.5, 0.9) == 1, "whether it left is not known: its artifact is expected"
    assert rig.state == "FAULT"
    assert rig.journal.kinds("outcome")[-1]["result"] == "unknown"


def test_a_defect_of_ours_latches_and_predictions_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = armed()
    monkeypatch.setattr(rig.gate.engine, "decide", lambda *_: 1 / 0)
    assert not rig.push()
    assert rig.state == "FAULT"
    assert not rig.device.armed


def test_a_defect_at_the_pulse_counts_it_as_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = armed()
    rig.run(1.1)
    monkeypatch.setattr(rig.device, "fire", lambda *_: 1 / 0)
    assert rig.run(0.1, 0.9) == 1, "whether it left is not known: its artifact is expected"
    assert rig.state == "FAULT"
    assert rig.gate.engine.real.pulses == 1


@pytest.mark.parametrize("part", ["_account", "_watch"])
def test_a_defect_behind_the_pulse_does_not_hide_that_it_left(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = armed()
    rig.run(1.1)
    rig.push(0.9), rig.push(0.9)
    monkeypatch.setattr(rig.gate, part, lambda *_: 1 / 0)
    assert rig.push(0.9), "its artifact is on the way"
    assert rig.state == "FAULT"
    assert len(rig.device.log) == 1
    assert not rig.push(0.9)


def test_a_pulse_whose_row_finds_no_room_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = armed()
    rig.run(1.1)
    monkeypatch.setattr(rig.journal, "write", lambda kind, fields: kind != "trigger")
    assert rig.run(0.1, 0.9) == 1
    assert rig.state == "DISARMED"


def test_what_was_asked_ahead_holds_for_50_ms() -> None:
    """A journal that fails behind the last prediction: the next one, a hop later, may still rest on what it said; after
    a stall it is asked anew."""
    rig = armed()
    rig.run(1.1)
    rig.push(0.9), rig.push(0.9)
    rig.journal.healthy = False
    assert not rig.push(0.9, step_s=0.051)
    assert rig.journal.kinds("conditions")[-1]["journal"] is False
    assert rig.state == "DISARMED"


def test_held_up_between_decision_and_pulse_nothing_leaves_late(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = armed()
    rig.run(1.1)
    decide = rig.gate.engine.decide

    def slowly(prediction: Prediction, conditions: Conditions) -> Decision:
        rig.now += 0.05
        return decide(prediction, conditions)

    rig.push(0.9), rig.push(0.9)
    monkeypatch.setattr(rig.gate.engine, "decide", slowly)
    assert not rig.push(0.9)
    assert rig.journal.kinds("trigger")[-1]["refused"].startswith("late: the newest sample was 53 ms old")
    assert rig.state == "DISARMED"


def test_ids_that_were_taken_meanwhile_are_not_what_the_marker_says() -> None:
    rig = armed()
    rig.run(1.1)
    rig.push(0.9), rig.push(0.9)
    assert rig.journal.take_id() == "run-0"
    assert rig.push(0.9)
    assert json.loads(rig.device.markers[0])["trigger_id"] == rig.device.log[0][1] == "run-1"


def test_shadow_and_shams_send_nothing() -> None:
    rig = Rig()
    rig.gate.shadow()
    assert rig.run(1.5, 0.9) == 0
    assert rig.device.log == []
    assert json.loads(rig.announced[-1])["event"] == "would_fire"
    assert rig.journal.kinds("would_fire")[0]["trigger_id"].startswith("shadow")
    sham = Trial("favourable", True, rig.limits().patterns[0], 0.5)
    rig = armed(plan=Plan(0, (sham,) * 3))
    assert rig.run(1.5, 0.9) == 0
    assert rig.journal.kinds("trigger")[0]["sham"] is True
    assert rig.device.log == []


def test_a_sham_in_shadow_is_no_sham_that_took_place() -> None:
    rig = Rig(plan=Plan(0, (Trial("favourable", True, Rig().limits().patterns[0], 0.5),) * 3))
    rig.gate.shadow()
    rig.run(1.5, 0.9)
    assert len(rig.journal.kinds("would_fire")) == rig.gate.statistics().would_fire > 0
    assert rig.gate.statistics().shams == 0
    assert "sham" not in [kind for kind, _ in rig.happened]
    assert "would_fire" not in [json.loads(marker)["event"] for marker in rig.announced]


def test_a_mistake_in_the_limits_that_becomes_another_is_told() -> None:
    rig = Rig()
    for mistake in ("nonsense", "participant = 7"):
        rig.text = mistake
        rig.run(1.1)
        with pytest.raises(OperatorFault) as fault:
            rig.limits()
        assert rig.gate.status()["problems"][0] == str(fault.value)


def test_limits_of_which_no_plan_can_be_made_are_looked_at_once() -> None:
    def impossible(_: object) -> Plan:
        raise OperatorFault("plan: found no waits, expected some")

    rig = Rig()
    rig.gate.configure(rig.gate.thresholds, impossible)
    rig.run(1.1)
    rows = len(rig.journal.kinds("engine"))
    rig.run(5.0)
    assert rig.gate.status()["problems"][0] == "plan: found no waits, expected some"
    assert len(rig.journal.kinds("engine")) == rows


def test_limits_that_are_gone_end_the_shadow_whoever_looks_first() -> None:
    rig = Rig()
    rig.gate.shadow()
    rig.text = "nonsense"
    with pytest.raises(OperatorFault):
        rig.gate.request("")
    assert rig.state == "DISARMED"
    (*_, last) = rig.journal.kinds("transition")
    assert (last["from"], last["to"], last["reason"]) == ("SHADOW", "DISARMED", "there are no valid limits any more")


def test_blind_mode_hides_what_the_trial_rests_on() -> None:
    trial = Trial("favourable", False, Rig().limits().patterns[0], 0.5)
    rig = armed(plan=Plan(0, (trial,) * 3, blind=True))
    assert rig.run(1.5, 0.9) == 1
    assert json.loads(rig.device.markers[0])["probability"] is None
    assert rig.gate.status()["reason"] == ""
    assert rig.journal.kinds("trigger")[0]["probability"] == 0.9, "the journal keeps it"


def test_settings_only_while_nothing_is_armed() -> None:
    rig = armed()
    with pytest.raises(OperatorFault, match="disarm it first"):
        rig.gate.configure(TriggerSettings(p_on=0.8))
    rig.gate.disarm()
    rig.gate.configure(TriggerSettings(p_on=0.8))
    rig.arm()
    assert rig.run(1.5, 0.75) == 0
    assert rig.run(0.1, 0.85) == 1


def test_budgets_outlast_disarming_and_the_end_closes_the_device() -> None:
    rig = armed(extra="pulses_per_session = 1")
    assert rig.run(1.5, 0.9) == 1
    rig.gate.disarm()
    rig.run(3.0)
    rig.arm()
    assert rig.run(3.0, 0.9) == 0
    rig.gate.close()
    assert rig.state == "DISARMED"
    assert not rig.device.armed


def test_armed_for_as_long_as_the_limits_allow() -> None:
    rig = armed(extra="armed_max_s = 3.0")
    rig.run(2.9)
    assert rig.state == "ARMED"
    rig.run(0.3)
    assert rig.state == "DISARMED"


def test_no_pulse_leaves_beyond_it_either() -> None:
    rig = armed(extra="armed_max_s = 3.0")
    rig.run(2.98)
    rig.push(0.9), rig.push(0.9)
    assert rig.state == "ARMED"
    assert not rig.push(0.9), "the first that has lasted long enough, and the first beyond the limit"
    assert rig.state == "DISARMED"
    assert rig.journal.kinds("trigger")[-1]["refused"] == "armed for as long as the limits allow"


def test_inhibited_reasons_are_counted_by_the_second() -> None:
    rig = armed()
    rig.run(2.0)
    counted = rig.journal.kinds("inhibited")
    assert [sum(row.values()) for row in counted] == pytest.approx([100] * 3, abs=11)
    rig.gate.close()
    whole = rig.journal.kinds("inhibited")
    assert sum(sum(row.values()) for row in whole) == pytest.approx(350, abs=12), "and what is left at the end"
