"""What may be said of calls and probabilities on the same trials: scores, their intervals, their differences. Pure.

    balanced accuracy   mean of the hit rate and of the correct rejections' rate
    interval            percentile bootstrap over trials, stratified by session (Efron and Tibshirani 1993)
    two classifiers     McNemar's exact test on the trials that only one of them gets right (McNemar 1947), and the
                        bootstrap interval of the difference, both scored on the same resamples
    Brier score         mean of (probability - perceived)², with Murphy's (1973) reference: always saying the prevalence
    calibration error   mean distance of said and found rate over bins of equal count (Naeini et al. 2015)

All intervals are of 95 % and take the trials of a session for exchangeable. What drifts within a session makes
neighbours alike, and the intervals a little too narrow; those over participants do not share that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, t
from sklearn.metrics import roc_auc_score

from streaming.scoring import wilson

RESAMPLES = 2000
RELIABILITY_BINS = 10
Values = NDArray[np.float64]
Labels = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Resamples:
    """How often each trial is drawn in each bootstrap sample, (resamples, n) float32.

    Every row scored on these trials uses the same draws, so differences of their scores are paired.
    """

    weights: NDArray[np.float32]

    @classmethod
    def drawn(cls, session: NDArray[Any], seed: int = 0, resamples: int = RESAMPLES) -> Resamples:
        """Each session's trials (n,) drawn as often as it has any, with replacement."""
        rng = np.random.default_rng(seed)
        weights = np.zeros((resamples, len(session)), np.float32)
        for one in np.unique(session):
            rows = np.flatnonzero(session == one)
            drawn = rng.integers(len(rows), size=(resamples, len(rows))) + len(rows) * np.arange(resamples)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=resamples * len(rows))
            weights[:, rows] = counts.reshape(resamples, len(rows))
        return cls(weights)

    def only(self, rows: NDArray[Any]) -> Resamples:
        """The same draws of some of the trials."""
        return Resamples(self.weights[:, rows])

    def balanced_accuracy(self, labels: Labels, right: NDArray[Any]) -> Values:
        """In each sample, (resamples,); `right` (n,) is how right each trial was called, a share where draws differ."""
        right = np.asarray(right, np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):
            of_yes = self.weights @ (right * labels) / (self.weights @ labels.astype(np.float32))
            of_no = self.weights @ (right * ~labels) / (self.weights @ (~labels).astype(np.float32))
        return np.asarray((of_yes + of_no) / 2, np.float64)

    def mean(self, values: NDArray[Any]) -> Values:
        """Mean of `values` (n,) in each sample, (resamples,)."""
        return np.asarray(self.weights @ np.asarray(values, np.float32) / self.weights.sum(axis=1), np.float64)


def interval(samples: Values) -> list[float] | None:
    """The central 95 % of what is finite; None where nothing is."""
    known = samples[np.isfinite(samples)]
    return [float(end) for end in np.percentile(known, [2.5, 97.5])] if len(known) else None


def balanced(labels: Labels, right: NDArray[Any]) -> float:
    """Balanced accuracy of trials that were called right to a share of `right`."""
    return float((right[labels].mean() + right[~labels].mean()) / 2)


def mcnemar(right: Labels, other_right: Labels) -> dict[str, Any]:
    """Trials that only one of two classifiers gets right, and the exact two-sided p that they are as many."""
    ours, theirs = int(np.sum(right & ~other_right)), int(np.sum(~right & other_right))
    p = float(binomtest(ours, ours + theirs).pvalue) if ours + theirs else 1.0
    return {"only_first": ours, "only_second": theirs, "p": p}


def difference(labels: Labels, right: NDArray[Any], other_right: NDArray[Any], resamples: Resamples) -> dict[str, Any]:
    """Of two balanced accuracies on the same trials."""
    samples = resamples.balanced_accuracy(labels, np.asarray(right, float) - np.asarray(other_right, float))
    found = balanced(labels, np.asarray(right, float)) - balanced(labels, np.asarray(other_right, float))
    return {"balanced_accuracy": found, "interval": interval(samples)}


def efficiency(labels: Labels, right: NDArray[Any], ideal_right: NDArray[Any], resamples: Resamples) -> dict[str, Any]:
    """(BA - 1/2) / (BA* - 1/2), both on the same trials."""
    ours, best = (resamples.balanced_accuracy(labels, one) - 0.5 for one in (right, ideal_right))
    found = (balanced(labels, right) - 0.5) / (balanced(labels, ideal_right) - 0.5)
    return {"value": float(found), "interval": interval(ours / np.where(best > 0, best, np.nan))}


def area_under_curve(labels: Labels, score: Values) -> float:
    """Of the ROC; NaN with one kind of answer only."""
    return float(roc_auc_score(labels, score)) if 0 < labels.sum() < len(labels) else math.nan


def within_cells(labels: Labels, called: Labels, score: Values, cell: NDArray[Any]) -> dict[str, Any]:
    """Balanced accuracy and area under the curve inside cells of equal stimulus, where both answers occur.

    A cell weighs as much as it has trials. Who only reads the stimulus gets 0.5 in both.
    """
    found, weights = [], []
    for one in np.unique(cell):
        rows = cell == one
        if 0 < labels[rows].sum() < rows.sum():
            right = (called == labels)[rows]
            found.append((balanced(labels[rows], right), area_under_curve(labels[rows], score[rows])))
            weights.append(rows.sum())
    if not found:
        return {"balanced_accuracy": None, "auc": None, "cells": 0}
    both = np.average(np.array(found), axis=0, weights=weights)
    return {"balanced_accuracy": float(both[0]), "auc": float(both[1]), "cells": len(found)}


# Calibration ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReliabilityBin:
    """What was said on average in a bin of `trials`, how often it was perceived, and Wilson's interval of that."""

    trials: int
    said: float
    found: float
    interval: tuple[float, float]


def reliability(labels: Labels, probability: Values, bins: int = RELIABILITY_BINS) -> list[ReliabilityBin]:
    """In bins of equal count, from low to high."""
    parts = np.array_split(np.argsort(probability, kind="stable"), bins)
    return [
        ReliabilityBin(
            len(rows),
            float(probability[rows].mean()),
            float(labels[rows].mean()),
            wilson(int(labels[rows].sum()), len(rows)),
        )
        for rows in parts
        if len(rows)
    ]


def calibration_error(bins: list[ReliabilityBin]) -> float:
    return sum(one.trials * abs(one.said - one.found) for one in bins) / sum(one.trials for one in bins)


def brier(labels: Labels, probability: Values) -> dict[str, float]:
    """Score, that of who always says the prevalence, and the share of it that is saved."""
    score, prevalence = float(np.mean((probability - labels) ** 2)), float(labels.mean())
    reference = prevalence * (1 - prevalence)
    return {"score": score, "reference": reference, "skill": 1 - score / reference if reference else math.nan}


# Over participants ---------------------------------------------------------------------------------------------------


def over_participants(values: list[float]) -> dict[str, Any]:
    """Mean and Student's interval: what to expect of the next participant. None with fewer than two."""
    n = len(values)
    mean = float(np.mean(values))
    if n < 2:
        return {"mean": mean, "interval": None, "participants": n}
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return {"mean": mean, "interval": [mean - half, mean + half], "participants": n}
