"""What a set of embeddings is arranged by: the numbers without which a t-SNE is only a picture. Pure.

Everything is measured in the space that the picture is made from, standardised and on its first 50 principal
components, never in the two dimensions of the picture, which keep neighbours and nothing else (van der Maaten and
Hinton 2008). Each number stands beside what it is when labels are shuffled. Rows are in order of time within a session.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist, squareform
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

COMPONENTS = 50
PERPLEXITY = 30.0
MOST = 1000  # points in a picture, and in the numbers beside it
NEIGHBOURS = 10
SHUFFLES = 200
MANTEL = 999  # rearrangements of the electrodes
FOLDS = 5
RIDGE = 10.0 ** np.arange(-1, 6)
Values = NDArray[np.float64]
Rows = NDArray[np.int64]


def evenly(rows: Rows, most: int = MOST) -> Rows:
    """At most so many of them, evenly over their order."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def space(embedding: NDArray[np.floating[Any]]) -> Values:
    """Standardised, then its first 50 principal components or as many as there are, (n, k)."""
    scaled = StandardScaler().fit_transform(np.asarray(embedding, np.float64))
    return PCA(min(COMPONENTS, *scaled.shape), svd_solver="full").fit_transform(scaled)


def tsne(points: Values, seed: int = 0) -> Values:
    """(n, 2); the same points give the same picture. Few points have a perplexity of a third of their number."""
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(points).astype(np.float64)


@dataclass(frozen=True)
class Against:
    """A number, its mean and the middle 95 % of it when labels are shuffled."""

    value: float
    shuffled: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, value: float, by_chance: Any) -> Against:
        low, high = np.percentile(by_chance, [2.5, 97.5])
        return cls(float(value), float(np.mean(by_chance)), (float(low), float(high)))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


# Neighbours ----------------------------------------------------------------------------------------------------------


def neighbours(points: Values, k: int = NEIGHBOURS, apart: NDArray[Any] | None = None) -> Rows:
    """The k nearest others of each point, (n, k); with `apart` (n,) only those of another group, -1 where there are
    too few."""
    distance = cdist(points, points)
    np.fill_diagonal(distance, np.inf)
    if apart is not None:
        distance[apart[:, None] == apart] = np.inf
    k = min(k, len(points) - 1)
    nearest = np.argsort(distance, axis=1)[:, :k]
    return np.where(np.isfinite(np.take_along_axis(distance, nearest, axis=1)), nearest, -1)


def purity(nearest: Rows, label: NDArray[Any], within: NDArray[Any] | None = None, seed: int = 0) -> Against:
    """Share of a point's neighbours with its own label. Shuffled `within` groups where they are given, so that what
    only a group's make-up gives is no evidence."""
    known = nearest >= 0

    def share(label: NDArray[Any]) -> float:
        return float(np.mean((label[nearest] == label[:, None])[known]))

    rng = np.random.default_rng(seed)
    groups = np.zeros(len(label), int) if within is None else within
    return Against.of(share(label), [share(_shuffled(label, groups, rng)) for _ in range(SHUFFLES)])


def _shuffled(label: NDArray[Any], groups: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    out = label.copy()
    for one in np.unique(groups):
        rows = np.flatnonzero(groups == one)
        out[rows] = label[rng.permutation(rows)]
    return out


# Place on the array --------------------------------------------------------------------------------------------------


def spatial(points: Values, electrode: Rows, position: Values, seed: int = 0) -> dict[str, Any]:
    """Spearman's ρ of the distance between two electrodes' centroids with their distance on the array, over all pairs;
    shuffled: which electrode sits where (Mantel 1967). `electrode` (n,) 1-based, `position` (channels, 2). None with
    fewer than four electrodes."""
    used = np.unique(electrode)
    if len(used) < 4:
        return {"electrodes": len(used), "rho": None}
    latent = pdist(np.stack([points[electrode == one].mean(axis=0) for one in used]))
    away = pdist(position[used - 1])
    pairs = np.triu_indices(len(used), 1)
    ranks, away_ranks = rankdata(latent), squareform(rankdata(away))
    rng = np.random.default_rng(seed)

    def rho(order: NDArray[np.int64]) -> float:
        return float(np.corrcoef(ranks, away_ranks[np.ix_(order, order)][pairs])[0, 1])

    observed = rho(np.arange(len(used)))
    by_chance = np.array([rho(rng.permutation(len(used))) for _ in range(MANTEL)])
    return {
        "electrodes": len(used),
        "pairs": len(latent),
        "rho": Against.of(observed, by_chance).to_dict(),
        "p": (1 + int(np.sum(by_chance >= observed))) / (1 + MANTEL),
        "distances": np.stack([away, latent], axis=1).tolist(),
    }


# What can be read from it linearly -----------------------------------------------------------------------------------


def explained(points: Values, value: Values) -> float:
    """R² of `value` (n,) by ridge regression, out of five contiguous folds; below 0 it is worse than the mean."""
    told = np.empty(len(value))
    for fold in np.array_split(np.arange(len(value)), FOLDS):
        rest = np.ones(len(value), bool)
        rest[fold] = False
        told[fold] = RidgeCV(RIDGE).fit(points[rest], value[rest]).predict(points[fold])
    return float(1 - np.sum((value - told) ** 2) / np.sum((value - value.mean()) ** 2))


def current_by_electrode(points: Values, electrode: Rows, current_ua: Values, seed: int = 0) -> dict[str, Any]:
    """R² of ln(current) at each electrode with at least 30 trials and two currents, and once with currents shuffled."""
    rng, found = np.random.default_rng(seed), {}
    for one in np.unique(electrode):
        rows = np.flatnonzero((electrode == one) & np.isfinite(current_ua))
        ln_current = np.log(current_ua[rows])
        if len(rows) >= 30 and len(np.unique(ln_current)) > 1:
            shuffled = explained(points[rows], rng.permutation(ln_current))
            found[int(one)] = {"trials": len(rows), "r2": explained(points[rows], ln_current), "shuffled": shuffled}
    medians = {key: float(np.median([each[key] for each in found.values()])) for key in ("r2", "shuffled") if found}
    return {"by_electrode": found, "median": medians.get("r2"), "median_shuffled": medians.get("shuffled")}
