"""What resting activity gives without labels: windows and which follow each other, and windows no encoder has seen."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data import Session
from training.resting import Pairs, pairs, still
from training.sampler import Starts


@dataclass(frozen=True, eq=False)
class Rest(Pairs):
    """Windows of sessions that encoders may be trained on; `held_out` (n, channels, bins) lies in others. Sessions by
    number, dates by day (ISO)."""

    held_out: NDArray[np.float16]
    held_out_usable: NDArray[np.bool_]
    held_out_session: NDArray[np.int64]
    held_out_date: NDArray[np.str_]


def sample(
    sessions: list[Session], training: Starts, held_out: Starts, length: int, windows: int, held_out_windows: int
) -> Rest:
    """Evenly over the windows that pretraining trains on and those it holds out."""
    found = pairs(sessions, training, length, windows)
    columns: list[list[Any]] = [[] for _ in range(4)]
    for i, starts in held_out.items():
        chosen = _evenly(np.asarray(starts), max(1, held_out_windows // len(held_out)))
        seen, ok = sessions[i].windows(chosen, length)
        date = np.full(len(chosen), sessions[i].header.date)
        for column, value in zip(columns, (still(seen, ok), ok, np.full(len(chosen), i), date), strict=True):
            column.append(value)
    kept = (found.windows[:], found.usable, found.session, found.first, found.second)
    return Rest(*kept, *(np.concatenate(column) for column in columns))


def _evenly(starts: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    return starts[np.linspace(0, len(starts) - 1, min(n, len(starts))).astype(int)] if len(starts) else starts


def write(file: Path, rest: Rest) -> None:
    with file.open("wb") as stream:
        np.savez(stream, **{field.name: getattr(rest, field.name) for field in fields(Rest)})


def read(file: Path) -> Rest:
    with np.load(file) as stored:
        arrays: dict[str, Any] = {field.name: stored[field.name] for field in fields(Rest)}
    return Rest(**arrays)
