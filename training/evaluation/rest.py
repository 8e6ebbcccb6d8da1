"""What resting activity gives without labels: pairs of windows to learn from, windows that no encoder has seen."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.batches import Starts
from training.data import Session
from training.resting import apart, leading


@dataclass(frozen=True, eq=False)
class Rest:
    """`first` and `second` (pairs, channels, bins) follow each other in sessions that encoders may be trained on, in
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


def sample(
    sessions: list[Session], training: Starts, held_out: Starts, length: int, pairs: int, held_out_windows: int
) -> Rest:
    """Evenly over the windows that pretraining trains on and those it holds out."""
    columns: list[list[Any]] = [[] for _ in fields(Rest)]
    for i, starts in training.items():
        allowed = np.asarray(starts)
        chosen = _evenly(leading(allowed, length), max(2, pairs // len(training)))
        if not len(chosen):
            continue
        (a, ok), (b, ok_too) = (
            sessions[i].windows(firsts, length) for firsts in (chosen, chosen + apart(chosen, length))
        )
        both = ok & ok_too
        for column, value in zip(columns[:4], (_still(a, both), _still(b, both), both, _all(i, chosen)), strict=True):
            column.append(value)
    for i, starts in held_out.items():
        chosen = _evenly(np.asarray(starts), max(1, held_out_windows // len(held_out)))
        windows, ok = sessions[i].windows(chosen, length)
        date = np.full(len(chosen), sessions[i].header.date)
        for column, value in zip(columns[4:], (_still(windows, ok), ok, _all(i, chosen), date), strict=True):
            column.append(value)
    return Rest(*(np.concatenate(column) for column in columns))


def _evenly(starts: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    return starts[np.linspace(0, len(starts) - 1, min(n, len(starts))).astype(int)] if len(starts) else starts


def _still(windows: NDArray[np.float32], usable: NDArray[np.bool_]) -> NDArray[np.float16]:
    return np.where(usable[:, :, None], windows, 0).astype(np.float16)


def _all(session: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.full(len(rows), session)


def write(file: Path, rest: Rest) -> None:
    with file.open("wb") as stream:
        np.savez(stream, **{field.name: getattr(rest, field.name) for field in fields(Rest)})


def read(file: Path) -> Rest:
    with np.load(file) as stored:
        arrays: dict[str, Any] = {field.name: stored[field.name] for field in fields(Rest)}
    return Rest(**arrays)
