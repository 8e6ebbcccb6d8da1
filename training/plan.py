"""`phosphene pretrain … --plan`: what a run would train on and hold out, before anything trains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from rich.console import Console
from rich.table import Table

from training.data import LEAST_SHARE, Session
from training.sampler import choose, split
from training.settings import PretrainSettings

MOST_ROWS = 60  # more sessions than these are shown a row a date
TRAINING, HELD_OUT = "training", "held out"


@dataclass(frozen=True)
class Planned:
    """One session, or all of a date. `windows` that may be drawn; `dead`: channels (from 1) rarely usable in one."""

    name: str
    date: str
    sessions: int
    hours: float
    usable_hours: float
    windows: int
    part: str
    dead: tuple[int, ...]


def planned(sessions: list[Session], length: int, settings: PretrainSettings | None = None) -> list[Planned]:
    """What each session gives to training and to the held-out part, windows of `length` bins, in order of time; with
    `settings` that mix stimulation in, only its windows around trials.

    Raises:
        OperatorFault: nothing is left to train on or to hold out.
    """
    if settings is None:
        training, held_out = split(sessions, length)
    else:
        choice = choose(sessions, length, settings)
        training, held_out = choice.training, choice.held_out
    parts = [
        (part, i, firsts)
        for part, by_session in ((TRAINING, training), (HELD_OUT, held_out))
        for i, firsts in by_session.items()
    ]
    found = []
    for part, i, firsts in parts:
        session, header = sessions[i], sessions[i].header
        shared = i in training and i in held_out  # one session alone, cut in time
        first, end = (int(firsts[0]), int(firsts[-1]) + length) if shared and len(firsts) else (0, len(session.usable))
        hours = (end - first) / header.bin_rate_hz / 3600
        vouched = session.usable.vouched_bins() / len(session.usable)
        found.append(Planned(header.name, header.date, 1, hours, hours * vouched, len(firsts), part, dead(session)))
    return sorted(found, key=lambda one: (one.date, one.part != TRAINING, one.name))


def dead(session: Session) -> tuple[int, ...]:
    """Channels, from 1, that were usable in less than half of the bins in which any was."""
    usable = session.usable.sum(axis=0)
    return tuple((np.flatnonzero(usable < LEAST_SHARE * session.usable.vouched_bins()) + 1).tolist())


def by_date(rows: Iterable[Planned]) -> list[Planned]:
    """All sessions of a date and part as one row; dead are the channels that are dead in any of them."""
    found = []
    for (date, part), group in groupby(rows, key=lambda one: (one.date, one.part)):
        them = list(group)
        name = them[0].name if len(them) == 1 else f"{len(them)} sessions"
        gone = tuple(sorted({channel for one in them for channel in one.dead}))
        sums = (sum(getattr(one, what) for one in them) for what in ("sessions", "hours", "usable_hours", "windows"))
        found.append(Planned(name, date, *sums, part, gone))
    return found


def show(rows: list[Planned], drawn_hours: float, console: Console | None = None) -> None:
    """A table, and what the run makes of it; `drawn_hours` of windows would be drawn in all."""
    table = Table("date", "session", "part", "hours", "usable", "windows", "dead channels")
    for column in table.columns[3:6]:
        column.justify = "right"
    for one in rows if len(rows) <= MOST_ROWS else by_date(rows):
        hours = f"{one.hours:.2f}", f"{one.usable_hours:.2f}"
        table.add_row(one.date, one.name, one.part, *hours, str(one.windows), ", ".join(map(str, one.dead)) or "–")
    console = console or Console()
    console.print(table)
    for part in (TRAINING, HELD_OUT):
        them = [one for one in rows if one.part == part]
        dates = sorted({one.date for one in them})
        span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]} ({len(dates)} dates)"
        hours, usable = sum(one.hours for one in them), sum(one.usable_hours for one in them)
        line = f"{part}: {len(them)} sessions, {hours:.2f} h of which {usable:.2f} h usable, {span}"
        if part == TRAINING:
            line += f"; {drawn_hours:.1f} h of windows are drawn, {drawn_hours / usable:.3g} times through"
        console.print(line)
