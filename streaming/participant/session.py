"""A session as it goes: the participant is stimulated by a schedule or on request, and answers.

Pure: the caller owns the clock and reads its own instrument. The rig over LSL, the source in process and the writer of
data sets all walk it, step by step: first `advance`, then read the same samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count

from streaming.events import Report, Stimulation
from streaming.participant import draws
from streaming.participant.participant import Participant
from streaming.participant.stimulation import Delivered, train
from streaming.participant.trials import Protocol, Trial, trials

Event = tuple[int, Stimulation | Report]  # absolute sample index, what happened
REPORT_DELAY_S = (0.5, 2.0)
CLOSING_S = 2.5  # no trial is begun so shortly before the end, so that each one is answered


class Session:
    """Walks one participant through one protocol, in samples of `settings.rate_hz`, to `seconds` and no further.

    A train that is asked for while another one runs is refused, as a stimulator refuses it; a planned one is skipped.
    While `scheduled` is False every planned one is: somebody else stimulates.
    """

    def __init__(self, participant: Participant, protocol: Protocol = "threshold", seconds: float = math.inf) -> None:
        self.participant = participant
        self.position = 0  # the next sample
        self.scheduled = True
        self._rate = participant.settings.rate_hz
        self._last_onset = (seconds - CLOSING_S) * self._rate
        self._plan: Iterator[Trial] = trials(participant.settings, participant.anatomy, protocol)
        self._next = next(self._plan, None)
        self._coming: list[Event] = []  # decided, not yet reached
        self._busy_until = 0
        self._numbers = count(1)

    def stimulate(
        self, electrode: int, current_ua: float, trigger_id: str | None = None, onset_sample: int | None = None
    ) -> Delivered | None:
        """Stimulate at `onset_sample`, by default with the next sample; None while a train runs."""
        onset = self.position if onset_sample is None else max(onset_sample, self.position)
        if onset < self._busy_until:
            return None
        settings = self.participant.settings
        number = next(self._numbers)
        stimulation = train(electrode, current_ua, number, trigger_id)
        delivered = self.participant.stimulate(stimulation, onset)
        self._busy_until = onset + round(stimulation.duration_s * self._rate)
        wait_s = draws.at(settings.seed, "answer", settings.day, settings.session, number).uniform(*REPORT_DELAY_S)
        answer = Report(number, delivered.perceived)
        self._coming += [(onset, stimulation), (onset + round(wait_s * self._rate), answer)]
        return delivered

    def advance(self, n_samples: int) -> list[Event]:
        """Walk over the next samples: deliver what is planned for them; the events in them, in order of time."""
        end = self.position + n_samples
        while self._next is not None and self._next.onset_sample < min(end, self._last_onset):
            if self.scheduled:
                self.stimulate(self._next.electrode, self._next.current_ua, onset_sample=self._next.onset_sample)
            self._next = next(self._plan, None)
        self.position = end
        happened = sorted((event for event in self._coming if event[0] < end), key=lambda event: event[0])
        self._coming = [event for event in self._coming if event[0] >= end]
        return happened
