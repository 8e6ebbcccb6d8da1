"""Which windows are trained on, and which are held out.

The cross-session loss compares windows of the same session with windows of others, and in 32 windows from anywhere in
252 sessions there are two such pairs of 496. So a batch is spread evenly over a few sessions that are drawn in
proportion to their duration, without replacement; inside a session every valid time is as likely as any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault
from models.manifest import PROBES
from training.data import Session
from training.settings import PretrainSettings
from training.trials import TRAINING_PART, training_ends, valid_trials

HELD_OUT_DATES = 4
Starts = dict[int, Sequence[int]]  # session index -> first bins of the windows that may be drawn
Windows = list[tuple[int, int]]  # session index, first bin


@dataclass(frozen=True, eq=False)
class Choice:
    """Where windows may begin: `rest`, to train on; `trials`, around stimulation; `held_out`, to choose by."""

    rest: Starts
    held_out: Starts
    trials: Starts

    @property
    def training(self) -> Starts:
        """All that is trained on."""
        return {i: firsts for part in (self.rest, self.trials) for i, firsts in part.items() if len(firsts)}


def choose(sessions: list[Session], length: int, settings: PretrainSettings) -> Choice:
    """Windows of `length` bins to train on and to hold out. With a `pretrain_mix`, sessions of stimulation give only
    the windows around those trials that train probes too; without, they are recordings like any other.

    Raises:
        OperatorFault: nothing is left to train on or to hold out, or too few sessions for what the settings ask.
    """
    stimulated = [i for i, one in enumerate(sessions) if settings.pretrain_mix and one.header.trials]
    if settings.pretrain_mix and not stimulated:
        raise OperatorFault(
            f"pretrain_mix = {settings.pretrain_mix}: found no session with trials, expected stimulation sessions "
            "among the data; name some, or set it to 0"
        )
    resting = [i for i in range(len(sessions)) if i not in stimulated]
    if not resting:
        raise OperatorFault("found trials in every session, expected recordings of rest beside them; name some")
    training, held_out = split([sessions[i] for i in resting], length)
    rest, held_out = ({resting[i]: first for i, first in part.items()} for part in (training, held_out))
    trials = {i: _around_trials(sessions[i], length) for i in stimulated}
    choice = Choice(rest, held_out, trials)
    if settings.cross_session_weight and len(choice.training) < 2:
        raise OperatorFault(
            f"found {len(choice.training)} session to train on, expected two or more for the cross-session loss; give "
            "more, or set cross_session_weight = 0 in [training]"
        )
    return choice


def split(sessions: list[Session], length: int) -> tuple[Starts, Starts]:
    """Windows to train on and windows held out: the last four dates; of fewer than five dates the last fifth of the
    sessions, of a single session its last fifth.

    Raises:
        OperatorFault: nothing is left to train on or to hold out.
    """
    order = sorted(range(len(sessions)), key=lambda i: (sessions[i].header.date, sessions[i].header.name))
    dates = sorted({session.header.date for session in sessions})
    if len(dates) > HELD_OUT_DATES:
        held = {i for i in order if sessions[i].header.date in dates[-HELD_OUT_DATES:]}
    else:
        held = set(order[-math.ceil(len(order) / 5) :]) if len(order) > 1 else set()
    if held:
        training = {i: sessions[i].allowed(length) for i in order if i not in held}
        held_out = {i: sessions[i].allowed(length) for i in held}
    else:
        cut = len(sessions[0].usable) * 4 // 5
        training, held_out = ({0: sessions[0].allowed(length, *ends)} for ends in ((0, cut), (cut, None)))
    if not sum(map(len, training.values())) or not sum(map(len, held_out.values())):
        raise OperatorFault(f"no valid window of {length} bins to train on or to hold out; give longer recordings")
    return training, held_out


def _around_trials(session: Session, length: int) -> Sequence[int]:
    """Windows before and after the stimulations of the part that trains probes: none that a probe is tested on."""
    end = training_ends([session], length)[0]
    found = []
    for name in PROBES:
        rows = valid_trials(session, name, length)
        found.append(session.trial_bins(name, length)[rows[: round(TRAINING_PART * len(rows))]])
    firsts = np.sort(np.concatenate(found))
    return firsts[firsts + length <= end]


def sample(choice: Choice, settings: PretrainSettings, rng: np.random.Generator) -> Windows:
    """The windows of one batch."""
    around = round(settings.pretrain_mix * settings.batch) if choice.trials else 0
    groups = settings.sessions_per_batch
    if not around:
        return _spread(choice.rest, settings.batch, groups, rng)
    share = max(1, round(groups * around / settings.batch)) if groups else 0
    rest = _spread(choice.rest, settings.batch - around, max(1, groups - share) if groups else 0, rng)
    return rest + _spread(choice.trials, around, share, rng)


def _spread(starts: Starts, count: int, groups: int, rng: np.random.Generator) -> Windows:
    """`count` windows, spread evenly over at most `groups` sessions; 0: uniformly over all valid time."""
    if not groups:
        return _located(starts, rng.integers(sum(map(len, starts.values())), size=count))
    durations = {i: len(firsts) for i, firsts in starts.items() if len(firsts)}
    shares = np.array(list(durations.values())) / sum(durations.values())
    sessions = rng.choice(list(durations), size=min(groups, len(durations)), replace=False, p=shares).tolist()
    dealt = [sessions[k % len(sessions)] for k in range(count)]
    return [(i, int(starts[i][int(rng.integers(durations[i]))])) for i in dealt]


def evenly(starts: Starts, count: int) -> Windows:
    """At most `count` windows, evenly over all valid time."""
    total = sum(map(len, starts.values()))
    return _located(starts, np.linspace(0, total - 1, min(count, total)).astype(np.int64))


def _located(starts: Starts, numbers: NDArray[np.int64]) -> Windows:
    """The windows with these numbers, counted through all sessions."""
    sessions, lengths = list(starts), [len(firsts) for firsts in starts.values()]
    ends = np.cumsum(lengths)
    which = np.searchsorted(ends, numbers, side="right")
    within = numbers - (ends - lengths)[which]
    return [(sessions[s], int(starts[sessions[s]][n])) for s, n in zip(which.tolist(), within.tolist(), strict=True)]
