"""Resting windows and which of them follow each other: what poolings and slow directions are learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault
from training.data import Session
from training.sampler import Starts

APART_BINS = (400, 1200)  # between the first bins of a pair: slower than a window, faster than a session
STRETCH_BINS = 2 * APART_BINS[1]  # that is read on end: most of its windows have one behind them
LEAST_STRETCHES = 4  # of a session, whose mean they are to give
MOST_OF_A_STRETCH = 24  # windows, however short they are
AFTER_S = 1.0  # a stimulation's end is not known, its answer takes this long
LEAST_S = 30.0  # of rest, below which nothing is learned from it


class Windows(Protocol):
    """(n, channels, bins) float16, by rows."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> NDArray[np.float16]: ...


@dataclass(frozen=True, eq=False)
class Pairs:
    """`windows` (n, channels, bins), unusable channels at 0, in order of time in each session; `usable` (n, channels);
    `session` (n,) by number. `second` (pairs,) are rows of windows that follow those of `first` (pairs,)."""

    windows: Windows
    usable: NDArray[np.bool_]
    session: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class OnDisk:
    """Windows that are read when they are asked for: an hour of rest is 0.7 GB. `session`, `start` (n,)."""

    sessions: list[Session]
    session: NDArray[np.int64]
    start: NDArray[np.int64]
    length: int

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> NDArray[np.float16]:
        session, start = self.session[rows], self.start[rows]
        found = np.empty((len(start), self.sessions[0].usable.shape[1], self.length), np.float16)
        for one in np.unique(session):
            here = session == one
            windows, usable = self.sessions[one].windows(start[here], self.length)
            found[here] = still(windows, usable)
        return found


def pairs(sessions: list[Session], starts: Starts, length: int, n: int) -> Pairs:
    """About `n` windows, evenly over those that begin at `starts`, and which of them follow each other; fewer where
    they would overlap."""
    altogether = sum(len(allowed) for allowed in starts.values())
    n = min(n, altogether // max(length, STRETCH_BINS // MOST_OF_A_STRETCH))
    chosen = {
        i: spread(np.asarray(allowed), length, max(2, round(n * len(allowed) / altogether)))
        for i, allowed in starts.items()
        if len(allowed)
    }
    session = np.concatenate([np.full(len(some), i) for i, some in chosen.items()])
    start = np.concatenate(list(chosen.values()))
    usable = np.concatenate([sessions[i].usable.throughout(some, length) for i, some in chosen.items()])
    seen = usable.any(axis=1)  # of a window over a change of all channels none is usable throughout
    session, start, usable = session[seen], start[seen], usable[seen]
    followed = following(session, start, length)
    return Pairs(OnDisk(sessions, session, start, length), usable, session, *followed)


def spread(allowed: NDArray[np.int64], length: int, n: int) -> NDArray[np.int64]:
    """About `n` of the first bins `allowed`, in order: stretches at even distances, in each a window behind the other
    and up to a window later than that: were they regular, hum or any other steady rhythm would have few phases."""
    step = max(length, STRETCH_BINS // MOST_OF_A_STRETCH)
    each = -(-STRETCH_BINS // step)
    stretches = max(LEAST_STRETCHES, round(n / each))
    first = (np.arange(stretches) + 0.5) / stretches * len(allowed) - each * step / 2
    at = first.clip(0).astype(int)[:, None] + np.arange(each) * step
    at = np.unique(at + np.random.default_rng(0).integers(step, size=at.shape))
    return allowed[at[at < len(allowed)]]


def following(
    session: NDArray[np.int64], start: NDArray[np.int64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the windows behind which another one lies, and of that one, (pairs,) each: at another distance each time,
    since with a few fixed ones a steady rhythm has one phase in both windows, and nothing is slower than that. Never
    nearer than the window is long: what two windows share is slow in any case. `start` rises in each `session`."""
    nearest, furthest = _apart(length)
    first, second, rng = [], [], np.random.default_rng(0)
    for one in np.unique(session):
        rows = np.flatnonzero(session == one)
        here = start[rows]
        begin = np.searchsorted(here, here + nearest)
        some = np.searchsorted(here, here + furthest, "right") - begin
        behind = begin + np.floor(rng.random(len(here)) * some).astype(np.int64)
        first.append(rows[some > 0])
        second.append(rows[behind[some > 0]])
    return np.concatenate(first), np.concatenate(second)


def quiet(sessions: list[Session], ends: dict[int, int], length: int) -> Starts:
    """First bins of the windows before `ends` (session -> bin) that no stimulation touches; all of a resting session's.

    Raises:
        OperatorFault: less than half a minute of them.
    """
    found: dict[int, NDArray[np.int64]] = {}
    seconds = 0.0
    for i, session in enumerate(sessions):
        rate, starts = session.header.bin_rate_hz, np.asarray(session.allowed(length, 0, ends[i]))
        onsets = np.array([trial.onset_s for trial in session.header.trials]) * rate
        for onset in onsets:
            starts = starts[(starts + length < onset) | (starts > onset + AFTER_S * rate)]
        found[i] = starts
        nearest, furthest = (np.searchsorted(starts, starts + far) for far in _apart(length))
        seconds += (furthest > nearest).sum() / rate
    if seconds < LEAST_S:
        raise OperatorFault(
            f"found {seconds:.0f} s of rest, expected at least {LEAST_S:.0f} s without stimulation, from which slow "
            "directions are learned; name resting sessions too, or pool by the mean alone (--pooling mean)"
        )
    return found


def still(windows: NDArray[np.float32], usable: NDArray[np.bool_]) -> NDArray[np.float16]:
    return np.where(usable[:, :, None], windows, 0).astype(np.float16)


def _apart(length: int) -> tuple[int, int]:
    return max(APART_BINS[0], length), APART_BINS[1] + max(0, length - APART_BINS[0])
