"""Which trials are fitted to and which are tested on: by time or by session, never by random trial. Pure.

`session` is (n,), one entry a trial, trials in order of time within each session; rows are indices into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.trials import TRAINING_PART

Rows = NDArray[np.int64]


def temporal(session: NDArray[Any], share: float = TRAINING_PART) -> tuple[Rows, Rows]:
    """The first `share` of each session's trials, and the others."""
    training = np.concatenate([rows[: round(share * len(rows))] for rows in by_session(session)])
    return training, np.setdiff1d(np.arange(len(session)), training)


def by_session(session: NDArray[Any]) -> Iterator[Rows]:
    """The rows of each session, in order of first appearance."""
    _, first = np.unique(session, return_index=True)
    for one in session[np.sort(first)]:
        yield np.flatnonzero(session == one)


def stretches(rows: Rows, labels: int, most: int) -> list[Rows]:
    """At most `most` runs of `labels` consecutive trials out of `rows`, as far apart as they can be: what somebody has
    who recorded that many in a row. Runs that would overlap are not drawn; none where there are too few trials."""
    runs = min(most, len(rows) // labels)
    if runs == 0:
        return []
    starts = np.linspace(0, len(rows) - labels, runs).astype(int) if runs > 1 else [len(rows) - labels]
    return [rows[start : start + labels] for start in starts]
