"""What happens to the samples of a stream, one step after the other, without a sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.signal.timeline import NEVER, Step, Timeline

SETTLE, BLANK_SETTLE = 50, 4


def timeline() -> Timeline:
    return Timeline(SETTLE, BLANK_SETTLE)


def walk(line: Timeline, received: int, at: int = 0) -> list[Step]:
    """Every step from sample `at` on."""
    steps = []
    while (step := line.step(at, received)) is not None:
        steps.append(step)
        assert step.end > at
        at = step.end
    return steps


def test_nothing_happens() -> None:
    assert walk(timeline(), 1000) == [Step("good", 1000)]


def test_a_train_is_bridged_once_the_first_good_sample_is_here() -> None:
    line = timeline()
    line.blank(100, 300, confirms=True)
    assert walk(line, 300) == [Step("good", 100)]
    bridge = Step("bridge", 300, 100, blank_until=300 + BLANK_SETTLE)
    assert walk(line, 400) == [Step("good", 100), bridge, Step("good", 400)]
    assert walk(line, 400, at=200) == [bridge, Step("good", 400)], "from a snapshot inside"


def test_trains_that_touch_are_one_and_one_told_twice_is_known() -> None:
    line = timeline()
    line.blank(100, 300, confirms=True)
    assert line.unknown_from(120, 280) is None
    assert line.unknown_from(301, 400) == 301
    assert line.unknown_from(300, 400) == 100
    line.blank(300, 400, confirms=True)
    assert [step.end for step in walk(line, 500)] == [100, 400, 500]


def test_a_gap_and_one_that_ends_in_a_blank() -> None:
    line = timeline()
    line.lose(100, 160)
    lost = Step("lost", 160, gap_until=160 + SETTLE)
    assert walk(line, 1000) == [Step("good", 100), lost, Step("good", 1000)]
    line.blank(150, 300, confirms=True)
    assert walk(line, 1000)[1] == Step("lost", 300, gap_until=300 + SETTLE), "the filters start behind the artifact"


def test_a_gap_in_a_blank_leaves_nothing_to_draw_a_line_to() -> None:
    line = timeline()
    line.blank(100, 300, confirms=True)
    line.lose(200, 260)
    assert walk(line, 400)[1] == Step("lost", 300, gap_until=300 + SETTLE, blank_until=260)


@pytest.mark.parametrize(("start", "ends"), [(500, True), (801, False)])
def test_an_expected_train_holds_back_until_its_marker_or_its_deadline(start: int, ends: bool) -> None:
    line = timeline()
    line.expect(800, deadline=2000)
    assert line.awaits_marker
    assert walk(line, 1999) == [Step("good", 800)]
    line.blank(start, start + 300, confirms=False)
    assert line.awaits_marker, "somebody else's"
    line.blank(start, start + 300, confirms=True)
    assert not line.awaits_marker
    line = timeline()
    line.expect(800, deadline=2000)
    assert walk(line, 2000) == [Step("good", 800), Step("good", 2000)]
    assert not line.awaits_marker


def test_a_train_behind_an_expected_one_may_be_it_and_one_before_cannot() -> None:
    line = timeline()
    line.expect(800, deadline=2000)
    line.blank(100, 300, confirms=True)
    assert line.awaits_marker
    line.blank(1500, 1700, confirms=True)
    assert not line.awaits_marker


def test_masks_end_a_step_where_they_begin() -> None:
    line, first, second = timeline(), np.ones(2, bool), np.zeros(2, bool)
    line.set_mask(300, second)
    line.set_mask(200, first)
    assert [step.end for step in walk(line, 1000)] == [200, 300, 1000]
    assert line.mask_at(199) is None
    assert line.mask_at(200) is first
    assert line.mask_at(NEVER) is second


def test_what_stays_when_everything_begins_anew_and_what_is_forgotten() -> None:
    line = timeline()
    line.lose(100, 110)
    line.blank(200, 300, confirms=True)
    line.blank(900, 1000, confirms=True)
    line.forget(300)
    assert [step.end for step in walk(line, 2000)] == [900, 1000, 2000]
    assert not line.over(999)
    assert line.over(1000)
    line.begin(950)
    assert walk(line, 2000, at=950)[0] == Step("bridge", 1000, 950, blank_until=1000 + BLANK_SETTLE)


spans = st.lists(st.tuples(st.integers(0, 900), st.integers(1, 200)).map(lambda at: (at[0], at[0] + at[1])), max_size=4)


def what_happens(steps: list[Step]) -> np.ndarray:
    """Of each sample."""
    return np.repeat([step.kind for step in steps], np.diff([0, *(step.end for step in steps)]))


@given(spans, st.sets(st.integers(0, 1100), max_size=6), st.lists(st.integers(1, 1500), max_size=20))
def test_however_the_samples_come_the_same_happens_to_each(
    trains: list[tuple[int, int]], lost: set[int], cuts: list[int]
) -> None:
    line = timeline()
    for start, end in trains:
        line.blank(start, end, confirms=True)
    gone = list(zip(sorted(lost)[::2], sorted(lost)[1::2], strict=False))
    for start, end in gone:
        line.lose(start, end)
    steps: list[Step] = []
    for received in [*sorted(cuts), 1500]:
        steps += walk(line, received, steps[-1].end if steps else 0)
    happened = what_happens(steps)
    assert np.array_equal(happened, what_happens(walk(line, 1500)))
    assert len(happened) == 1500
    for start, end in trains + gone:
        assert "good" not in happened[start:end]
    for start, end in gone:
        assert "lost" in happened[start:end]
