"""Markers from LSL: one JSON object per marker. None of them, however malformed, stops the samples."""

from __future__ import annotations

import logging
import math
import socket

import pylsl
from pylsl.util import LostError
from pylsl.util import TimeoutError as NoAnswer

from models.errors import RigFault
from streaming.chunk import SourceCounters
from streaming.events import Marker, UnknownEvent, parse_marker
from streaming.sources.finder import Finder
from streaming.sources.header import describe
from streaming.sources.stamps import note

LOOK_EVERY_S = 0.25
AT_ONCE = 256  # markers taken per call, so that a flood never holds up the samples; the rest follows
SAID_EVERY_S = 1.0  # a flood of bad ones is counted; each as a line in the log would hold up the samples after all

log = logging.getLogger(__name__)


class EventInlet:
    """The event stream, taken up whenever it appears and again after it was lost. Never waits."""

    def __init__(self, predicate: str, counters: SourceCounters) -> None:
        self._predicate = predicate
        self._counters = counters
        counters.hears_events = False
        self._finder = Finder(predicate, forget_after_s=1.0)
        self._inlet: pylsl.StreamInlet | None = None
        self._look_after = 0.0
        self._last_complaint = ""
        self._say_after, self._unsaid = 0.0, 0

    @property
    def connected(self) -> bool:
        return self._inlet is not None

    def pull(self) -> list[tuple[float, Marker]]:
        """Markers since the last call with their times on this machine's LSL clock.

        A malformed one is counted, logged and skipped; an unknown one is counted, logged and handed on.
        """
        if self._inlet is None and not self._look():
            return []
        assert self._inlet is not None
        markers: list[tuple[float, Marker]] = []
        try:
            correction = self._inlet.time_correction(timeout=0.0) if self._remote else 0.0
            for _ in range(AT_ONCE):
                values, time = self._inlet.pull_sample(timeout=0.0)
                if values is None:
                    break
                marker = self._parse(values[0], time)
                if marker is not None:
                    markers.append((time + correction, marker))
        except NoAnswer:
            pass  # the clock of the other host is not known yet; markers wait in the inlet
        except UnicodeDecodeError:
            self._malformed("a marker is not UTF-8")
        except LostError:
            self._inlet = None
            self._counters.hears_events = False
            self._complain("the event stream is gone; looking for it again")
        return markers

    def close(self) -> None:
        self._inlet = None

    def _look(self) -> bool:
        now = pylsl.local_clock()
        if now < self._look_after:
            return False
        self._look_after = now + LOOK_EVERY_S
        found = self._finder.found()
        if len(found) > 1:
            streams = ", ".join(describe(stream) for stream in found.values())
            self._complain(f"{len(found)} event streams match {self._predicate}: {streams}; none is used, name one")
            return False
        for stream in found.values():
            if stream.channel_format() != pylsl.cf_string or stream.channel_count() != 1:
                self._complain(f"event stream {describe(stream)} is not one string channel; not used")
                return False
            self._inlet = pylsl.StreamInlet(stream, max_buflen=10, recover=False)
            self._remote = stream.hostname() != socket.gethostname()
            self._last_complaint = ""
            self._counters.hears_events = True
        return self._inlet is not None

    def _parse(self, text: str, time: float) -> Marker | None:
        try:
            if not math.isfinite(time):
                raise RigFault(f"malformed marker: found the timestamp {time}, expected a time of the LSL clock")
            marker = parse_marker(text)
        except RigFault as fault:
            self._malformed(str(fault))
            return None
        if isinstance(marker, UnknownEvent):
            self._counters.unknown_markers += 1
            self._say(logging.INFO, f"unknown event {marker.event!a}")
        return marker

    def _malformed(self, problem: str) -> None:
        self._counters.malformed_markers += 1
        printable = ascii(problem)[1:-1]
        note(self._counters, printable)
        self._say(logging.WARNING, printable)

    def _say(self, level: int, line: str) -> None:
        now = pylsl.local_clock()
        if now < self._say_after:
            self._unsaid += 1
            return
        log.log(level, "%s", f"{line} ({self._unsaid} more since the last)" if self._unsaid else line)
        self._say_after, self._unsaid = now + SAID_EVERY_S, 0

    def _complain(self, problem: str) -> None:
        if problem != self._last_complaint:
            self._last_complaint = problem
            note(self._counters, problem)
            log.warning("%s", ascii(problem)[1:-1])
