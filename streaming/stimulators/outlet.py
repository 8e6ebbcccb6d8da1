"""The contract's trigger stream on LSL: there from the start, so that rigs and recorders can connect before arming.

The service holds one, whatever the stimulator is; `LslStimulator` fires through the same one. Two outlets of one name
would leave it to chance which of them a rig hears, so another one is looked for and reported.
"""

from __future__ import annotations

import atexit
import socket
import threading
import time

import orjson
import pylsl

from streaming.lsl_calls import TextOutlet
from streaming.stimulators.markers import state_marker

NAME = "PhospheneTriggers"
LOOK_FOR_RIVALS_S = 1.0
LINGER_S = 0.1  # liblsl sends in the background, and an outlet that ends takes along what has not left
STATES = ("armed", "disarmed", "fault")


class TriggerOutlet:
    """Markers, one string channel, irregular; each is stamped with the moment at which it was sent."""

    def __init__(self, name: str = NAME) -> None:
        self.name = name
        # The source_id stays when the service restarts, so that a rig finds the stream again by itself.
        identity = f"phosphene-{socket.gethostname()}-{name}"
        info = pylsl.StreamInfo(name, "Markers", 1, pylsl.IRREGULAR_RATE, pylsl.cf_string, identity)
        info.desc().append_child("channels").append_child("channel").append_child_value("label", "trigger")
        self._lock = threading.RLock()  # liblsl takes samples of one outlet from one thread at a time
        self._outlet: TextOutlet | None = TextOutlet(info)
        self._uid = self._outlet.uid
        self._told_armed = False
        self._rivals: tuple[str, ...] = ()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look_for_rivals, name="trigger-rivals", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def push(self, marker: str) -> bool:
        """Send a marker; False where nobody listens, or once closed: nothing was sent."""
        with self._lock:
            return self._outlet is not None and self._outlet.push(marker)

    def announce(self, marker: str) -> None:
        """Send a marker that is no pulse. Remembers whether rigs believe the trigger armed."""
        event = orjson.loads(marker)["event"]
        with self._lock:
            if event in STATES:
                self._told_armed = event == "armed"
            self.push(marker)

    def has_consumers(self) -> bool:
        """Whether anyone listens: a rig, or a recorder; LSL does not say which."""
        with self._lock:
            return self._outlet is not None and self._outlet.has_consumers()

    def rivals(self) -> tuple[str, ...]:
        """Hosts of other outlets of this name, as of the last second."""
        return self._rivals

    def close(self) -> None:
        """Take the stream off the network; a rig that was told `armed` hears `disarmed` first."""
        atexit.unregister(self.close)
        with self._lock:
            if self._told_armed:
                self.announce(state_marker("disarmed", "the trigger stream ends"))
            if self.has_consumers():
                time.sleep(LINGER_S)
            self._outlet = None
        self._closed.set()
        self._thread.join(1.0)

    def _look_for_rivals(self) -> None:
        """In a thread of its own: listing streams takes a tenth of a millisecond, which a pulse shall not wait for."""
        resolver = pylsl.ContinuousResolver(prop="name", value=self.name)
        while not self._closed.wait(LOOK_FOR_RIVALS_S):
            streams = [stream for stream in resolver.results() if stream.uid() != self._uid]
            self._rivals = tuple(sorted(stream.hostname() for stream in streams))
