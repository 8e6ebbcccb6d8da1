"""What else an embedding tells: which session a resting window is of, and how many dimensions it uses.

A readout of the state should not lean on what is peculiar to a session. How well one can tell the session says how much
of that an embedding holds; the cross-session loss is there to lower it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.evaluation.statistics import over_participants as over_sessions

C = 0.01


@dataclass(frozen=True, eq=False)
class Told:
    """Of each window, in order of time within its session: whether that was told right, and which it is; (n,)."""

    right: NDArray[np.bool_]
    session: NDArray[np.int64]

    def by_session(self) -> NDArray[np.float64]:
        """Share that was told right, (sessions,)."""
        return np.array([self.right[self.session == one].mean() for one in np.unique(self.session)])


def told(embedding: NDArray[np.floating[Any]], session: NDArray[np.int64]) -> Told:
    """Learned on the first half of each session, tested on its second; rows in order of time. Of one session alone
    nothing is asked."""
    first = np.zeros(len(session), bool)
    for one in np.unique(session):
        rows = np.flatnonzero(session == one)
        first[rows[: len(rows) // 2]] = True
    if len(np.unique(session)) < 2:
        return Told(np.zeros(0, bool), session[:0])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=500))
    found = model.fit(embedding[first], session[first]).predict(embedding[~first])
    return Told(found == session[~first], session[~first])


def session_identity(told: Told) -> dict[str, Any] | None:
    """Mean over sessions with its interval, also that; None of one session."""
    shares = told.by_session()
    if len(shares) < 2:
        return None
    found = over_sessions(shares)
    return {
        "accuracy": found["mean"],
        "interval": found["interval"],
        "chance": 1 / len(shares),
        "windows": len(told.right),
    }


def session_identity_less(told: Told, other: Told) -> dict[str, Any] | None:
    """By how much one embedding tells more than another of the same windows, in pairs by session; None of one."""
    shares = told.by_session() - other.by_session()
    if len(shares) < 2:
        return None
    found = over_sessions(shares)
    return {"difference": found["mean"], "interval": found["interval"]}


def participation_ratio(embedding: NDArray[np.floating[Any]]) -> float:
    """How many dimensions an embedding uses: (Σ λ)² / Σ λ² over the eigenvalues of its covariance."""
    size = np.linalg.eigvalsh(np.cov(embedding.astype(np.float64), rowvar=False))
    return float(size.sum() ** 2 / np.square(size).sum())
