"""Features to a calibrated probability of a percept, and how good that is: pure, on arrays.

Standard scaler, then a logistic regression with balanced classes whose C is chosen by blocked cross-validation (five
contiguous folds, so that neighbouring trials never sit on both sides; the strongest penalty within one standard error
of the best), then Platt's scaling of the out-of-fold scores, its slope never negative.
Scaler and span are those of all trials given, so that the folds and the penalties share one decomposition: they hold
no answers. The penalties are walked from strong to weak, each solution the start of the next.
An older probe may serve as anchor. It is itself the strongest penalty of all (C = 0), left only for what is better by
two standard errors, so that few trials only calibrate it again; at the others its score is one more feature, all but
free of penalty, so that many trials turn away from it as far as they must. What comes out is one weight vector all the
same. `free` features are all but free of penalty too: what is known besides, such as electrode and current.
A percept is called where the calibrated probability exceeds the training prevalence, the rule that is optimal for
balanced accuracy.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

FOLDS = 5
C_GRID = tuple(10.0**k for k in range(-5, 3))
FREE = 30.0  # the anchor's score is scaled by so much, and its penalty divided by the square of it
KNOWN = 100.0  # so are free features, further, since they are to be read at every penalty
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
        return np.asarray(expit(features @ weight + bias))

    def folded(self) -> tuple[NDArray[np.float64], float]:
        """Scaler, regression and calibration as one weight vector and bias, in front of the sigmoid."""
        return self.slope * self.weight, self.slope * self.bias + self.offset


def fit(
    features: Features,
    labels: Labels,
    c: float | None = None,
    anchor: Features | None = None,
    free: Features | None = None,
) -> Readout:
    """Fits to trials in order of time; `c` fixes what cross-validation would choose. `anchor` is the weight vector of
    an older probe of the same features. With `free` (n, m) the readout reads `np.hstack([features, free])`.

    Raises:
        ValueError: one kind of answer only, or fewer than two trials of a class in some fold's training part.
    """
    folds = np.array_split(np.arange(len(labels)), FOLDS)
    grid = (c,) if c is not None else C_GRID if anchor is None else (0.0, *C_GRID)
    basis = _basis(features, anchor, free)
    scores = np.empty((len(grid), len(labels)))
    for fold in folds:
        rest = np.ones(len(labels), bool)
        rest[fold] = False
        for row, (weight, bias) in zip(scores, _path(basis.values[rest], labels[rest], grid, basis), strict=True):
            row[fold] = basis.values[fold] @ weight + bias
    chosen = _choose(labels, scores, folds, anchored=grid[0] == 0.0)
    ((weight, bias),) = _path(basis.values, labels, (grid[chosen],), basis)
    spread = float(scores[chosen].std()) or 1.0  # a strong penalty leaves scores of 1e-5, on which a slope is penalised
    platt = LogisticRegression(C=1e6).fit(scores[chosen][:, None] / spread, labels)
    slope, offset = float(platt.coef_[0, 0]) / spread, float(platt.intercept_[0])
    prevalence = float(labels.mean())
    if slope <= 0:  # what cross-validation found worse than chance is called chance, not turned round
        slope, offset = 0.0, float(np.log(prevalence / (1 - prevalence)))
    return Readout(*basis.unscaled(weight, bias), slope, offset, prevalence, grid[chosen])


def _choose(labels: Labels, scores: NDArray[np.float64], folds: list[NDArray[np.int64]], anchored: bool = False) -> int:
    """The strongest penalty whose area under the curve is within a standard error of the best, over folds; the first,
    if it is the anchor, unless the best exceeds it by two."""
    both = [fold for fold in folds if 0 < labels[fold].mean() < 1]
    if not both or len(scores) == 1:
        return 0
    auc = np.array([[_area(labels[fold], row[fold]) for fold in both] for row in scores])
    best = int(np.argmax(auc.mean(axis=1)))
    ahead = auc[best] - auc[0]
    if anchored and ahead.mean() <= 2 * ahead.std() / np.sqrt(len(both)):
        return 0
    error = auc[best].std() / np.sqrt(len(both))
    return int(np.flatnonzero(auc.mean(axis=1) >= auc[best].mean() - error)[0])


def _area(labels: Labels, score: NDArray[np.float64]) -> float:
    """scikit-learn's `roc_auc_score` to the last bit, without its looking at what it is given: that takes a
    millisecond, forty times in each fit, and half of the time of a fit to a hundred trials."""
    order = np.argsort(score, kind="stable")[::-1]
    told = score[order]
    steps = np.append(np.flatnonzero(np.diff(told)), len(told) - 1)
    true = np.cumsum(labels[order], dtype=np.float64)[steps]
    false = 1 + steps - true
    if len(steps) > 2:  # points between others on a line are left out, as there: sums are rounded in the same order
        corner = np.concatenate([[True], (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0), [True]])
        true, false = true[corner], false[corner]
    true, false = np.append(0.0, true), np.append(0.0, false)
    return float(np.trapezoid(true / true[-1], false / false[-1]))


@dataclass(frozen=True, eq=False)
class _Basis:
    """Standardised features, (n, k). With more features than trials k is n: the problem is solved in the span of the
    trials, where its solution lies, the same answer faster. Free features, then the anchor's score, come last."""

    values: Features
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    back: Features | None  # (features, k) from the span to the standardised features
    n_free: int
    anchor: NDArray[np.float64] | None  # as a weight vector, scaled
    anchor_column: NDArray[np.float64] | None  # the weights on `values` that give the anchor itself

    def unscaled(self, weight: NDArray[np.float64], bias: float) -> tuple[NDArray[np.float64], float]:
        """Weight on the features as they were given, and bias."""
        anchored = 0.0
        if self.anchor is not None:
            weight, anchored = weight[:-1], float(weight[-1])
        own, free = weight[: len(weight) - self.n_free], KNOWN * weight[len(weight) - self.n_free :]
        out = np.concatenate([own if self.back is None else self.back @ own, free]) / self.scale
        if self.anchor is not None:
            out += anchored * self.anchor
        return out, float(bias - out @ self.mean)


