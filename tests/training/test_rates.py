"""Intervals against published values and against counting."""

from __future__ import annotations

import numpy as np
import pytest

from streaming.scoring import wilson
from training.rates import Arms, newcombe


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_values_of_newcombe_1998a(hits: int, trials: int, low: float, high: float) -> None:
    assert wilson(hits, trials) == pytest.approx([low, high], abs=5e-5)


@pytest.mark.parametrize(
    ("a", "m", "b", "n", "low", "high"),
    [(56, 70, 48, 80, 0.0524, 0.3339), (9, 10, 3, 10, 0.1705, 0.8090), (10, 10, 0, 10, 0.6075, 1.0)],
)
def test_newcombe_gives_the_values_of_his_method_10(a: int, m: int, b: int, n: int, low: float, high: float) -> None:
    assert newcombe(a, m, b, n) == pytest.approx([low, high], abs=5e-5)


def test_an_arm_gains_nothing_by_easier_stimuli() -> None:
    rng = np.random.default_rng(0)
    easy, hard = rng.random(4000) < 0.8, rng.random(4000) < 0.2

    def answers(n_easy: int, n_hard: int) -> tuple[np.ndarray, list[object]]:
        values = np.concatenate([easy[:n_easy], hard[:n_hard]]).astype(float)
        return values, ["easy"] * n_easy + ["hard"] * n_hard

    arms = Arms({"lucky": answers(3000, 1000), "other": answers(1000, 3000)})
    found = arms.lift("lucky", "other")
    assert abs(found["value"]) < 0.03  # type: ignore[arg-type]
    assert found["interval"][0] < 0 < found["interval"][1]  # type: ignore[index]
    assert np.mean(answers(3000, 1000)[0]) - np.mean(answers(1000, 3000)[0]) > 0.25


def test_the_bootstrap_agrees_with_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    mine, other = (rng.random(1000) < 0.65).astype(float), (rng.random(1000) < 0.45).astype(float)
    arms = Arms({"a": (mine, [0] * 1000), "b": (other, [0] * 1000)})
    closed = newcombe(int(mine.sum()), 1000, int(other.sum()), 1000)
    assert arms.lift("a", "b")["interval"] == pytest.approx(closed, abs=0.006)
    assert arms.ratio_of_lifts("a", "a", "b")["value"] == 1.0
