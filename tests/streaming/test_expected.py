"""A pulse of our own is answered by its own marker, and until then nothing that may rest on it is vouched for."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from streaming.events import Stimulation
from streaming.expected import Expected, Pulse
from streaming.live import LiveDecoder
from streaming.matching import decoding_settings
from streaming.pipeline import Pipeline
from streaming.predictions import Prediction
from streaming.signal.chain import SignalChain
from tests.streaming.fakes import RATE, ListSource, MeanDecoder, chunks, manifest, stream
from tests.streaming.gate_fakes import Rig
from tests.streaming.signal.test_chain import SHORT, TRAIN_END_S, broadband, run, same, with_train

TRAIN = Stimulation(7, 2, 20.0, 0.167, 50, 170, 60, 300)


def expecting(*trigger_ids: str | None) -> Expected:
    expected = Expected()
    for trigger_id in trigger_ids:
        expected.add(Pulse(trigger_id, start=1000, deadline=2000, gone=900), at_bin=0)
    return expected


@pytest.mark.parametrize(
    ("expected", "named", "start", "answers"),
    [
        ("a", "a", 1100, True),
        ("a", "a", 2500, True),  # a device that was slow: its id tells
        ("a", "b", 1100, False),  # somebody else's, in our time
        ("a", None, 1100, True),  # a rig whose markers name no trigger
        ("a", None, 2500, False),
        (None, "b", 1100, True),  # nobody knows how ours is named
        (None, "b", 2500, False),
    ],
)
def test_which_marker_answers(expected: str | None, named: str | None, start: int, answers: bool) -> None:
    pulses = expecting(expected)
    assert pulses.answered_by(named, start, start + 500) is answers
    assert pulses.touches(0, 5000, 500) is not answers


def test_where_ours_come_with_their_ids_a_nameless_marker_is_somebody_elses() -> None:
    pulses = expecting("a", "b")
    assert pulses.answered_by("a", 1100, 1600)
    assert not pulses.answered_by(None, 1100, 1600)
    assert pulses.touches(0, 5000, 500)
    assert pulses.answered_by("b", 1100, 1600)


def test_what_rests_on_a_pulse_that_has_no_answer() -> None:
    pulses = expecting("a")
    assert not pulses.touches(0, 999, 33), "the window ended before it"
    assert pulses.touches(0, 1000, 900)
    assert not pulses.touches(0, 30000, 901), "it has left the normaliser's window"
    assert not pulses.touches(1001, 5000, 500), "the statistics began anew behind it"
    pulses.add(Pulse("b", 40000, 41000, 2000), at_bin=901)
    assert not pulses.answered_by("a", 1100, 1600), "forgotten"


def test_anothers_marker_does_not_end_our_blank() -> None:
    x = with_train(with_train(broadband(1.5), 20300), 27500)
    timely = SignalChain(SHORT, RATE, 5)
    for onset in (20300, 27500):
        timely.stimulation(onset, TRAIN_END_S)
    run(x, chain=timely)
    chain = run(x[:20000])
    chain.expect_stimulation(20000, 0.6)
    chain.push(x[20000:33000], 20000)
    chain.stimulation(27500, TRAIN_END_S, confirms=False)
    assert chain.awaits_marker
    assert chain.next_bin == chain.grid.bin_of(20000), "bins are still held back"
    chain.stimulation(20300, TRAIN_END_S)
    assert not chain.awaits_marker
    chain.push(x[33000:], 33000)
    assert same(chain, timely)


def test_our_marker_behind_anothers_of_the_same_stretch() -> None:
    chain = run(with_train(broadband(1.0), 20300)[:20000])
    chain.expect_stimulation(20000, 0.6)
    chain.stimulation(20300, TRAIN_END_S, confirms=False)
    assert chain.stimulation(20300, TRAIN_END_S) is None
    assert not chain.awaits_marker


def said_live(markers: list[tuple[int, Stimulation]], fired_at: int = 30000, seconds: float = 4.0) -> list[Prediction]:
    """Every prediction where a pulse `r-1` of ours leaves at sample `fired_at`; markers arrive 0.1 s late."""
    items: list = list(chunks(broadband(seconds, 4), list(range(0, round(seconds * RATE), 300))))
    for onset, marker in sorted(markers, key=lambda entry: -entry[0]):
        items.insert((onset + 3000) // 300, (onset, marker))
    said: list[Prediction] = []
    decoder = LiveDecoder(
        ListSource(items, stream()),
        MeanDecoder(),
        sinks=[said.append],
        clock=lambda: 0.0,
        decide=lambda prediction: "r-1" if prediction.last_sample == fired_at - 1 else None,
    )
    decoder.start()
    decoder.join()
    return said


def late(said: list[Prediction]) -> list[int]:
    return [p.last_sample for p in said if "late_marker" in p.flags]


def test_live_waits_for_the_marker_of_its_own_trigger() -> None:
    ours, another = replace(TRAIN, trigger_id="r-1"), replace(TRAIN, trigger_id="else")
    plain = late(said_live([(30060, ours)]))
    assert max(plain) < 30060 + 3000 + 600, "until the marker came"
    assert late(said_live([(30030, another), (33060, ours)])) == list(range(30299, 36000, 300))
    assert late(said_live([(30060, TRAIN)])) == plain, "nothing is known of ids yet"


def test_a_pulse_without_its_marker_is_in_nothing_that_is_vouched_for() -> None:
    for markers in ([], [(36000, replace(TRAIN, trigger_id="else"))]):
        said = said_live(markers)
        gone = 30000 + round((0.5 + 1.0 + 0.05 + 1.0 + 0.128) * RATE)  # hold, train, filters, normaliser, window
        assert late(said)[0] == 30299
        assert gone - 300 <= max(late(said)) <= gone + 300
        assert all(p.probability is None for p in said if "late_marker" in p.flags)
        assert said[-1].probability is not None


def test_its_marker_lifts_that_however_late_it_can_be_honoured() -> None:
    x = broadband(2.5, 4)
    count = itertools.count()
    pipeline = Pipeline(decoding_settings(manifest(), stream()), stream(), lambda: next(count))
    told = []
    for chunk in chunks(x, list(range(0, len(x), 300))):
        if chunk.first_sample == 30000:
            pipeline.expect_stimulation(30000, 0.5, "r-1")
        if chunk.first_sample == 57000:  # 0.9 s late
            assert pipeline.stimulation(30030, replace(TRAIN, trigger_id="r-1")) is not None
        told += [pipeline.decode(due, MeanDecoder(), 0.0, 0.0, lambda: 0.0) for due in pipeline.push(chunk)]
    assert late(told) == list(range(30299, 57000, 300))
    assert told[-1].probability is not None


def test_the_gate_tells_which_trigger_it_was() -> None:
    rig = Rig()
    rig.run(1.5)
    rig.arm()
    rig.run(1.1)
    told = []
    for _ in range(20):
        rig.now += 0.01
        rig.hop += 1
        told.append(rig.gate.predict(rig.prediction(0.9, 0.003)))
    (fired,) = rig.device.log
    assert [trigger_id for trigger_id in told if trigger_id is not None] == [fired[1]]
