"""How good were the probabilities? Scores of pairs (probability, perceived), in closed form. Pure.

    balanced accuracy   mean of the hit rate and of the correct rejections' rate at one threshold
    Brier score         mean of (probability − perceived)²; its reference is that of who always says the prevalence
    calibration         in bins of equal count: what was said, what came true

Intervals are 95 %. A rate has Wilson's (1927), which holds its level for small counts and stays in [0, 1]. Balanced
accuracy is half the sum of two independent rates, so their distances to Wilson's limits add in squares (Newcombe 1998,
method 10). A score that so few pairs cannot carry is None.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

Z95 = 1.959964
KEPT = 4096  # pairs: the newest win
LEAST_OF_A_CLASS = 5  # perceived and missed trials, for balanced accuracy
LEAST_IN_A_BIN = 10
MOST_BINS = 5


@dataclass(frozen=True, slots=True)
class Bin:
    """Probabilities from `low` to `high`, both found: `n` pairs, what was said on average, and how often it was so."""

    low: float
    high: float
    n: int
    mean_probability: float
    rate: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Score:
    """Of `n` pairs; "yes" is a probability of at least `threshold`."""

    n: int
    threshold: float
    hits: int  # yes, and perceived
    misses: int
    false_alarms: int
    correct_rejections: int
    prevalence: float | None
    balanced_accuracy: float | None
    interval: Interval | None
    brier: float | None
    brier_reference: float | None
    calibration: tuple[Bin, ...]
    calibration_error: float | None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


class Tally:
    """The newest pairs, and their score. One for each thing that is compared: a probe, an arm.

    Args:
        threshold: of "yes". Balanced accuracy is best at the prevalence where probabilities are calibrated.
        kept: how many pairs the score is of.
    """

    def __init__(self, threshold: float = 0.5, kept: int = KEPT) -> None:
        self.threshold = threshold
        self._pairs: deque[tuple[float, bool, int]] = deque(maxlen=kept)
        self._score: Score | None = None

    def add(self, probability: float, perceived: bool, seq: int = -1) -> None:
        """One pair; `seq` names the prediction, where it may have to be withdrawn."""
        self._pairs.append((probability, perceived, seq))
        self._score = None

    def withdraw(self, first_seq: int, last_seq: int) -> int:
        """Take out the predictions first_seq to last_seq; returns how many were in."""
        left = [pair for pair in self._pairs if not first_seq <= pair[2] <= last_seq]
        taken = len(self._pairs) - len(left)
        if taken:
            self._pairs = deque(left, maxlen=self._pairs.maxlen)
            self._score = None
        return taken

    def score(self) -> Score:
        """Of what is in; computed where something changed."""
        if self._score is None:
            probability = np.array([pair[0] for pair in self._pairs], np.float64)
            perceived = np.array([pair[1] for pair in self._pairs], bool)
            self._score = score(probability, perceived, self.threshold)
        return self._score


def score(probability: NDArray[np.float64], perceived: NDArray[np.bool_], threshold: float = 0.5) -> Score:
    """The score of n pairs: probabilities in [0, 1], float64 (n,), and what the participant said, bool (n,)."""
    n, says = len(probability), probability >= threshold
    hits, misses = int(np.sum(says & perceived)), int(np.sum(~says & perceived))
    false_alarms, rejections = int(np.sum(says & ~perceived)), int(np.sum(~says & ~perceived))
    prevalence = (hits + misses) / n if n else None
    accuracy, interval = balanced_accuracy(hits, hits + misses, rejections, rejections + false_alarms)
    bins = calibration(probability, perceived)
    return Score(
        n=n,
        threshold=threshold,
        hits=hits,
        misses=misses,
        false_alarms=false_alarms,
        correct_rejections=rejections,
        prevalence=prevalence,
        balanced_accuracy=accuracy,
        interval=interval,
        brier=float(np.mean((probability - perceived) ** 2)) if n else None,
        brier_reference=None if prevalence is None else prevalence * (1 - prevalence),
        calibration=bins,
        calibration_error=sum(one.n * abs(one.rate - one.mean_probability) for one in bins) / n if bins else None,
    )


def balanced_accuracy(hits: int, perceived: int, rejections: int, missed: int) -> tuple[float | None, Interval | None]:
    """(hits / perceived + rejections / missed) / 2 and its interval; None where a class has under 5 trials."""
    if min(perceived, missed) < LEAST_OF_A_CLASS:
        return None, None
    p, q = hits / perceived, rejections / missed
    (p_low, p_high), (q_low, q_high) = wilson(hits, perceived), wilson(rejections, missed)
    middle = (p + q) / 2
    return middle, (middle - math.hypot(p - p_low, q - q_low) / 2, middle + math.hypot(p_high - p, q_high - q) / 2)


def calibration(probability: NDArray[np.float64], perceived: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """At most 5 bins of about equal count, at least 10 pairs in each on average; equal probabilities share a bin."""
    n_bins = min(MOST_BINS, len(probability) // LEAST_IN_A_BIN)
    if not n_bins:
        return ()
    edges = np.unique(np.quantile(probability, np.arange(1, n_bins) / n_bins))
    which = np.searchsorted(edges, probability, side="right")
    bins = []
    for k in np.unique(which):
        said, came = probability[which == k], perceived[which == k]
        n, k_true = len(said), int(np.sum(came))
        bins.append(Bin(float(said.min()), float(said.max()), n, float(said.mean()), k_true / n, wilson(k_true, n)))
    return tuple(bins)


def wilson(hits: int, trials: int) -> Interval:
    """Wilson's 95 % interval of a rate; (0, 1) without a trial."""
    if trials == 0:
        return 0.0, 1.0
    rate, z2 = hits / trials, Z95**2 / trials
    spread = Z95 * math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials))
    return max(0.0, (rate + z2 / 2 - spread) / (1 + z2)), min(1.0, (rate + z2 / 2 + spread) / (1 + z2))
