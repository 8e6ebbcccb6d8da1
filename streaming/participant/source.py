"""The simulated participant as a source in process: in real time, or as fast as the machine can."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models.errors import RigFault
from streaming.chunk import Chunk, SourceCounters, StreamInfo
from streaming.events import Marker
from streaming.limits import Pattern
from streaming.participant.broadband import Broadband
from streaming.participant.faults import Transport
from streaming.participant.participant import Participant
from streaming.participant.session import Session
from streaming.participant.settings import ParticipantSettings
from streaming.participant.trials import Protocol

LATE_S = 0.1  # samples handed out later than this are a backlog
LARGEST_CHUNK_S = 0.05


def stream_info(participant: Participant, name: str) -> StreamInfo:
    """How the participant's stream describes itself, in process and over LSL."""
    settings = participant.settings
    return StreamInfo(
        "simulated", name, float(settings.rate_hz), participant.anatomy.map, "simulated", f"day-{settings.day}"
    )


class SimulatedSource:
    """Implements `streaming.chunk.Source`.

    With a `clock` (seconds; the LSL clock in the service) chunks come when they are due, and what is due at once when
    the caller was late; nothing is skipped. Without one each read gives the next chunk and time counts from 0.
    """

    def __init__(
        self,
        settings: ParticipantSettings | None = None,
        protocol: Protocol = "threshold",
        clock: Callable[[], float] | None = None,
        chunk_s: float = 0.005,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        participant = Participant(settings)
        self.session = Session(participant, protocol)
        self._broadband = Broadband(participant)
        self.counters = SourceCounters()
        self.info = stream_info(participant, "simulate")
        self._clock, self._sleep = clock, sleep
        self._rate = participant.settings.rate_hz
        self._chunk = max(1, round(chunk_s * self._rate))
        self._transport = Transport(participant.settings)
        self._markers: list[tuple[int, Marker]] = []
        self._wanted: deque[tuple[int, float, str | None]] = deque(maxlen=16)  # the newest win
        self._start = clock() if clock else 0.0
        self._closed = False
        self._broadband.block(0)  # compile and make before the clock matters
        if clock:
            self._start = clock()

    def wait(self, stop: threading.Event) -> bool:
        """The participant is there at once."""
        return not stop.is_set()

    def stimulate(self, electrode: int, current_ua: float, trigger_id: str | None = None) -> None:
        """Ask for a train with the next sample that is read; any thread may. Refused while a train runs."""
        self._wanted.append((electrode, current_ua, trigger_id))

    def deliver(self, pattern: Pattern, trigger_id: str, t_mono: float) -> bool:
        """A pulse of the simulated stimulator, with the next sample; only on the thread that reads. False while a train
        runs."""
        return self.session.stimulate(pattern.electrode, pattern.current_ua, trigger_id) is not None

    def read(self, timeout_s: float) -> Chunk | None:
        """The next chunk, or None when it is not due within `timeout_s`.

        Raises:
            RigFault: the source was closed.
        """
        if self._closed:
            raise RigFault("the simulated source is closed: found a read, expected a new source")
        n = self._due(timeout_s)
        if n == 0:
            return None
        while self._wanted:
            self.session.stimulate(*self._wanted.popleft())
        first = self.session.position
        lost = self._transport.lost(first)
        if lost:
            self._read(lost)
            self.counters.lost_samples += lost
            self.counters.gaps += 1
            first += lost
        samples = self._read(max(1, self._transport.arrives(first, n)))
        newest = self._start + (first + len(samples) - 1) / self._rate + self._transport.stamp_error_s(first)
        arrival = self._clock() if self._clock else newest
        backlog = arrival - newest > LATE_S
        self.counters.samples += len(samples)
        self.counters.backlog_samples += len(samples) * backlog
        return Chunk(samples, first, newest, arrival, backlog=backlog)

    def markers(self) -> list[tuple[int, Marker]]:
        """Events of the samples read since the last call."""
        markers, self._markers = self._markers, []
        return markers

    def close(self) -> None:
        """No more reads."""
        self._closed = True

    def _read(self, n: int) -> NDArray[np.float32]:
        self._markers += self.session.advance(n)
        return self._broadband.read(n)

    def _due(self, timeout_s: float) -> int:
        """Samples to hand out now: a chunk, more when late, 0 when the next one is not due within the timeout."""
        if self._clock is None:
            return self._chunk
        due_at = self._start + (self.session.position + self._chunk) / self._rate
        wait = due_at - self._clock()
        if wait > timeout_s:
            self._sleep(max(0.0, timeout_s))
            return 0
        if wait > 0:
            self._sleep(wait)
        elapsed = int((self._clock() - self._start) * self._rate) - self.session.position
        return min(max(elapsed // self._chunk, 1) * self._chunk, max(self._chunk, int(LARGEST_CHUNK_S * self._rate)))
