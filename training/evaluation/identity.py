"""What else an embedding tells: which session a resting window is of, and how many dimensions it uses.

A readout of the state should not lean on what is peculiar to a session. How well one can tell the session says how much
of that an embedding holds; the cross-session loss is there to lower it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

C = 0.01


def session_identity(embedding: NDArray[np.floating[Any]], session: NDArray[np.int64]) -> dict[str, float]:
    """Share of windows whose session is told right, learned on the first half of each session and tested on its second;
    rows in order of time."""
    first = np.zeros(len(session), bool)
    for one in np.unique(session):
        rows = np.flatnonzero(session == one)
        first[rows[: len(rows) // 2]] = True
    model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=500))
    told = model.fit(embedding[first], session[first]).predict(embedding[~first])
    return {
        "accuracy": float(np.mean(told == session[~first])),
        "chance": 1 / len(np.unique(session)),
        "windows": int((~first).sum()),
    }


def participation_ratio(embedding: NDArray[np.floating[Any]]) -> float:
    """How many dimensions an embedding uses: (Σ λ)² / Σ λ² over the eigenvalues of its covariance."""
    size = np.linalg.eigvalsh(np.cov(embedding.astype(np.float64), rowvar=False))
    return float(size.sum() ** 2 / np.square(size).sum())
