"""The schedule of a session: which electrode, which current, when.

Every trial is drawn at its own address, so that trial 40 is the same however many were run before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from streaming.participant import draws
from streaming.participant.anatomy import Anatomy
from streaming.participant.settings import ParticipantSettings

Protocol = Literal["rest", "psychometric", "threshold"]

THRESHOLD_ELECTRODES = (6, 25, 53, 65)
PSYCHOMETRIC_ELECTRODES = (6, 14, 20, 23, 25, 34, 42, 44, 53, 65, 70, 96)
PSYCHOMETRIC_CURRENTS_UA = tuple(81 ** (k / 5) for k in range(6))
INTERVAL_S = (4.0, 6.0)


@dataclass(frozen=True, slots=True)
class Trial:
    """A planned stimulation. Numbers count from 1; the electrode is 1-based."""

    number: int
    onset_sample: int
    electrode: int
    current_ua: float


def trials(
    settings: ParticipantSettings, anatomy: Anatomy, protocol: Protocol, first_sample: int = 0
) -> Iterator[Trial]:
    """Trials one after another without end (none at rest), the first 4-6 s after `first_sample`.

    `threshold`: the four electrodes in random order, each at the current that today's staircase found. `psychometric`:
    all 12 electrodes × 6 currents in random order, then again. Electrodes that lost contact are left out.
    """
    pairs = _pairs(anatomy, protocol)
    onset, number = first_sample, 0
    address = (settings.seed, "trials", protocol, settings.day, settings.session)
    while pairs:
        rng = draws.at(*address, number // len(pairs), "order")
        for place in rng.permutation(len(pairs)):
            electrode, current = pairs[place]
            number += 1
            timing = draws.at(*address, number, "timing")
            onset += round(timing.uniform(*INTERVAL_S) * settings.rate_hz)
            yield Trial(number, onset, electrode, current)


def _pairs(anatomy: Anatomy, protocol: Protocol) -> list[tuple[int, float]]:
    connected = anatomy.truth.connected
    match protocol:
        case "rest":
            return []
        case "threshold":
            return [(e, float(anatomy.staircase_ua[e - 1])) for e in THRESHOLD_ELECTRODES if connected[e - 1]]
        case "psychometric":
            return [(e, c) for e in PSYCHOMETRIC_ELECTRODES if connected[e - 1] for c in PSYCHOMETRIC_CURRENTS_UA]
