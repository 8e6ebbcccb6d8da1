"""Every prediction and every report ends in one count, whatever the order in which they come."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.answers import HELD, Answers, Counts
from streaming.chunk import Chunk
from streaming.events import Report, Stimulation
from streaming.live import LiveDecoder
from streaming.live_status import LiveSettings, MarkerSeen
from streaming.predictions import Flag, Latency, Prediction
from tests.streaming.fakes import RATE, ListSource, MeanDecoder, chunks, stream
from tests.streaming.signal.test_chain import broadband


def prediction(onset: float, trial: int | None, probability: float | None = 0.8, seq: int = 0) -> Prediction:
    """As evoked mode makes it for a train that began at `onset`."""
    flags: tuple[Flag, ...] = () if probability is not None else ("blanking",)
    return Prediction(
        seq=seq,
        source="live",
        sample_time=onset + 0.298,
        last_sample=round((onset + 0.298) * RATE),
        epoch=0,
        mode="evoked",
        trial=trial,
        model="m@1",
        probability=probability,
        embedding=None,
        usable_channels=96,
        flags=flags,
        latency_ms=Latency(0, 0, 0, 0),
    )


def counted(answers: Answers, **expected: int) -> None:
    assert {name: n for name, n in asdict(answers.counts()).items() if n} == expected


def test_a_prediction_and_its_report() -> None:
    answers = Answers("m@1")
    answers.predicted(prediction(10.0, 1))
    counted(answers, waiting=1)
    answers.reported(Report(1, True), 11.2)
    counted(answers, scored=1, reports_matched=1)
    assert answers.score().hits == 1
    answers.predicted(prediction(15.0, 2))
    answers.reported(Report(2, False), 15.9)
    assert (answers.score().n, answers.score().false_alarms) == (2, 1)


def test_a_longer_window_does_not_move_the_onset() -> None:
    """256 bins end 426 ms after it; a button pressed 20 ms after it answers."""
    answers = Answers("m@1", window_bins=256)
    answers.reported(Report(1, True), 10.02)
    answers.predicted(prediction(10.0, 1)._replace(sample_time=10.426))
    counted(answers, scored=1, reports_matched=1, reports_early=1)


def test_nobody_answers_and_nobody_asked() -> None:
    answers = Answers("m@1", answer_s=5.0)
    answers.predicted(prediction(10.0, 1))
    answers.reported(Report(77, True), 12.0)
    counted(answers, waiting=1, reports_held=1)
    answers.predicted(prediction(20.0, 2))
    counted(answers, waiting=1, unanswered=1, reports_alone=1)
    answers.reported(Report(1, True), 20.5)
    assert answers.score().n == 0, "its trial is over"


def test_a_report_before_its_prediction() -> None:
    answers = Answers("m@1")
    answers.reported(Report(1, True), 10.2)
    answers.predicted(prediction(10.0, 1))
    counted(answers, scored=1, reports_matched=1, reports_early=1)
    answers.reported(Report(2, True), 14.0)
    answers.predicted(prediction(15.0, 2))
    counted(answers, scored=1, waiting=1, reports_matched=1, reports_early=1, reports_held=1)


def test_the_first_report_stands() -> None:
    answers = Answers("m@1")
    answers.predicted(prediction(10.0, 1))
    answers.reported(Report(1, True), 11.0)
    answers.reported(Report(1, False), 11.5)
    counted(answers, scored=1, reports_matched=1, reports_doubled=1)
    assert answers.score().hits == 1
    answers.reported(Report(2, True), 15.1)
    answers.reported(Report(2, False), 15.2)
    answers.predicted(prediction(15.0, 2))
    counted(answers, scored=2, reports_matched=2, reports_early=1, reports_doubled=2)
    assert answers.score().hits == 2


def test_trial_numbers_that_repeat_or_are_missing() -> None:
    answers = Answers("m@1")
    answers.predicted(prediction(10.0, 1, 0.9))
    answers.predicted(prediction(12.0, 1, 0.1))
    answers.reported(Report(1, False), 13.0)
    counted(answers, repeated=1, scored=1, reports_matched=1)
    assert answers.score().correct_rejections == 1, "the newer trial is the one that is answered"
    answers.predicted(prediction(20.0, None))
    answers.reported(Report(None, True), 21.0)
    counted(answers, repeated=1, scored=1, reports_matched=1, unnumbered=1, reports_unnumbered=1)


def test_what_is_not_vouched_for_takes_its_report_along() -> None:
    answers = Answers("m@1")
    answers.predicted(prediction(10.0, 1, None))
    answers.reported(Report(1, True), 11.0)
    counted(answers, not_vouched=1, reports_matched=1)
    assert answers.score().n == 0


@pytest.mark.parametrize("answered", [False, True])
def test_a_withdrawn_prediction_is_taken_out(answered: bool) -> None:
    answers = Answers("m@1")
    answers.predicted(prediction(10.0, 1, seq=5))
    if answered:
        answers.reported(Report(1, True), 11.0)
    answers.withdraw(0, 4)
    answers.withdraw(5, 5)
    answers.withdraw(5, 5)
    if not answered:
        answers.reported(Report(1, True), 11.0)
    counted(answers, withdrawn=1, reports_matched=1)
    assert answers.score().n == 0


def test_only_evoked_predictions_of_this_model() -> None:
    answers = Answers("m@2")
    answers.predicted(prediction(10.0, 1))
    answers.predicted(prediction(10.0, 1)._replace(model="m@2", mode="continuous"))
    counted(answers, other_model=1)


def test_memory_is_bounded() -> None:
    answers = Answers("m@1", answer_s=1e9)
    for trial in range(2 * HELD):
        answers.predicted(prediction(float(trial), trial))
        answers.reported(Report(10**6 + trial, True), float(trial))
    counted(answers, waiting=HELD, unanswered=HELD, reports_held=HELD, reports_alone=HELD)


Step = tuple[str, int | None, float, float | None]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["predicted", "reported", "withdraw"]),
        st.none() | st.integers(0, 4),
        st.floats(0.0, 4.0),
        st.none() | st.floats(0.0, 1.0),
    ),
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_every_event_ends_in_one_count(steps: list[Step]) -> None:
    answers = Answers("m@1", answer_s=3.0)
    now, predictions, reports = 0.0, 0, 0
    for kind, trial, wait, probability in steps:
        now += wait
        if kind == "predicted":
            answers.predicted(prediction(now, trial, probability, seq=predictions))
            predictions += 1
        elif kind == "reported":
            answers.reported(Report(trial, (probability or 0) > 0.5), now)
            reports += 1
        else:
            answers.withdraw(predictions - 2, predictions - 1)
        c: Counts = answers.counts()
        assert min(asdict(c).values()) >= 0
        assert c.scored == answers.score().n
        told = c.scored + c.waiting + c.unanswered + c.not_vouched + c.withdrawn + c.repeated + c.unnumbered
        assert told == predictions
        heard = c.reports_matched + c.reports_held + c.reports_doubled + c.reports_alone + c.reports_unnumbered
        assert heard == reports
    json.dumps(answers.to_dict(), allow_nan=False)


# Evoked mode, from the stream on -------------------------------------------------------------------------------------


def answered(items: list[Chunk | tuple[int, Stimulation | Report]]) -> tuple[Answers, list[Prediction]]:
    """Through the decode thread, as the service wires it."""
    answers, said = Answers("fake@1"), list[Prediction]()

    def marked(seen: MarkerSeen) -> None:
        if isinstance(seen.event, Report):
            answers.reported(seen.event, seen.time)

    live = LiveDecoder(
        ListSource(list(items), stream()),  # type: ignore[arg-type]
        MeanDecoder(),
        LiveSettings(mode="evoked"),
        [said.append, answers.predicted],
        marked=marked,
        clock=lambda: 0.0,
    )
    live.start()
    live.join()
    return answers, said


def session(onsets: list[int], *more: tuple[int, Stimulation | Report]) -> tuple[Answers, list[Prediction]]:
    """A train at each onset, its report 0.25 or 0.7 s later; `more` markers, each with the sample of its arrival."""
    items: list = list(chunks(broadband(4.0, 4), list(range(0, 4 * RATE, 300))))
    markers: list[tuple[int, int, Stimulation | Report]] = []
    for trial, onset in enumerate(onsets):
        markers.append((onset, onset, Stimulation(trial, 2, 20.0, 0.167, 50, 170, 60, 300)))
        markers.append((onset + (7500, 21000)[trial % 2],) * 2 + (Report(trial, trial % 2 == 0),))
    markers += [(arrival, arrival, marker) for arrival, marker in more]
    for arrival, sample, marker in sorted(markers, key=lambda entry: -entry[0]):
        items.insert(arrival // 300, (sample, marker))
    return answered(items)


def test_evoked_mode_from_the_stream_to_the_score() -> None:
    answers, said = session([20000, 50000, 80000])
    assert [one.trial for one in said] == [0, 1, 2]
    assert all(one.probability is not None for one in said)
    counted(answers, scored=3, reports_matched=3, reports_early=2)
    says = np.array([(one.probability or 0) >= 0.5 for one in said])
    assert answers.score().hits == says[[0, 2]].sum()
    assert answers.score().false_alarms == says[1]


def test_a_train_in_the_window_of_another_leaves_that_one_unscored() -> None:
    answers, said = session([20000, 20000 + 7000])
    assert [(one.trial, one.probability is None) for one in said] == [(0, True), (1, False)]
    counted(answers, not_vouched=1, scored=1, reports_matched=2, reports_early=1)


@pytest.mark.parametrize("later", [300, 6000, 12000, 25000])
def test_a_marker_told_twice_is_answered_once(later: int) -> None:
    train = Stimulation(0, 2, 20.0, 0.167, 50, 170, 60, 300)
    items: list = list(chunks(broadband(2.0, 4), list(range(0, 2 * RATE, 300))))
    items.insert((20000 + later) // 300, (20000, train))
    items.insert(20000 // 300, (20000, train))
    assert len(answered(items)[1]) == 1


def test_a_train_whose_end_is_too_late_to_settle_is_told_so() -> None:
    """Without its pulses a train counts as current to its last moment: one of 0.167 s is still decoded, the first bins
    of its window repeating the next (docs/decisions/trains-without-pulses.md), a longer one is not."""
    for duration_s, flags in ((0.1645, ()), (0.167, ()), (0.170, ("blanking",))):
        items: list = [(20000, Stimulation(0, 2, 20.0, duration_s)), *chunks(broadband(1.2, 4), [21000, 30000])]
        (one,) = answered(items)[1]
        assert one.flags == flags
