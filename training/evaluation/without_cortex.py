"""What can be said of a trial without looking at the cortex. A decoder that does no better has read none of it.

Slow drift alone beats one half: who felt much lately will feel the next. What a trial may know are earlier reports of
its session, as live; never its own or a later one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.evaluation.features import Features
from training.evaluation.splits import Rows, by_session
from training.trials import Trials, stimulus

RECENT = 10  # reports
SHRINK = 10.0  # trials' worth of belief that a group is like all


def running_rate(trials: Trials) -> Features:
    """Share of the last ten reports of the session that were percepts, missing ones counted as one half, and how many
    there were, (n, 2)."""
    out = np.empty((len(trials), 2))
    for rows in by_session(trials.session):
        before = np.concatenate([[0], np.cumsum(trials.perceived[rows])[:-1]])
        for k, row in enumerate(rows):
            n = min(k, RECENT)
            seen = before[k] - before[k - n]
            out[row] = (seen + 0.5 * (RECENT - n)) / RECENT, n
    return out


def time_of_trial(trials: Trials) -> Features:
    """Minutes since the session's first trial, their square and root, (n, 3)."""
    minutes = np.empty(len(trials))
    for rows in by_session(trials.session):
        minutes[rows] = (trials.onset_s[rows] - trials.onset_s[rows].min()) / 60
    return np.stack([minutes, minutes**2, np.sqrt(minutes)], axis=1)


def prior(trials: Trials, training: Rows) -> NDArray[np.float64]:
    """P(perceived) by how often it was in this session and at this electrode in `training`, (n,): odds multiply.

    Each rate is drawn towards the overall one as by ten trials of it; an unknown session has the overall rate."""
    usual = float(trials.perceived[training].mean())
    odds = np.full(len(trials), _logit(usual))
    for group in (trials.session, trials.electrode):
        for one in np.unique(group):
            mine = training[group[training] == one]
            rate = (trials.perceived[mine].sum() + SHRINK * usual) / (len(mine) + SHRINK)
            odds[group == one] += _logit(rate) - _logit(usual)
    return np.asarray(1 / (1 + np.exp(-odds)))


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def everything(trials: Trials) -> Features:
    """Stimulus, running rate and time: what stands beside the cortex, in one row, (n, 2 electrodes + 5)."""
    known = stimulus(trials, np.unique(trials.electrode))
    return np.hstack([known, running_rate(trials), time_of_trial(trials)])
