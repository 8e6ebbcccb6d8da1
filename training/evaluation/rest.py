"""What resting activity gives without labels: pairs of windows to learn from, windows that no encoder has seen."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.batches import split
from training.data import Session
from training.evaluation.attention import APART_BINS


@dataclass(frozen=True, eq=False)
class Rest:
    """`first` and `second` (pairs, channels, bins) begin 200 bins apart in sessions that encoders may be trained on, in
    order of time; `held_out` (n, channels, bins) lies in others. Float16, unusable channels at 0. Sessions by number,
    dates by day (ISO)."""

    first: NDArray[np.float16]
    second: NDArray[np.float16]
    usable: NDArray[np.bool_]  # (pairs, channels), in both
    session: NDArray[np.int64]
    held_out: NDArray[np.float16]
    held_out_usable: NDArray[np.bool_]
    held_out_session: NDArray[np.int64]
    held_out_date: NDArray[np.str_]


def sample(sessions: list[Session], length: int, pairs: int, held_out: int) -> Rest:
    """Evenly over the time that pretraining trains on and holds out."""
    training, others = split(sessions, length)
    first, second, usable, session = [], [], [], []
    per_session = max(2, pairs // len(training))
    for i in training:
        starts = np.asarray(sessions[i].allowed(length + APART_BINS))
        starts = np.intersect1d(starts, np.asarray(training[i]))
        if not len(starts):
            continue
        starts = starts[np.linspace(0, len(starts) - 1, min(per_session, len(starts))).astype(int)]
        (a, ok), (b, ok_too) = (sessions[i].windows(starts + ahead, length) for ahead in (0, APART_BINS))
        usable.append(ok & ok_too)
        first.append(np.where(usable[-1][:, :, None], a, 0))
        second.append(np.where(usable[-1][:, :, None], b, 0))
        session.append(np.full(len(starts), i))
    kept, kept_usable, kept_session, dates = [], [], [], []
    for i, starts in others.items():
        starts = np.asarray(starts)
        starts = starts[np.linspace(0, len(starts) - 1, min(max(1, held_out // len(others)), len(starts))).astype(int)]
        windows, ok = sessions[i].windows(starts, length)
        kept.append(np.where(ok[:, :, None], windows, 0))
        kept_usable.append(ok)
        kept_session.append(np.full(len(starts), i))
        dates.append(np.full(len(starts), sessions[i].header.date))
    return Rest(
        *(np.concatenate(part).astype(np.float16) for part in (first, second)),
        np.concatenate(usable),
        np.concatenate(session),
        np.concatenate(kept).astype(np.float16),
        *(np.concatenate(part) for part in (kept_usable, kept_session, dates)),
    )


def write(file: Path, rest: Rest) -> None:
    with file.open("wb") as stream:
        np.savez(stream, **{field.name: getattr(rest, field.name) for field in fields(Rest)})


def read(file: Path) -> Rest:
    with np.load(file) as stored:
        arrays: dict[str, Any] = {field.name: stored[field.name] for field in fields(Rest)}
    return Rest(**arrays)
