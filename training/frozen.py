"""Median and MAD for the robust normalisers that do not follow the signal, fitted on training bins only.

`robust_frozen`: one set for all sessions, pooled over their training parts, since live there is one set as well; the
checkpoint, the probes and the bundle carry it. `robust_session`: each session's own; known only when it is over.
A channel that was still, or usable for less than the history that the chain asks for live, has no statistics: it is
unusable wherever they are applied, so its tokens are dropped.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from models.errors import OperatorFault
from streaming.signal.normaliser import Statistics, fit_statistics
from streaming.signal.settings import BIN_RATE_HZ
from training.data import Session, needs_statistics

MOST_BINS = 500_000  # of more than that every n-th is taken: a median of so many is good to 0.2 % of the scale
SESSION_PART = 0.8  # of a session that has no training part, for its own statistics


def freeze(sessions: list[Session], ends: dict[int, int], statistics: Statistics | None = None) -> list[Session]:
    """The sessions with the statistics that their normaliser needs, fitted on the bins before `ends` (session index →
    bin), or with the `statistics` given; sessions as they are where it needs none.

    Raises:
        OperatorFault: no channel has enough training bins.
    """
    if not needs_statistics(sessions[0].header.chain):
        return sessions
    if sessions[0].header.chain["normaliser"]["kind"] == "robust_session":
        own = [ends.get(i, round(SESSION_PART * len(session.usable))) for i, session in enumerate(sessions)]
        return [_with(session, _fit([session], [end])) for session, end in zip(sessions, own, strict=True)]
    if statistics is None:
        statistics = _fit([sessions[i] for i in ends], list(ends.values()))
    return [_with(session, statistics) for session in sessions]


def _fit(sessions: list[Session], ends: list[int]) -> Statistics:
    stride = max(1, math.ceil(sum(ends) / MOST_BINS))
    envelope_uv = np.concatenate([one.stored[:end:stride] for one, end in zip(sessions, ends, strict=True)])
    usable = np.concatenate([one.usable[:end:stride] for one, end in zip(sessions, ends, strict=True)])
    found = fit_statistics(envelope_uv, usable)
    least = sessions[0].header.chain["normaliser"]["min_history_s"] * BIN_RATE_HZ
    known = (usable.sum(axis=0) * stride >= least) & (found.mad_uv > 0)
    if not known.any():
        names = ", ".join(session.header.name for session in sessions)
        raise OperatorFault(f"{names}: no channel is usable for {least:g} training bins; give longer recordings")
    return Statistics(np.where(known, found.median_uv, np.nan), np.where(known, found.mad_uv, np.nan))


def _with(session: Session, statistics: Statistics) -> Session:
    known = np.isfinite(statistics.median_uv)
    return replace(session, usable=session.usable.only(known), statistics=statistics)


# What checkpoints and probes carry -----------------------------------------------------------------------------------


def describe(sessions: list[Session]) -> dict[str, Any] | None:
    """The frozen statistics of these sessions as JSON, null for a channel without; None for every other normaliser."""
    statistics = sessions[0].statistics
    if statistics is None or sessions[0].header.chain["normaliser"]["kind"] != "robust_frozen":
        return None
    known = np.isfinite(statistics.median_uv)
    return {
        name: [value if ok else None for value, ok in zip(getattr(statistics, name).tolist(), known, strict=True)]
        for name in ("median_uv", "mad_uv")
    }


def read(described: dict[str, Any] | None) -> Statistics | None:
    """Back from `describe`, NaN for null."""
    if described is None:
        return None
    return Statistics(np.array(described["median_uv"], np.float64), np.array(described["mad_uv"], np.float64))
