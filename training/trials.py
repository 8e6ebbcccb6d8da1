"""Trials of a session as windows: which of them count, what a readout may know of the stimulus. No network in here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.manifest import PROBES
from training.data import LEAST_SHARE, Session

TRAINING_PART = 0.8
LEAST_TRIALS = 40  # in the fitting part; below this no probe is fitted
LEAST_USABLE = 0.9  # of the session's usual channels, for a trial to count
AGREEMENT = 0.9  # correlation with the full array's score that sets min_usable_channels
GOLDEN_WINDOWS = 8
LOST = 10 / 96


@dataclass(frozen=True, eq=False)
class Trials:
    """Windows (n, channels, bins), usable (n, channels), answers (n,), and what was done; in order of time."""

    windows: NDArray[np.float32]
    usable: NDArray[np.bool_]
    perceived: NDArray[np.bool_]
    electrode: NDArray[np.int64]
    current_ua: NDArray[np.float64]
    session: NDArray[np.str_]  # its name
    onset_s: NDArray[np.float64]  # in the session
    state_known: NDArray[np.float64]  # what two observers of the simulated participant say, NaN where there is none
    window_known: NDArray[np.float64]
    rejected: int

    def __len__(self) -> int:
        return len(self.perceived)


def gather(session: Session, name: str, length: int) -> Trials:
    """The trials of a session whose window for probe `name` is whole and has most of the session's channels."""
    trials, rows = session.header.trials, valid_trials(session, name, length)
    first_bins = session.trial_bins(name, length)[rows]
    windows, usable = session.windows(first_bins, length) if len(rows) else _nothing(session, length)
    kept = [trials[row] for row in rows]
    return Trials(
        windows=windows,
        usable=usable,
        perceived=np.array([trial.perceived for trial in kept], bool),
        electrode=np.array([trial.electrode for trial in kept], np.int64),
        current_ua=np.array([trial.current_ua for trial in kept], np.float64),
        session=np.full(len(kept), session.header.name),
        onset_s=np.array([trial.onset_s for trial in kept], np.float64),
        state_known=np.array([trial.observers.get("state", np.nan) for trial in kept], np.float64),
        window_known=np.array([trial.observers.get(name, np.nan) for trial in kept], np.float64),
        rejected=len(trials) - len(kept),
    )


def valid_trials(session: Session, name: str, length: int) -> NDArray[np.int64]:
    """Which trials `gather` takes."""
    first_bins = session.trial_bins(name, length)
    rows = np.flatnonzero(session.allowed(length).contains(first_bins))
    if not len(rows):
        return rows
    channels = session.usable.throughout(first_bins[rows], length).sum(axis=1)
    return rows[channels >= LEAST_USABLE * np.median(channels)]


def training_ends(sessions: list[Session], length: int) -> dict[int, int]:
    """For each session the bin with which the first window begins that any probe is tested on."""
    ends = {}
    for i, session in enumerate(sessions):
        ends[i] = len(session.usable)
        for name in PROBES:
            rows = valid_trials(session, name, length)
            tested = session.trial_bins(name, length)[rows[round(TRAINING_PART * len(rows)) :]]
            ends[i] = min([ends[i], *tested.tolist()])
    return ends


def _nothing(session: Session, length: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    channels = session.usable.shape[1]
    return np.empty((0, channels, length), np.float32), np.empty((0, channels), bool)


def part(trials: Trials, start: float, end: float) -> Trials:
    rows = slice(round(start * len(trials)), round(end * len(trials)))
    arrays = {name: value[rows] for name, value in vars(trials).items() if name != "rejected"}
    return Trials(**arrays, rejected=trials.rejected if start == 0 else 0)


def join(parts: list[Trials]) -> Trials:
    arrays = {name: np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0]) if name != "rejected"}
    return Trials(**arrays, rejected=sum(part.rejected for part in parts))


def golden(test: Trials) -> Trials:
    """A few test trials, the later ones with ever more channels taken away, for the golden vectors."""
    few = part(test, 0, min(1.0, GOLDEN_WINDOWS / len(test)))
    rng = np.random.default_rng(0)
    lost = np.linspace(0, 0.4, len(few))[:, None]
    return Trials(**vars(few) | {"usable": few.usable & (rng.random(few.usable.shape) >= lost)})


def fewer_electrodes(usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Usable channels (n, channels) less a tenth of the array, others in each trial: ten of 96."""
    n, channels = usable.shape
    lost = np.argsort(np.random.default_rng(0).random((n, channels)), axis=1)[:, : max(1, round(LOST * channels))]
    fewer = usable.copy()
    np.put_along_axis(fewer, lost, False, axis=1)
    return fewer


def stimulus(trials: Trials, electrodes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Which of `electrodes`, and ln(current) for each of them; 0 where it is not known."""
    which = trials.electrode[:, None] == electrodes
    current_ua = np.nan_to_num(trials.current_ua, nan=1.0)
    return np.hstack([which, which * np.log(np.maximum(current_ua, 1e-3))[:, None]])


def rarely_usable(sessions: list[Session]) -> list[int]:
    """Channels (1-based) that were usable in less than half of the sessions' bins; bins without any do not count."""
    bins = sum(int(session.usable.any(axis=1).sum()) for session in sessions)
    usable = sum(session.usable.sum(axis=0) for session in sessions)
    return [int(channel) + 1 for channel in np.flatnonzero(usable < LEAST_SHARE * bins)]


def min_usable_channels(
    embed: Callable[[Trials, NDArray[np.bool_]], NDArray[np.float64]], weight: NDArray[np.float64], trials: Trials
) -> int:
    """The fewest randomly chosen channels, in steps of a sixteenth of the array, whose scores correlate with the full
    array's by at least AGREEMENT."""
    rng, channels = np.random.default_rng(0), trials.usable.shape[1]
    full = embed(trials, trials.usable) @ weight
    order = np.argsort(rng.random(trials.usable.shape) + ~trials.usable, axis=1)
    least, step = channels, max(1, channels // 16)
    for n in range(channels - step, 0, -step):
        fewer = trials.usable.copy()
        np.put_along_axis(fewer, order[:, n:], False, axis=1)
        if np.corrcoef(full, embed(trials, fewer) @ weight)[0, 1] < AGREEMENT:
            break
        least = n
    return least
