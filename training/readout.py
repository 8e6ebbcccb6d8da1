"""Features to a calibrated probability of a percept, and how good that is: pure, on arrays.

Standard scaler, then a logistic regression with balanced classes whose C is chosen by blocked cross-validation (five
contiguous folds, so that neighbouring trials never sit on both sides; the strongest penalty within one standard error
of the best), then Platt's scaling of the out-of-fold scores, its slope never negative.
An older probe may serve as anchor. It is itself the strongest penalty of all (C = 0), left only for what is better by
two standard errors, so that few trials only calibrate it again; at the others its score is one more feature, all but
free of penalty, so that many trials turn away from it as far as they must. What comes out is one weight vector all the
same.
A percept is called where the calibrated probability exceeds the training prevalence, the rule that is optimal for
balanced accuracy.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

FOLDS = 5
C_GRID = tuple(10.0**k for k in range(-5, 3))
FREE = 30.0  # the anchor's score is scaled by so much, and its penalty divided by the square of it
GRID_STEPS = 200  # a penalty so weak that it has not settled by then overfits, and is not chosen; the last fit settles
RESAMPLES = 2000
Features = NDArray[np.floating[Any]]
Labels = NDArray[np.bool_]


@dataclass(frozen=True)
class Readout:
    """probability = sigmoid(slope * (weight . x + bias) + offset), the scaler folded into weight and bias."""

    weight: NDArray[np.float64]
    bias: float
    slope: float
    offset: float
    prevalence: float
    c: float

    def probability(self, features: Features) -> NDArray[np.float64]:
        weight, bias = self.folded()
        return 1 / (1 + np.exp(-(features @ weight + bias)))

    def folded(self) -> tuple[NDArray[np.float64], float]:
        """Scaler, regression and calibration as one weight vector and bias, in front of the sigmoid."""
        return self.slope * self.weight, self.slope * self.bias + self.offset


def fit(features: Features, labels: Labels, c: float | None = None, anchor: Features | None = None) -> Readout:
    """Fits to trials in order of time; `c` fixes what cross-validation would choose. `anchor` is the weight vector of
    an older probe of the same features.

    Raises:
        ValueError: fewer than two trials of a class in some fold's training part.
    """
    folds = np.array_split(np.arange(len(labels)), FOLDS)
    grid = (c,) if c is not None else C_GRID if anchor is None else (0.0, *C_GRID)
    scores = np.empty((len(grid), len(labels)))
    for fold in folds:
        rest = np.ones(len(labels), bool)
        rest[fold] = False
        for row, (weight, bias) in zip(scores, _regressions(features[rest], labels[rest], grid, anchor), strict=True):
            row[fold] = features[fold] @ weight + bias
    chosen = _choose(labels, scores, folds, anchored=grid[0] == 0.0)
    ((weight, bias),) = _regressions(features, labels, (grid[chosen],), anchor)
    platt = LogisticRegression(C=1e6).fit(scores[chosen][:, None], labels)
    slope, offset = float(platt.coef_[0, 0]), float(platt.intercept_[0])
    prevalence = float(labels.mean())
    if slope <= 0:  # what cross-validation found worse than chance is called chance, not turned round
        slope, offset = 0.0, float(np.log(prevalence / (1 - prevalence)))
    return Readout(weight, bias, slope, offset, prevalence, grid[chosen])


def _choose(labels: Labels, scores: NDArray[np.float64], folds: list[NDArray[np.int64]], anchored: bool = False) -> int:
    """The strongest penalty whose area under the curve is within a standard error of the best, over folds; the first,
    if it is the anchor, unless the best exceeds it by two."""
    both = [fold for fold in folds if 0 < labels[fold].mean() < 1]
    if not both or len(scores) == 1:
        return 0
    auc = np.array([[roc_auc_score(labels[fold], row[fold]) for fold in both] for row in scores])
    best = int(np.argmax(auc.mean(axis=1)))
    ahead = auc[best] - auc[0]
    if anchored and ahead.mean() <= 2 * ahead.std() / np.sqrt(len(both)):
        return 0
    error = auc[best].std() / np.sqrt(len(both))
    return int(np.flatnonzero(auc.mean(axis=1) >= auc[best].mean() - error)[0])


def _regressions(
    features: Features, labels: Labels, grid: tuple[float, ...], anchor: Features | None = None
) -> list[tuple[NDArray[np.float64], float]]:
    """Weight and bias on the unscaled features, for each C. With more features than trials the problem is solved in the
    span of the trials, where its solution lies: the same answer, faster."""
    if len(np.unique(labels)) < 2:
        raise ValueError("only one kind of answer among the trials")
    mean, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    scale[scale == 0] = 1.0
    scaled = (features - mean) / scale
    back = None
    if scaled.shape[1] > len(scaled):
        size, u = np.linalg.eigh(scaled @ scaled.T)
        kept = size > 1e-9 * size[-1]
        scaled, back = u[:, kept] * np.sqrt(size[kept]), scaled.T @ (u[:, kept] / np.sqrt(size[kept]))
    anchored = None
    if anchor is not None and (spread := float((features @ anchor).std())) > 0:
        anchored = FREE / spread * anchor
        scaled = np.hstack([scaled, ((features - mean) @ anchored)[:, None]])
    found = []
    steps = 5000 if len(grid) == 1 else GRID_STEPS
    for c in grid:
        if c == 0.0:
            assert anchor is not None
            found.append((anchor, 0.0))
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if len(grid) > 1 else "default", ConvergenceWarning)
            model = LogisticRegression(C=c, class_weight="balanced", max_iter=steps).fit(scaled, labels)
        own = model.coef_[0] if anchored is None else model.coef_[0, :-1]
        weight = (own if back is None else back @ own) / scale
        if anchored is not None:
            weight += model.coef_[0, -1] * anchored
        found.append((weight, float(model.intercept_[0] - weight @ mean)))
    return found


# How good it is ------------------------------------------------------------------------------------------------------


def balanced_accuracy(labels: Labels, called: Labels) -> float:
    return float((called[labels].mean() + (~called[~labels]).mean()) / 2)


def score(probability: NDArray[np.float64], labels: Labels, prevalence: float, seed: int = 0) -> dict[str, Any]:
    """Balanced accuracy with its 95 % bootstrap interval over trials, area under the ROC curve, calibration."""
    called = probability > prevalence
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(labels), size=(RESAMPLES, len(labels)))
    y, hit = labels[draws], (called == labels)[draws]
    with np.errstate(invalid="ignore"):
        resampled = ((hit & y).sum(1) / y.sum(1) + (hit & ~y).sum(1) / (~y).sum(1)) / 2
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return {
        "balanced_accuracy": balanced_accuracy(labels, called),
        "interval": [float(low), float(high)],
        "auc": float(roc_auc_score(labels, probability)),
        "brier": float(np.mean((probability - labels) ** 2)),
        "calibration_error": _calibration_error(probability, labels),
        "trials": len(labels),
        "perceived": int(labels.sum()),
    }


def gain(called: Labels, other: Labels, labels: Labels, seed: int = 0) -> dict[str, Any]:
    """By how much `called` exceeds `other` in balanced accuracy, on the same trials, drawn together."""
    draws = np.random.default_rng(seed).integers(len(labels), size=(RESAMPLES, len(labels)))
    y, better = labels[draws], ((called == labels).astype(int) - (other == labels))[draws]
    with np.errstate(invalid="ignore"):
        resampled = ((better * y).sum(1) / y.sum(1) + (better * ~y).sum(1) / (~y).sum(1)) / 2
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    found = balanced_accuracy(labels, called) - balanced_accuracy(labels, other)
    return {"balanced_accuracy": found, "interval": [float(low), float(high)]}


def _calibration_error(probability: NDArray[np.float64], labels: Labels, bins: int = 10) -> float:
    """Mean distance of observed from predicted rate over ten bins of equally many trials."""
    parts = np.array_split(np.argsort(probability), bins)
    gaps = [abs(probability[part].mean() - labels[part].mean()) * len(part) for part in parts if len(part)]
    return float(sum(gaps) / len(labels))


def permuted(features: Features, labels: Labels, c: float, repeats: int = 20) -> list[Readout]:
    """The same readout, fitted to permuted labels again and again."""
    rng = np.random.default_rng(0)
    return [fit(features, rng.permutation(labels), c) for _ in range(repeats)]


def chance(readouts: list[Readout], features: Features, labels: Labels) -> dict[str, Any]:
    """Balanced accuracy of readouts that were fitted to permuted labels."""
    found = [balanced_accuracy(labels, one.probability(features) > one.prevalence) for one in readouts]
    low, high = np.percentile(found, [2.5, 97.5])
    return {
        "balanced_accuracy": float(np.mean(found)),
        "interval": [float(low), float(high)],
        "permutations": len(readouts),
    }


def shifted(called: Labels, labels: Labels, least: int = 10) -> dict[str, Any]:
    """Balanced accuracy of the same calls for answers moved in time, by every number of trials from `least` on: chance
    that keeps whatever drifts in both."""
    found = [balanced_accuracy(np.roll(labels, k), called) for k in range(least, len(labels) - least + 1)]
    low, high = np.percentile(found, [2.5, 97.5])
    return {"balanced_accuracy": float(np.mean(found)), "interval": [float(low), float(high)], "shifts": len(found)}


def percent(found: dict[str, Any] | None) -> str:
    if found is None:
        return "–"
    low, high = found["interval"]
    return f"{100 * found['balanced_accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