def _basis(features: Features, anchor: Features | None = None, free: Features | None = None) -> _Basis:
    """In the precision of the features: float32 is enough where there are thousands of them."""
    mean, scale, scaled = _standardised(features)
    back = None
    if scaled.shape[1] > len(scaled):
        size, u = np.linalg.eigh((scaled @ scaled.T).astype(np.float64))
        kept = size > (1e-9 if scaled.dtype == np.float64 else 1e-5) * size[-1]
        back = scaled.T @ (u[:, kept] / np.sqrt(size[kept])).astype(scaled.dtype)
        scaled = u[:, kept] * np.sqrt(size[kept])
    columns = [scaled.astype(np.float64)]
    if free is not None:
        free_mean, free_scale, free_scaled = _standardised(free.astype(np.float64))
        columns.append(KNOWN * free_scaled)
        mean, scale = np.concatenate([mean, free_mean]), np.concatenate([scale, free_scale])
    own = None
    if anchor is not None:
        assert free is None
        score = (features - mean) @ anchor
        if (spread := float(score.std())) > 0:
            own = FREE / spread * anchor
            columns.append(FREE / spread * score[:, None])
    column = None
    if own is not None:
        column = np.zeros(sum(one.shape[1] for one in columns))
        column[-1] = spread / FREE
    return _Basis(np.hstack(columns), mean, scale, back, 0 if free is None else free.shape[1], own, column)


def _standardised(features: Features) -> tuple[NDArray[np.float64], NDArray[np.float64], Features]:
    mean, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    scale[scale < 1e-9 * np.maximum(1.0, np.abs(mean))] = 1.0
    return mean, scale, (features - mean.astype(features.dtype)) / scale.astype(features.dtype)


def _path(
    values: Features, labels: Labels, grid: tuple[float, ...], basis: _Basis
) -> list[tuple[NDArray[np.float64], float]]:
    """Weight and bias on `values`, rows of the basis, for each C of the grid (rising)."""
    if len(np.unique(labels)) < 2:
        raise ValueError("only one kind of answer among the trials")
    found = []
    steps = 5000 if len(grid) == 1 else GRID_STEPS
    model = LogisticRegression(class_weight="balanced", max_iter=steps, warm_start=True)
    for c in grid:
        if c == 0.0:
            column = basis.anchor_column
            found.append((np.zeros(values.shape[1]) if column is None else column, 0.0))
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if len(grid) > 1 else "default", ConvergenceWarning)
            model.set_params(C=c).fit(values, labels)
        found.append((model.coef_[0].copy(), float(model.intercept_[0])))
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
    """The same regression, fitted to permuted labels again and again; its scores are not calibrated."""
    rng, basis, prevalence = np.random.default_rng(0), _basis(features), float(labels.mean())
    usual = float(np.log(prevalence / (1 - prevalence)))  # of balanced classes, so that what scores above 0 is called
    fitted = (_path(basis.values, rng.permutation(labels), (c,), basis)[0] for _ in range(repeats))
    return [Readout(*basis.unscaled(*one), 1.0, usual, prevalence, c) for one in fitted]


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
