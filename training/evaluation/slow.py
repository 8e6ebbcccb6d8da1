"""A few slow directions of any features, learned from resting activity without labels.

What perception depends on outlasts a window; most of what fills a feature vector does not. Slow directions are the
generalised eigenvectors of the covariance of features with themselves a moment later against their covariance (slow
feature analysis, Wiskott and Sejnowski 2002). Each session's mean is taken away first: what is constant over a session
says which session it is. With few labels every useless dimension costs, so that two directions are kept. A rival is
given the same map (docs/decisions/slow-directions.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

KEPT = 2
SHRINK = 1e-3  # of the mean variance, added to each: features outnumber what resting windows can tell apart


@dataclass(frozen=True, eq=False)
class SlowMap:
    """`centre` (features,), `directions` (features, kept), slowest first."""

    centre: NDArray[np.float64]
    directions: NDArray[np.float64]

    def __call__(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """(n, kept)."""
        return np.asarray((features - self.centre) @ self.directions, np.float64)

    @classmethod
    def learned(
        cls,
        first: NDArray[np.floating[Any]],
        second: NDArray[np.floating[Any]],
        session: NDArray[np.int64],
        kept: int = KEPT,
    ) -> SlowMap:
        """From features (pairs, …) of windows and of those that follow them in the same `session` (pairs,)."""
        return cls.each(first, second, session, kept, (SHRINK,))[0]

    @classmethod
    def each(
        cls,
        first: NDArray[np.floating[Any]],
        second: NDArray[np.floating[Any]],
        session: NDArray[np.int64],
        kept: int,
        shrinks: Sequence[float],
    ) -> list[SlowMap]:
        """The same, shrunk as much as each of `shrinks` says."""
        centre = (first.mean(axis=0, dtype=np.float64) + second.mean(axis=0, dtype=np.float64)) / 2
        first, second = ((some - centre).astype(np.float32) for some in (first, second))
        for one in np.unique(session):
            rows = session == one
            own = (first[rows].mean(axis=0, dtype=np.float64) + second[rows].mean(axis=0, dtype=np.float64)) / 2
            first[rows] -= own
            second[rows] -= own
        squares = (np.einsum("nf,nf->f", some, some, dtype=np.float64) for some in (first, second))
        scale = np.sqrt(sum(squares) / (2 * len(first)))
        scale[scale < 1e-9] = 1.0
        first /= scale.astype(np.float32)
        second /= scale.astype(np.float32)
        now = (first.T @ first + second.T @ second).astype(np.float64) / (2 * len(first))
        later = (first.T @ second).astype(np.float64) / len(first)
        kept, variance = min(kept, len(now)), np.trace(now) / len(now)
        found = []
        for shrink in shrinks:
            shrunk = now + np.eye(len(now)) * (shrink * variance or 1.0)  # where nothing moves at all
            _, directions = eigh((later + later.T) / 2, shrunk, subset_by_index=(len(now) - kept, len(now) - 1))
            found.append(cls(centre, directions[:, ::-1] / scale[:, None]))
        return found
