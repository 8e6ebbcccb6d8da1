"""Pairs of resting windows, one a moment after the other: what poolings and slow directions are learned from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault
from training.data import Session
from training.sampler import Starts

APART_BINS = (400, 1200)  # between the first bins of a pair: slower than a window, faster than a session
AFTER_S = 1.0  # a stimulation's end is not known, its answer takes this long
GOLDEN = (5**0.5 - 1) / 2  # its multiples are spread evenly
LEAST_S = 30.0  # of rest, below which nothing is learned from it


@dataclass(frozen=True, eq=False)
class Pairs:
    """`first` and `second` (pairs, channels, bins) follow each other in a session, in order of time. Float16, unusable
    channels at 0; `usable` (pairs, channels) in both; `session` (pairs,) by number."""

    first: NDArray[np.float16]
    second: NDArray[np.float16]
    usable: NDArray[np.bool_]
    session: NDArray[np.int64]


def pairs(sessions: list[Session], starts: Starts, length: int, n: int) -> Pairs:
    """About `n` of them, evenly over the windows that begin at `starts`."""
    parts, altogether = [], sum(len(allowed) for allowed in starts.values())
    for i, allowed in starts.items():
        chosen = _evenly(leading(np.asarray(allowed), length), max(2, round(n * len(allowed) / altogether)))
        if not len(chosen):
            continue
        (a, ok), (b, ok_too) = (
            sessions[i].windows(firsts, length) for firsts in (chosen, chosen + apart(chosen, length))
        )
        both = ok & ok_too
        parts.append((_still(a, both), _still(b, both), both, np.full(len(chosen), i)))
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def quiet(sessions: list[Session], ends: dict[int, int], length: int) -> Starts:
    """First bins of the windows before `ends` (session -> bin) that no stimulation touches; all of a resting session's.

    Raises:
        OperatorFault: less than half a minute of them.
    """
    found: dict[int, NDArray[np.int64]] = {}
    for i, session in enumerate(sessions):
        rate, starts = session.header.bin_rate_hz, np.asarray(session.allowed(length, 0, ends[i]))
        onsets = np.array([trial.onset_s for trial in session.header.trials]) * rate
        for onset in onsets:
            starts = starts[(starts + length < onset) | (starts > onset + AFTER_S * rate)]
        found[i] = starts
    seconds = sum(len(leading(starts, length)) / sessions[i].header.bin_rate_hz for i, starts in found.items())
    if seconds < LEAST_S:
        raise OperatorFault(
            f"found {seconds:.0f} s of rest, expected at least {LEAST_S:.0f} s without stimulation, from which slow "
            "directions are learned; name resting sessions too, or pool by the mean alone (--pooling mean)"
        )
    return found


def leading(starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Those windows of `length` bins behind which the second one of a pair lies."""
    return starts[np.isin(starts + apart(starts, length), starts)]


def apart(starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """How far behind each window the second one begins, another for each: with a few fixed distances, hum or any other
    steady rhythm has one phase in both, and nothing is slower than that. Never nearer than the window is long: what two
    windows share is slow in any case."""
    nearest, furthest = APART_BINS
    further = np.floor(starts * GOLDEN % 1 * (furthest - nearest + 1)).astype(np.int64)
    return max(nearest, length) + further


def _evenly(starts: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    return starts[np.linspace(0, len(starts) - 1, min(n, len(starts))).astype(int)] if len(starts) else starts


def _still(windows: NDArray[np.float32], usable: NDArray[np.bool_]) -> NDArray[np.float16]:
    return np.where(usable[:, :, None], windows, 0).astype(np.float16)
