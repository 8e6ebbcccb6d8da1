"""A ridge regression on frozen features, chosen by blocked cross-validation on the training part, scored on later data
with intervals over blocks of time and with the chance that the data themselves give."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5
PENALTIES = tuple(10.0**k for k in range(0, 7))
RESAMPLES, PERMUTATIONS = 2000, 200
Features = NDArray[np.floating[Any]]


def fit(features: Features, target: NDArray[Any]) -> Any:
    """Standardised, the penalty by contiguous folds in order of time."""
    return make_pipeline(StandardScaler(), RidgeCV(PENALTIES, cv=KFold(FOLDS))).fit(features, target)


def velocity_score(
    training: Features,
    moved: NDArray[Any],
    test: Features,
    truth: NDArray[Any],
    trial: NDArray[np.int64],
    seed: int = 0,
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """R² of the velocity (n, 2), both axes together, with its 95 % bootstrap interval over test trials; chance: the
    same readout fitted to velocities that belong to other moments, the training part's turned round by up to all of it.
    Also each trial's squared error, for pairs."""
    rng, readout = np.random.default_rng(seed), fit(training, moved)
    _, group = np.unique(trial, return_inverse=True)
    spread = np.bincount(group, ((truth - truth.mean(axis=0)) ** 2).sum(axis=1))

    def error(said: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(group, ((truth - said) ** 2).sum(axis=1))

    errors = error(readout.predict(test))
    draws = rng.multinomial(len(spread), [1 / len(spread)] * len(spread), RESAMPLES)
    turned = rng.integers(len(moved) // 10, len(moved) - len(moved) // 10, 20)
    others = np.hstack([np.roll(moved, shift, axis=0) for shift in turned])
    scaler, ridge = readout[0], Ridge(readout[1].alpha_).fit(readout[0].transform(training), others)
    by_chance = ridge.predict(scaler.transform(test)).reshape(len(test), len(turned), 2)
    chance = [1 - error(by_chance[:, k]).sum() / spread.sum() for k in range(len(turned))]
    return {
        "r2": float(1 - errors.sum() / spread.sum()),
        "interval": np.percentile(1 - (draws @ errors) / (draws @ spread), [2.5, 97.5]).tolist(),
        "chance": [float(np.mean(chance)), *np.percentile(chance, [2.5, 97.5]).tolist()],
        "penalty": float(readout[1].alpha_),
        "features": training.shape[1],
    }, 1 - (draws @ errors) / (draws @ spread)


def contrast_score(
    training: Features, levels: NDArray[Any], test: Features, truth: NDArray[Any], seed: int = 0
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """How well a readout of the contrast's level (0 to 9) tells the two highest from the two lowest: area under the
    ROC curve with its 95 % bootstrap interval over test presentations; chance: the same calls, contrasts shuffled."""
    rng, readout = np.random.default_rng(seed), fit(training, levels.astype(np.float64))
    extreme = (truth < 2) | (truth > 7)
    said, high = readout.predict(test[extreme]), truth[extreme] > 7
    drawn = [rng.integers(len(high), size=len(high)) for _ in range(RESAMPLES)]
    resampled = np.array([roc_auc_score(high[rows], said[rows]) for rows in drawn])
    shuffled = [roc_auc_score(rng.permutation(high), said) for _ in range(PERMUTATIONS)]
    return {
        "auc": float(roc_auc_score(high, said)),
        "interval": np.percentile(resampled, [2.5, 97.5]).tolist(),
        "chance": [float(np.mean(shuffled)), *np.percentile(shuffled, [2.5, 97.5]).tolist()],
        "penalty": float(readout[1].alpha_),
        "features": training.shape[1],
        "presentations": len(high),
    }, resampled
