"""Features to a calibrated probability of a percept, and how good that is: pure, on arrays.

Standard scaler, then a logistic regression with balanced classes whose C is chosen by blocked cross-validation (five
contiguous folds, so that neighbouring trials never sit on both sides), then Platt's scaling of the out-of-fold scores.
A percept is called where the calibrated probability exceeds the training prevalence, the rule that is optimal for
balanced accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

FOLDS = 5
C_GRID = tuple(10.0**k for k in range(-5, 3))
RESAMPLES = 2000
Features = NDArray[np.floating[Any]]
Labels = NDArray[np.bool_]


@dataclass(frozen=True)
class Readout:
    """probability = sigmoid(slope * (weight . (x - mean) / scale + bias) + offset)."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
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
        weight = self.weight / self.scale
        return self.slope * weight, float(self.slope * (self.bias - weight @ self.mean) + self.offset)


def fit(features: Features, labels: Labels, c: float | None = None) -> Readout:
    """Fits to trials in order of time; `c` fixes what cross-validation would choose.

    Raises:
        ValueError: fewer than two trials of a class in some fold's training part.
    """
    folds = np.array_split(np.arange(len(labels)), FOLDS)
    grid = C_GRID if c is None else (c,)
    scores = np.stack([_out_of_fold(features, labels, folds, candidate) for candidate in grid])
    best = int(np.argmax([_mean_auc(labels, score, folds) for score in scores]))
    platt = LogisticRegression(C=1e6).fit(scores[best][:, None], labels)
    mean, scale, model = _regression(features, labels, grid[best])
    return Readout(
        mean=mean,
        scale=scale,
        weight=model.coef_[0].astype(np.float64),
        bias=float(model.intercept_[0]),
        slope=float(platt.coef_[0, 0]),
        offset=float(platt.intercept_[0]),
        prevalence=float(labels.mean()),
        c=grid[best],
    )


def _regression(
    features: Features, labels: Labels, c: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], LogisticRegression]:
    """Scaler and regression. With more features than trials the problem is solved in the span of the trials, where its
    solution lies: the same answer, faster."""
    if len(np.unique(labels)) < 2:
        raise ValueError("only one kind of answer among the trials")
    mean, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    scale[scale == 0] = 1.0
    scaled = (features - mean) / scale
    model = LogisticRegression(C=c, class_weight="balanced", max_iter=2000)
    if scaled.shape[1] <= len(scaled):
        return mean, scale, model.fit(scaled, labels)
    u, s, vt = np.linalg.svd(scaled, full_matrices=False)
    model.fit(u * s, labels)
    model.coef_ = model.coef_ @ vt
    return mean, scale, model


def _out_of_fold(features: Features, labels: Labels, folds: list[NDArray[np.int64]], c: float) -> NDArray[np.float64]:
    scores = np.empty(len(labels))
    for fold in folds:
        rest = np.ones(len(labels), bool)
        rest[fold] = False
        mean, scale, model = _regression(features[rest], labels[rest], c)
        scores[fold] = (features[fold] - mean) / scale @ model.coef_[0] + model.intercept_[0]
    return scores


def _mean_auc(labels: Labels, scores: NDArray[np.float64], folds: list[NDArray[np.int64]]) -> float:
    """Within folds: the level of the scores may differ from fold to fold."""
    both = [fold for fold in folds if 0 < labels[fold].mean() < 1]
    return float(np.mean([roc_auc_score(labels[fold], scores[fold]) for fold in both])) if both else 0.5


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


def _calibration_error(probability: NDArray[np.float64], labels: Labels, bins: int = 10) -> float:
    """Mean distance of observed from predicted rate over ten bins of equally many trials."""
    parts = np.array_split(np.argsort(probability), bins)
    gaps = [abs(probability[part].mean() - labels[part].mean()) * len(part) for part in parts if len(part)]
    return float(sum(gaps) / len(labels))


def chance(
    features: Features, labels: Labels, test_features: Features, test_labels: Labels, c: float, repeats: int = 20
) -> dict[str, Any]:
    """Balanced accuracy of the same readout fitted to permuted labels."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(repeats):
        permuted = fit(features, rng.permutation(labels), c)
        called = permuted.probability(test_features) > permuted.prevalence
        found.append(balanced_accuracy(test_labels, called))
    low, high = np.percentile(found, [2.5, 97.5])
    return {"balanced_accuracy": float(np.mean(found)), "interval": [float(low), float(high)], "permutations": repeats}
