"""Scores against hand counts, closed forms and simulation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from streaming.scoring import LEAST_IN_A_BIN, Score, Tally, balanced_accuracy, calibration, score, wilson

PAIRS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=200)


def of(pairs: list[tuple[float, bool]], threshold: float = 0.5) -> Score:
    return score(np.array([p for p, _ in pairs], float), np.array([y for _, y in pairs], bool), threshold)


@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (0, 7), (3, 7), (7, 7), (50, 100), (999, 1000)])
def test_wilson_is_scipys(hits: int, trials: int) -> None:
    expected = binomtest(hits, trials).proportion_ci(0.95, "wilson")
    assert wilson(hits, trials) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_table_counted_by_hand() -> None:
    pairs = [(0.9, True)] * 6 + [(0.2, True)] * 2 + [(0.5, False)] * 3 + [(0.1, False)] * 9
    found = of(pairs)
    assert (found.hits, found.misses, found.false_alarms, found.correct_rejections) == (6, 2, 3, 9)
    assert found.n == 20
    assert found.prevalence == 0.4
    assert found.balanced_accuracy == 0.75
    assert found.brier == pytest.approx((6 * 0.01 + 2 * 0.64 + 3 * 0.25 + 9 * 0.01) / 20)
    assert found.brier_reference == pytest.approx(0.24)
    assert of(pairs, 0.6).false_alarms == 0


def test_the_interval_adds_the_distances_to_wilsons_limits_in_squares() -> None:
    value, interval = balanced_accuracy(30, 40, 45, 60)
    (p_low, p_high), (q_low, q_high) = wilson(30, 40), wilson(45, 60)
    assert value == 0.75
    assert interval is not None
    assert interval[0] == pytest.approx(0.75 - math.sqrt((0.75 - p_low) ** 2 + (0.75 - q_low) ** 2) / 2)
    assert interval[1] == pytest.approx(0.75 + math.sqrt((p_high - 0.75) ** 2 + (q_high - 0.75) ** 2) / 2)


@pytest.mark.parametrize(("n", "sensitivity", "specificity"), [(20, 0.5, 0.5), (40, 0.7, 0.6), (30, 0.95, 0.9)])
def test_the_interval_holds_its_level(n: int, sensitivity: float, specificity: float) -> None:
    rng = np.random.default_rng(3)
    hits, rejections = rng.binomial(n, sensitivity, 4000), rng.binomial(n, specificity, 4000)
    intervals = [balanced_accuracy(int(h), n, int(r), n)[1] for h, r in zip(hits, rejections, strict=True)]
    inside = np.mean([one is not None and one[0] <= (sensitivity + specificity) / 2 <= one[1] for one in intervals])
    assert 0.93 < inside < 0.985


def test_too_few_say_nothing() -> None:
    nothing = of([])
    assert (nothing.n, nothing.prevalence, nothing.brier, nothing.balanced_accuracy) == (0, None, None, None)
    assert nothing.calibration == ()
    assert nothing.calibration_error is None
    few = of([(0.9, True)] * 40 + [(0.1, False)] * 4)
    assert few.balanced_accuracy is None
    assert few.interval is None
    assert few.brier == pytest.approx(0.01)
    assert of([(0.9, True)] * (LEAST_IN_A_BIN - 1)).calibration == ()


def test_bins_of_equal_count_each_with_its_interval() -> None:
    probability = np.linspace(0, 1, 200)
    perceived = np.random.default_rng(5).random(200) < probability
    bins = calibration(probability, perceived)
    assert [one.n for one in bins] == [40] * 5
    for one, k in zip(bins, range(5), strict=True):
        part = slice(40 * k, 40 * (k + 1))
        assert (one.low, one.high) == (probability[part][0], probability[part][-1])
        assert one.mean_probability == pytest.approx(probability[part].mean())
        assert one.rate == perceived[part].mean()
        assert one.interval == wilson(int(perceived[part].sum()), 40)
        assert one.interval[0] <= one.mean_probability <= one.interval[1]
    error = score(probability, perceived).calibration_error
    assert error == pytest.approx(np.mean([abs(one.rate - one.mean_probability) for one in bins]))


def test_who_always_says_the_same_has_one_bin() -> None:
    (one,) = calibration(np.full(100, 0.3), np.arange(100) < 30)
    assert (one.n, one.mean_probability, one.rate) == (100, pytest.approx(0.3), 0.3)
    constant = of([(0.3, True)] * 30 + [(0.3, False)] * 70)
    assert constant.calibration_error == pytest.approx(0.0)
    assert constant.brier == pytest.approx(constant.brier_reference)
    assert constant.balanced_accuracy == 0.5


@given(PAIRS, st.floats(0.05, 0.95))
def test_what_always_holds(pairs: list[tuple[float, bool]], threshold: float) -> None:
    found = of(pairs, threshold)
    assert found.hits + found.misses + found.false_alarms + found.correct_rejections == found.n == len(pairs)
    assert sum(one.n for one in found.calibration) in (0, found.n)
    assert len(found.calibration) <= 5
    if found.balanced_accuracy is not None and found.interval is not None:
        assert 0.0 <= found.interval[0] <= found.balanced_accuracy <= found.interval[1] <= 1.0
    assert of(pairs[::-1], threshold).balanced_accuracy == found.balanced_accuracy
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_tally_keeps_the_newest_and_takes_out_what_is_withdrawn() -> None:
    tally = Tally(kept=100)
    for seq in range(250):
        tally.add(0.9 if seq % 2 else 0.1, seq % 2 == 1, seq)
    assert tally.score().n == 100
    assert tally.score() is tally.score(), "computed where something changed"
    assert tally.withdraw(200, 209) == 10
    assert tally.withdraw(0, 149) == 0, "forgotten already"
    assert tally.score().n == 90
    assert tally.score().balanced_accuracy == 1.0
    tally.add(0.9, False)
    assert tally.withdraw(0, 10**9) == 90, "what has no number stays"
    assert tally.score().false_alarms == 1
