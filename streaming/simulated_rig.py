"""A rig to practise on: the simulated participant over LSL, with its events, obeying the triggers that it hears."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from pathlib import Path
from typing import Any

import pylsl

from models.errors import OperatorFault
from streaming.events import marker_text
from streaming.participant.broadband import Broadband
from streaming.participant.faults import Transport
from streaming.participant.participant import Participant
from streaming.participant.session import Event, Session
from streaming.participant.settings import N_ELECTRODES, ParticipantSettings
from streaming.participant.source import stream_info
from streaming.participant.stimulation import Delivered
from streaming.participant.trials import Protocol
from streaming.sinks.broadband_outlet import broadband_stream_info
from streaming.sources.finder import Finder
from streaming.stimulators.lsl import SIMULATED_NAME
from streaming.stimulators.outlet import NAME

log = logging.getLogger(__name__)

LARGEST_PUSH_S = 0.05  # when late, what is due goes out in pieces of at most this
LOOK_FOR_TRIGGERS_S = 0.5
BUFFER_S = 60
STIMULATOR_DELAY_S = 1e-3  # from hearing a trigger to the first pulse
STALE_S = 0.5  # a trigger that was heard so late is for a state that is long over
TRIGGERS = f"name='{NAME}' or name='{SIMULATED_NAME}'"


class SimulatedRig:
    """Streams in real time: sample i bears the stamp t0 + i / rate of the LSL clock, and none is skipped.

    A rig that was held up sends what is due as fast as it can. A trigger stimulates 1 ms after it was heard; one that
    comes while a train runs, or over STALE_S after it left, is refused and logged, as a stimulator would. While the
    trigger is armed nobody else stimulates: the rig's own schedule rests.

    `given`: a file that gets a JSON line for each train that a trigger brought. `t_mono` is its onset on the LSL clock,
    `left` the trigger's own stamp and `sample_time` that of the newest sample that it rested on; `state`,
    `probability` and `perceived` are the truth, which nothing on the wire tells.

    Raises:
        OperatorFault: that file cannot be written.
    """

    def __init__(
        self,
        settings: ParticipantSettings | None = None,
        protocol: Protocol = "threshold",
        stream_name: str = "UtahArray",
        events_name: str = "StimEvents",
        triggers: str = TRIGGERS,
        source_id: str | None = None,
        chunk_s: float = 0.001,
        given: Path | None = None,
    ) -> None:
        settings = settings or ParticipantSettings()
        try:
            self._given = None if given is None else given.open("a", buffering=1)  # a line at a time
        except OSError as error:
            raise OperatorFault(f"{given}: {error.strerror}; name another file for what was given") from error
        participant = Participant(settings)
        self.session = Session(participant, protocol)
        self._broadband = Broadband(participant)
        self._broadband.block(0)  # compile before the clock runs
        self.t0: float | None = None  # the LSL time of sample 0, once it runs
        self._rate = settings.rate_hz
        self._chunk = max(1, round(chunk_s * self._rate))
        self._transport = Transport(settings)
        identity = source_id or f"phosphene-simulated-{settings.seed}-{stream_name}"
        info = stream_info(participant, stream_name)
        header = broadband_stream_info(info, stream_name, identity, "int16")
        header.desc().append_child("array").append_child_value("id", f"sim-{settings.seed}")
        self._outlet = pylsl.StreamOutlet(header, self._chunk, BUFFER_S)
        markers = ("Markers", 1, pylsl.IRREGULAR_RATE, pylsl.cf_string)
        self._events = pylsl.StreamOutlet(pylsl.StreamInfo(events_name, *markers, f"{identity}-events"))
        self._finder = Finder(triggers)
        self._triggers: dict[str, pylsl.StreamInlet] = {}  # by source_id, under which an inlet finds its stream again
        self._look_at = 0.0

    def run(self, stop: threading.Event | None = None, seconds: float = float("inf")) -> None:
        """Stream until `stop` is set or the time is over."""
        stop = stop or threading.Event()
        self.t0 = pylsl.local_clock()
        while not stop.is_set() and self.session.position < seconds * self._rate:
            self._obey_triggers()
            due = int((pylsl.local_clock() - self.t0) * self._rate) - self.session.position
            if due < self._chunk:
                time.sleep((self._chunk - due) / self._rate)
                continue
            self._send(min(due // self._chunk * self._chunk, max(self._chunk, int(LARGEST_PUSH_S * self._rate))))

    def close(self) -> None:
        """Take the streams off the network."""
        for inlet in self._triggers.values():
            inlet.close_stream()
        if self._given is not None:
            self._given.close()
        del self._outlet, self._events, self._finder, self._triggers

    def _time_of(self, sample: int) -> float:
        assert self.t0 is not None
        return self.t0 + sample / self._rate + self._transport.stamp_error_s(sample)

    def _send(self, n: int) -> None:
        """Send the next n samples and the events in them; a lost packet is read and not sent."""
        first = self.session.position
        n = self._transport.lost(first) or max(1, self._transport.arrives(first, n))
        events = self.session.advance(n)
        counts = self._broadband.read_counts(n)
        if not self._transport.lost(first):
            self._outlet.push_chunk(counts, self._time_of(first + n - 1))
        self._tell(events)

    def _tell(self, events: list[Event]) -> None:
        for sample, event in events:
            self._events.push_sample([marker_text(event)], self._time_of(sample))

    def _obey_triggers(self) -> None:
        """Stimulate for each trigger that came; look for trigger streams that are new."""
        if pylsl.local_clock() >= self._look_at:
            self._look_at = pylsl.local_clock() + LOOK_FOR_TRIGGERS_S
            for stream in self._finder.found().values():
                identity = stream.source_id() or stream.uid()
                if identity not in self._triggers:
                    self._triggers[identity] = pylsl.StreamInlet(stream, max_buflen=10, recover=True)
        for inlet in self._triggers.values():
            sample, left = inlet.pull_sample(timeout=0.0)
            while sample is not None:
                self._obey(sample[0], left)
                sample, left = inlet.pull_sample(timeout=0.0)

    def _obey(self, text: str, left: float) -> None:
        """Stimulate if `text` is a trigger; whatever cannot be done is logged and not done."""
        try:
            trigger: dict[str, Any] = json.loads(text)
            event = trigger.get("event")
            if event in ("armed", "disarmed", "fault"):
                self.session.scheduled = event != "armed"
            if event != "trigger":
                return
            electrode, current = int(trigger["electrode"]), float(trigger["current_ua"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("trigger refused: found %r, expected electrode and current_ua (%s)", text[:200], error)
            return
        if not 1 <= electrode <= N_ELECTRODES or not 0 < current <= 100:
            log.warning("trigger refused: found electrode %d, %g µA, expected 1-96, at most 100 µA", electrode, current)
            return
        if (late_s := pylsl.local_clock() - left) > STALE_S:
            log.warning("trigger %s refused: heard %.2f s after it left", trigger.get("trigger_id"), late_s)
            return
        onset = math.ceil((pylsl.local_clock() + STIMULATOR_DELAY_S - (self.t0 or 0.0)) * self._rate)
        delivered = self.session.stimulate(electrode, current, str(trigger.get("trigger_id")), onset)
        if delivered is None:
            log.warning("trigger %s refused: a train is running", trigger.get("trigger_id"))
        elif self._given is not None:
            self._given.write(json.dumps(self._told(trigger, left, delivered)) + "\n")

    def _told(self, trigger: dict[str, Any], left: float, delivered: Delivered) -> dict[str, Any]:
        """A line of the file `given`."""
        return {
            "trigger_id": trigger.get("trigger_id"),
            "electrode": delivered.stimulation.electrode,
            "current_ua": delivered.stimulation.current_ua,
            "t_mono": (self.t0 or 0.0) + delivered.onset_sample / self._rate,
            "onset_sample": delivered.onset_sample,
            "sample_time": trigger.get("sample_time"),
            "left": left,
            "state": delivered.prestimulus_state,
            "probability": delivered.probability,
            "perceived": delivered.perceived,
        }
