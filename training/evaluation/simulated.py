"""Sessions of the simulated participant for an evaluation: Level A, by the normaliser that serves.

A stimulation session is written, normalised and cut into windows by the functions that real recordings go through; only
the windows are kept. Bins that a train would blank are not usable. Beside each trial stand the five ideal observers of
the very bins that the model sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.manifest import PROBES
from streaming.participant.level_a import LevelA
from streaming.participant.participant import Participant
from streaming.participant.session import CLOSING_S
from streaming.participant.session import Session as SimulatedSession
from streaming.participant.settings import BIN_RATE_HZ, N_ELECTRODES, ParticipantSettings
from streaming.participant.stimulation import Delivered
from streaming.participant.trials import INTERVAL_S, Protocol
from streaming.participant.window_observer import BEFORE_BINS, WINDOW_BINS, WindowObserver
from streaming.signal.settings import ChainSettings
from training.data import Session, SessionHeader, Trial, normalise, settled, write_session
from training.evaluation.trial_file import Seen
from training.rigs import Blanked
from training.trials import gather, valid_trials

FIRST_DATE = np.datetime64("2026-01-05")
OBSERVED_AT_ONCE = 100  # windows, in memory
_SECOND = 1000


@dataclass(frozen=True)
class SimulatedSessionSettings:
    """One session; `longer`: also with the observer who sees the 2 s before, which costs as much as the rest."""

    participant: ParticipantSettings
    protocol: Protocol
    seconds: int
    longer: bool = False

    @property
    def name(self) -> str:
        one = self.participant
        return f"day-{one.day:02d}_session-{one.session}_{self.protocol}"


def seconds_for(trials: int) -> int:
    """How long a session of about so many trials takes."""
    return round(trials * sum(INTERVAL_S) / 2 + CLOSING_S + 1)


def rest_session(folder: Path, settings: SimulatedSessionSettings) -> Path:
    """Spontaneous activity, as a session that pretraining reads; made unless it is there."""
    if (folder / settings.name / "session.json").exists():
        return folder / settings.name
    envelope_uv = LevelA(Participant(settings.participant)).read(settings.seconds * BIN_RATE_HZ)
    session = _session(settings, envelope_uv, [])
    return write_session(folder, session.header, session.stored, np.asarray(session.usable))


def stimulation_session(settings: SimulatedSessionSettings) -> dict[str, Seen]:
    """The trials of a session, for each probe, with what ideal observers make of them."""
    participant = Participant(settings.participant)
    walk, reader = SimulatedSession(participant, settings.protocol, settings.seconds), LevelA(participant)
    parts = []
    for _ in range(settings.seconds):
        walk.advance(settings.participant.rate_hz)  # before the bins that it changes are read
        parts.append(reader.read(_SECOND))
    envelope_uv, delivered = np.concatenate(parts), participant.delivered
    session = _session(settings, envelope_uv, delivered)
    observer = WindowObserver(settings.participant, participant.anatomy)
    found = {}
    for probe in PROBES:
        trials = gather(session, probe, WINDOW_BINS)
        rows = valid_trials(session, probe, WINDOW_BINS)
        kept = [delivered[row] for row in rows]
        before = session.trial_bins("prestimulus", WINDOW_BINS)[rows] + WINDOW_BINS
        own = session.trial_bins(probe, WINDOW_BINS)[rows] + WINDOW_BINS
        found[probe] = Seen(trials, _observers(observer, probe, envelope_uv, kept, before, own, settings.longer))
    return found


def _session(settings: SimulatedSessionSettings, envelope_uv: NDArray[np.float32], given: list[Delivered]) -> Session:
    chain, rate = ChainSettings(), settings.participant.rate_hz
    usable = np.ones(envelope_uv.shape, bool)
    for one in given:
        blanked = Blanked(chain, rate)
        blanked.add(one)
        first, n = max(0, one.onset_bin - 10), 300
        usable[first : first + n] &= ~blanked.bins(first, n)[: len(usable) - first, None]
    z = normalise(envelope_uv, usable[:, 0], usable, chain)
    array = Participant(settings.participant).anatomy.map
    header = SessionHeader(
        name=settings.name,
        date=str(FIRST_DATE + settings.participant.day),
        participant=f"simulated-{settings.participant.seed}-{settings.participant.state_code}",
        labels=array.labels,
        positions=array.positions,
        rate_hz=float(rate),
        chain=chain.to_dict(),
        trials=tuple(
            Trial(one.onset_sample / rate, one.stimulation.electrode, one.stimulation.current_ua, one.perceived)
            for one in given
        ),
    )
    assert len(header.labels) == N_ELECTRODES
    return Session(header, z, settled(usable, chain))


def _observers(
    observer: WindowObserver,
    probe: str,
    envelope_uv: NDArray[np.float32],
    delivered: list[Delivered],
    before_ends: NDArray[np.int64],
    own_ends: NDArray[np.int64],
    longer: bool,
) -> dict[str, NDArray[np.float64]]:
    """P(perceived) by O1 to O5, (n,) each; O3 is NaN unless `longer`, and where a session has not lasted 2 s."""
    known = np.array([one.probability for one in delivered])
    window, two_seconds = np.full((2, len(delivered)), np.nan)

    def cut(ends: NDArray[np.int64], bins: int) -> NDArray[np.float32]:
        return np.stack([envelope_uv[end - bins : end] for end in ends])

    for k in range(0, len(delivered), OBSERVED_AT_ONCE):
        rows = slice(k, k + OBSERVED_AT_ONCE)
        some, seen = delivered[rows], cut(own_ends[rows], WINDOW_BINS)
        evoked = probe == "evoked"
        window[rows] = observer.probability(seen, some) if evoked else observer.prestimulus(observer.belief(seen), some)
        if longer and (before_ends[rows] >= BEFORE_BINS).all():
            belief = observer.belief(cut(before_ends[rows], BEFORE_BINS))
            two_seconds[rows] = (
                observer.probability(seen, some, belief) if evoked else observer.prestimulus(belief, some)
            )
    electrode = np.array([one.stimulation.electrode for one in delivered])
    rate = np.array([known[electrode == one].mean() for one in electrode])
    return {
        "state_known": known,
        "window": window,
        "two_seconds": two_seconds,
        "stimulus": observer.stimulus_only(delivered),
        "rate": rate,
    }
