"""The trigger stream over real LSL on this machine, and who listens to it."""

from __future__ import annotations

import gc
import json

import pylsl
import pytest

from models.errors import RigFault
from streaming.stimulators import outlet as outlet_module
from streaming.stimulators.lsl import LslSettings, LslStimulator
from streaming.stimulators.markers import state_marker
from streaming.stimulators.outlet import TriggerOutlet
from streaming.stimulators.stimulator import NotSent
from tests.streaming.stimulators.benches import Clock, FakeOutlet, LslBench, limits, marker, until

LIMITS = limits()
PATTERN = LIMITS.patterns[0]


def listening(name: str) -> pylsl.StreamInlet:
    (found,) = pylsl.resolve_byprop("name", name, timeout=10)
    inlet = pylsl.StreamInlet(found)
    inlet.open_stream(10)
    return inlet


def heard(inlet: pylsl.StreamInlet) -> dict[str, object]:
    text, stamp = inlet.pull_sample(timeout=5)
    assert abs(pylsl.local_clock() - stamp) < 5
    return json.loads(text[0])


def test_a_rig_hears_the_marker_and_answers(name: str) -> None:
    stimulator = LslStimulator(LslSettings(name=name), clock=Clock())
    with pytest.raises(RigFault, match="nobody listening"):
        stimulator.arm(LIMITS)
    assert stimulator.status().state == "not_armed"
    inlet = listening(name)
    info = inlet.info()
    assert (info.type(), info.channel_count(), info.nominal_srate()) == ("Markers", 1, 0.0)
    until(lambda: not _refused(stimulator))
    stimulator.announce(state_marker("armed", "confirmed"))
    assert heard(inlet) == {"event": "armed", "reason": "confirmed"}
    stimulator.fire(PATTERN, "a", marker("a", LIMITS))
    assert heard(inlet) == json.loads(marker("a", LIMITS))
    stimulator.marked("a")
    assert [outcome.result for outcome in stimulator.status().outcomes] == ["delivered"]
    stimulator.close()
    assert heard(inlet) == {"event": "disarmed", "reason": "the trigger stream ends"}
    inlet.close_stream()


def _refused(stimulator: LslStimulator) -> bool:
    try:
        stimulator.arm(LIMITS)
    except RigFault:
        return True
    return False


def test_a_second_stream_of_the_name_is_reported_and_forbids_arming(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "LOOK_FOR_RIVALS_S", 0.05)
    first, second = TriggerOutlet(name), TriggerOutlet(name)
    stimulator = LslStimulator(LslSettings(name=name), first)
    until(first.rivals, 10.0)
    assert "another trigger stream" in stimulator.status().problem
    with pytest.raises(RigFault, match="end the other service"):
        stimulator.arm(LIMITS)
    second.close()
    first.close()
    gc.collect()


def test_a_rig_that_leaves_is_a_fault_and_nothing_is_sent() -> None:
    bench = LslBench()
    bench.stimulator.arm(LIMITS)
    bench.outlet.consumers = False
    with pytest.raises(NotSent, match="listens no more"):
        bench.stimulator.fire(PATTERN, "a", "{}")
    status = bench.stimulator.status()
    assert (status.state, status.outcomes, bench.outlet.pushed) == ("fault", (), [])


def test_a_rig_that_leaves_is_noticed_while_nobody_fires() -> None:
    bench = LslBench()
    bench.stimulator.arm(LIMITS)
    bench.outlet.consumers = False
    assert bench.stimulator.status().state == "fault"


def test_a_stream_that_fails_leaves_the_outcome_unknown() -> None:
    bench = LslBench()
    bench.stimulator.arm(LIMITS)
    bench.outlet.broken = True
    with pytest.raises(RigFault, match="liblsl is gone") as raised:
        bench.stimulator.fire(PATTERN, "a", "{}")
    assert not isinstance(raised.value, NotSent)
    assert [outcome.result for outcome in bench.stimulator.status().outcomes] == ["unknown"]


def test_a_stray_answer_changes_nothing() -> None:
    bench = LslBench()
    bench.stimulator.marked("never")
    bench.stimulator.arm(LIMITS)
    bench.stimulator.fire(PATTERN, "a", "{}")
    bench.stimulator.marked("another")
    assert bench.stimulator.status().outcomes == ()
    bench.stimulator.marked("a")
    bench.stimulator.marked("a")
    assert [outcome.result for outcome in bench.stimulator.status().outcomes] == ["delivered"]


def test_a_simulated_rig_has_a_stream_of_its_own_which_no_real_one_hears() -> None:
    assert LslSettings().stream_name == "PhospheneTriggers"
    assert LslSettings(simulated=True).stream_name == "PhospheneTriggersSimulated"


def test_an_outlet_that_is_shared_is_left_to_its_owner() -> None:
    shared = FakeOutlet()
    LslStimulator(outlet=shared).close()
    assert shared.closed == 0
