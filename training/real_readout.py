"""A ridge regression on frozen features, its penalty chosen by blocked cross-validation on the training part, scored on
later data with intervals over groups of neighbours (trials, stretches of time) and the chance that the data give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5
PENALTIES = tuple(10.0**k for k in range(6))
RESAMPLES, DRAWS = 2000, 200  # of test groups; of chance
LOW, HIGH = 2, 7  # contrasts below the one against those above the other
Features = NDArray[np.floating[Any]]
Groups = NDArray[np.int64]
Scored = tuple[dict[str, Any], NDArray[np.float64]]  # what was found, and the score of each resample


def fit(features: Features, target: NDArray[Any], groups: Groups) -> Any:
    """Features (n, k) in order of time, standardised; folds are contiguous and part no group (n,)."""
    _, group = np.unique(groups, return_inverse=True)
    folds = PredefinedSplit(group * FOLDS // (group.max() + 1))
    return make_pipeline(StandardScaler(), RidgeCV(PENALTIES, cv=folds)).fit(features, target)


def resampled(groups: Groups, rng: np.random.Generator) -> tuple[Groups, NDArray[np.int64]]:
    """The group of each row, from 0, and how often each group is drawn in each resample (RESAMPLES, groups)."""
    _, group = np.unique(groups, return_inverse=True)
    n = int(group.max()) + 1
    return group, rng.multinomial(n, [1 / n] * n, RESAMPLES)


def interval(values: Any) -> list[float]:
    return np.percentile(values, [2.5, 97.5]).tolist()


def velocity_score(
    training: Features,
    moved: NDArray[Any],
    earlier: Groups,
    test: Features,
    truth: NDArray[Any],
    groups: Groups,
    seed: int = 0,
) -> Scored:
    """R² of the velocity (n, 2), both axes together, with its 95 % bootstrap interval over test trials; chance: the
    same readout fitted to velocities of other moments, the training part's turned round by a tenth of it or more."""
    rng, readout = np.random.default_rng(seed), fit(training, moved, earlier)
    group, drawn = resampled(groups, rng)
    spread = np.bincount(group, ((truth - truth.mean(axis=0)) ** 2).sum(axis=1))

    def error(said: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(group, ((truth - said) ** 2).sum(axis=1))

    said = readout.predict(test)
    scores = 1 - (drawn @ error(said)) / (drawn @ spread)
    scaler, penalty = readout[0], float(readout[1].alpha_)
    turns = rng.integers(len(moved) // 10, len(moved) - len(moved) // 10, DRAWS)
    others = np.hstack([np.roll(moved, turn, axis=0) for turn in turns])
    by_chance = Ridge(penalty).fit(scaler.transform(training), others).predict(scaler.transform(test))
    chance = [1 - error(by_chance[:, 2 * k : 2 * k + 2]).sum() / spread.sum() for k in range(DRAWS)]
    return {
        "r2": float(1 - error(said).sum() / spread.sum()),
        "interval": interval(scores),
        "chance": [float(np.mean(chance)), *interval(chance)],
        "correlation": [float(np.corrcoef(said[:, k], truth[:, k])[0, 1]) for k in range(2)],
        "penalty": penalty,
        "features": training.shape[1],
    }, scores


def contrast_score(
    training: Features,
    levels: NDArray[Any],
    earlier: Groups,
    test: Features,
    truth: NDArray[Any],
    groups: Groups,
    seed: int = 0,
) -> Scored:
    """How well a readout of the contrast's level (0 to 9) tells the two highest from the two lowest: area under the
    ROC curve with its 95 % bootstrap interval over stretches; chance: the same calls against shuffled contrasts."""
    rng, readout = np.random.default_rng(seed), fit(training, levels.astype(np.float64), earlier)
    extreme = (truth < LOW) | (truth > HIGH)
    said, high = readout.predict(test[extreme]), truth[extreme] > HIGH
    group, drawn = resampled(groups[extreme], rng)
    scores = _areas(said, high, group, drawn)
    chance = [roc_auc_score(rng.permutation(high), said) for _ in range(DRAWS)]
    return {
        "auc": float(roc_auc_score(high, said)),
        "interval": interval(scores),
        "chance": [float(np.mean(chance)), *interval(chance)],
        "penalty": float(readout[1].alpha_),
        "features": training.shape[1],
        "presentations": len(high),
    }, scores


def _areas(said: NDArray[Any], high: NDArray[np.bool_], group: Groups, drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """The area under the ROC curve of each resample of groups: pairs won, counted once between any two groups."""
    groups = drawn.shape[1]
    up, down = said[high][:, None], said[~high][None]
    won = np.zeros((groups, groups))
    np.add.at(won, (group[high][:, None], group[~high][None]), (up > down) + 0.5 * (up == down))
    pairs = (drawn @ np.bincount(group[high], minlength=groups)) * (drawn @ np.bincount(group[~high], minlength=groups))
    return np.einsum("rg,gh,rh->r", drawn, won, drawn, optimize=True) / pairs


def side_by_side(
    see: dict[str, Callable[[Any], Features]], score: Callable[..., Scored], training: Any, test: Any
) -> dict[str, Any]:
    """Every kind of features of the training and test windows scored, and by how much the masked autoencoder is ahead
    of each, on the same resamples."""
    scored = {name: score(features(training), features(test)) for name, features in see.items()}
    mae = scored["mae"][1]
    return {name: told | {"mae_ahead_interval": interval(mae - drawn)} for name, (told, drawn) in scored.items()}
