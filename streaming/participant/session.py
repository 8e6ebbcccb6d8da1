"""A session as it goes: the participant is recorded, stimulated by a schedule or on request, and answers.

Pure: the caller owns the clock. The rig over LSL, the source in process and the writer of data sets all walk it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count

import numpy as np
from numpy.typing import NDArray

from streaming.events import Report, Stimulation
from streaming.participant import draws
from streaming.participant.broadband import Broadband
from streaming.participant.participant import Participant
from streaming.participant.stimulation import Delivered, train
from streaming.participant.trials import Protocol, Trial, trials

Event = tuple[int, Stimulation | Report]  # absolute sample index, what happened
REPORT_DELAY_S = (0.5, 2.0)


class Session:
    """Walks one participant through one protocol at level B.

    A train that is asked for while another one runs is refused, as a stimulator refuses it; a planned one is skipped.
    """

    def __init__(self, participant: Participant, protocol: Protocol = "threshold") -> None:
        self.participant = participant
        self.broadband = Broadband(participant)
        self._plan: Iterator[Trial] = trials(participant.settings, participant.anatomy, protocol)
        self._next = next(self._plan, None)
        self._coming: list[Event] = []  # happened or decided, not yet handed out
        self._busy_until = 0
        self._numbers = count(1)

    @property
    def position(self) -> int:
        """The next sample to be handed out."""
        return self.broadband.position

    def stimulate(
        self, electrode: int, current_ua: float, trigger_id: str | None = None, onset_sample: int | None = None
    ) -> Delivered | None:
        """Stimulate at `onset_sample`, by default with the next sample; None while a train runs."""
        onset = self.position if onset_sample is None else onset_sample
        if onset < self._busy_until:
            return None
        settings = self.participant.settings
        number = next(self._numbers)
        stimulation = train(electrode, current_ua, number, trigger_id)
        delivered = self.participant.stimulate(stimulation, onset)
        self._busy_until = onset + round(stimulation.duration_s * settings.rate_hz)
        wait_s = draws.at(settings.seed, "answer", settings.day, settings.session, number).uniform(*REPORT_DELAY_S)
        answer = Report(number, delivered.perceived)
        self._coming += [(onset, stimulation), (onset + round(wait_s * settings.rate_hz), answer)]
        return delivered

    def read_counts(self, n_samples: int) -> tuple[NDArray[np.int16], list[Event]]:
        """The next samples as ADC counts (n_samples, 96), and the events that fall into them, in order of time."""
        end = self.position + n_samples
        while self._next is not None and self._next.onset_sample < end:
            planned, self._next = self._next, next(self._plan, None)
            self.stimulate(planned.electrode, planned.current_ua, onset_sample=max(planned.onset_sample, self.position))
        counts = self.broadband.read_counts(n_samples)
        happened = sorted((event for event in self._coming if event[0] < end), key=lambda event: event[0])
        self._coming = [event for event in self._coming if event[0] >= end]
        return counts, happened


def marker_text(event: Stimulation | Report) -> str:
    """An event as the marker that the event stream carries (CONTRACT, event stream); absent fields are left out."""
    if isinstance(event, Report):
        return json.dumps({"event": "report", "trial": event.trial, "perceived": event.perceived})
    names = ("trial", "electrode", "current_ua", "duration_s", "pulses", "phase_us", "interphase_us", "frequency_hz")
    fields = {name: getattr(event, name) for name in (*names, "trigger_id")}
    return json.dumps({"event": "stim"} | {name: value for name, value in fields.items() if value is not None})
