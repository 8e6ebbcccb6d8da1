"""Schedules, answers, markers, the source in process, lost packets: all without a clock of their own."""

from itertools import islice

import numpy as np
import pytest

from models.errors import OperatorFault, RigFault
from streaming.events import Report, Stimulation, marker_text, parse_marker
from streaming.participant.anatomy import anatomy
from streaming.participant.broadband import Broadband
from streaming.participant.faults import Transport
from streaming.participant.participant import Participant
from streaming.participant.session import Session
from streaming.participant.settings import ParticipantSettings
from streaming.participant.source import SimulatedSource
from streaming.participant.trials import trials

SETTINGS = ParticipantSettings()


def test_intervals_and_currents_of_the_schedules():
    a = anatomy(SETTINGS)
    threshold = list(islice(trials(SETTINGS, a, "threshold"), 40))
    gaps = np.diff([0] + [t.onset_sample for t in threshold]) / 30_000
    assert gaps.min() >= 4
    assert gaps.max() <= 6
    assert {t.electrode for t in threshold} == {6, 25, 53, 65}
    assert all(t.current_ua == a.staircase_ua[t.electrode - 1] for t in threshold)
    psychometric = list(islice(trials(SETTINGS, a, "psychometric"), 72))
    assert len({(t.electrode, t.current_ua) for t in psychometric}) == 72
    assert sorted({round(t.current_ua, 1) for t in psychometric}) == [1.0, 2.4, 5.8, 14.0, 33.6, 81.0]
    assert list(trials(SETTINGS, a, "rest")) == []


def walk(steps: list[int]) -> list:
    session = Session(Participant(SETTINGS), "threshold", 30.0)
    return [event for n in steps for event in session.advance(n)]


def test_every_trial_is_answered_and_steps_do_not_matter():
    events = walk([30_000 * 30])
    assert events == walk([30_000] * 30) == walk([7777] * 116)[: len(events)]
    stimulated = {e.trial: at for at, e in events if isinstance(e, Stimulation)}
    answered = {e.trial: at for at, e in events if isinstance(e, Report)}
    assert stimulated.keys() == answered.keys()
    assert len(stimulated) >= 4
    delays = [(answered[t] - stimulated[t]) / 30_000 for t in stimulated]
    assert 0.5 <= min(delays) <= max(delays) <= 2.0


def test_a_running_train_refuses_another():
    session = Session(Participant(SETTINGS), "rest")
    assert session.stimulate(3, 10.0, "a") is not None
    session.advance(100)
    assert session.stimulate(3, 10.0, "b") is None
    session.advance(5000)
    assert session.stimulate(3, 10.0, "c") is not None


def test_markers_are_read_back_by_the_reader_of_the_contract():
    for _, event in walk([30_000 * 12]):
        assert parse_marker(marker_text(event)) == event


def test_percepts_follow_their_probability_and_come_from_before_the_stimulus():
    participant = Participant(SETTINGS)
    session = Session(participant, "threshold")
    session.advance(30_000 * 2000)
    probability = np.array([d.probability for d in participant.delivered])
    perceived = np.array([d.perceived for d in participant.delivered])
    assert len(perceived) > 350
    assert perceived.mean() == pytest.approx(probability.mean(), abs=0.06)
    assert np.corrcoef(probability, perceived)[0, 1] > 0.3
    one = participant.delivered[10]
    s = participant.latent.read(one.onset_bin - 300, 300)[:, 0].mean()
    assert np.sign(s) == np.sign(one.prestimulus_state)


def test_settings_that_cannot_be():
    with pytest.raises(OperatorFault, match="rate_hz"):
        ParticipantSettings(rate_hz=24_414)
    with pytest.raises(OperatorFault, match="negative"):
        ParticipantSettings(session=-1)


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_source_keeps_real_time_and_catches_up_without_skipping():
    clock = Clock()
    source = SimulatedSource(clock=clock, sleep=clock.sleep, chunk_s=0.01)
    first = source.read(1.0)
    assert first is not None
    assert (first.first_sample, len(first.samples_uv)) == (0, 300)
    assert first.sample_time == pytest.approx(100 + 299 / 30_000)
    assert source.read(0.001) is None
    clock.now += 0.5  # held up
    chunks = [source.read(1.0) for _ in range(14)]
    assert [c.first_sample for c in chunks] == np.cumsum([300] + [len(c.samples_uv) for c in chunks[:-1]]).tolist()
    assert chunks[0].backlog
    assert not chunks[-1].backlog
    assert chunks[-1].arrival_time - chunks[-1].sample_time < 0.02


def test_the_source_without_a_clock_gives_the_participants_samples_and_markers():
    source = SimulatedSource(chunk_s=0.1)
    expected = Broadband(Participant())
    chunks, markers = [], []
    for _ in range(8):
        chunks.append(source.read(0.0).samples_uv)
    source.stimulate(34, 20.0, "trigger-1")
    chunks.append(source.read(0.0).samples_uv)
    markers = source.markers()
    np.testing.assert_array_equal(np.concatenate(chunks[:8]), expected.read(24_000))
    assert [(at, m.electrode, m.trigger_id) for at, m in markers] == [(24_000, 34, "trigger-1")]
    assert source.markers() == []
    assert source.info.participant == "simulated"
    source.close()
    with pytest.raises(RigFault):
        source.read(0.0)


def test_lost_packets_leave_a_gap_of_the_right_length():
    settings = ParticipantSettings(faults=True)
    transport = Transport(settings)
    lost = next(b for b in range(1_000_000) if transport.lost(30 * b))
    assert transport.lost(30 * lost) == 30
    assert transport.arrives(30 * (lost - 1), 90) == 30
    assert transport.lost(30 * (lost + 1)) == 0
    perfect = Transport(SETTINGS)
    assert perfect.arrives(30 * lost, 90) == 90
    assert perfect.stamp_error_s(10**9) == 0
    assert transport.stamp_error_s(0) == 0
    assert transport.stamp_error_s(10**9) == 0.002
