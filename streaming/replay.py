"""`phosphene replay FILE`: a recording sent out over LSL as a rig would send it.

Stamps are exact, t0 + index / rate of the LSL clock, and the schedule is absolute: nothing is skipped, what is late
goes out as fast as it can. Pauses of the recording are pauses of the stream. At another speed the stamps still count
samples, so they leave the clock: a recorder takes that; our own service marks it as backlog, because it is not now.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pylsl
from numpy.typing import NDArray

from models.errors import OperatorFault
from streaming.events import Marker, marker_text
from streaming.sinks.broadband_outlet import broadband_stream_info
from streaming.sources.recorded import Recording, blocks, end_of, to_microvolts
from streaming.sources.recording import LIVE_CHUNK_S, open_recording

BUFFER_S = 10
LINGER_S = 0.5  # an outlet that goes takes with it what was not yet transmitted
JOIN_GAP_S = 0.1  # between the end and the next beginning: a loop is a gap, never a seam


def replay(
    path: Path,
    name: str = "UtahArray",
    speed: float = 1.0,
    loop: bool = False,
    stop: threading.Event | None = None,
    stream: str | None = None,
    scale_uv: float | None = None,
    events_name: str = "StimEvents",
    wait_for_listener: bool = False,
    began: Callable[[float], None] | None = None,
) -> int:
    """Sends a recording out until it ends or `stop` is set; returns the number of samples sent.

    `wait_for_listener` holds the first sample back until someone is connected. `began` is told the LSL time of sample
    0, on which all stamps rest.

    Raises:
        OperatorFault: a speed that is not above 0, or what `open_recording` says.
        RigFault: the recording is broken.
    """
    if not speed > 0:
        raise OperatorFault(f"found a speed of {speed:g}, expected a number above 0; 1 is real time")
    stop = stop or threading.Event()
    recording = open_recording(path, stream, scale_uv=scale_uv).recording
    try:
        player = _Player(recording, name, events_name, f"phosphene-replay-{Path(path).name}")
        while wait_for_listener and not stop.is_set() and not player.heard(0.1):
            pass
        return player.play(speed, loop, stop, began or _nobody)
    finally:
        recording.close()


def _nobody(seconds: float) -> None:
    """Listens to what nobody asked for."""


class _Player:
    """The two outlets of a recording. int16 counts stay int16 where one scale holds for all channels."""

    def __init__(self, recording: Recording, name: str, events_name: str, source_id: str) -> None:
        self._recording = recording
        self._rate_hz = recording.info.rate_hz
        scale = recording.scale_uv
        one_scale = recording.dtype == np.int16 and (scale == scale[0]).all() and scale[0] > 0
        self._dtype: Literal["int16", "float32"] = "float32"
        if one_scale and not recording.offset_uv.any():
            self._dtype = "int16"
        header = broadband_stream_info(recording.info, name, source_id, self._dtype, float(scale[0]))
        self._broadband = pylsl.StreamOutlet(header, max_buffered=BUFFER_S)
        events = pylsl.StreamInfo(events_name, "Markers", 1, 0.0, pylsl.cf_string, f"{source_id}-events")
        self._events = pylsl.StreamOutlet(events)

    def heard(self, timeout_s: float) -> bool:
        return bool(self._broadband.wait_for_consumers(timeout_s))

    def play(
        self,
        speed: float,
        loop: bool,
        stop: threading.Event,
        began: Callable[[float], None],
    ) -> int:
        rate_hz, t0 = self._rate_hz, pylsl.local_clock()
        began(t0)
        chunk = max(1, round(LIVE_CHUNK_S * max(1.0, speed) * rate_hz))
        sent = end = 0
        for first, rows, markers in self._parts(chunk, loop):
            end = first + len(rows)
            wait_s = t0 + end / (rate_hz * speed) - pylsl.local_clock()
            if stop.wait(wait_s) if wait_s > 0 else stop.is_set():
                break
            self._broadband.push_chunk(rows, t0 + (end - 1) / rate_hz)
            for sample, marker in markers:
                self._events.push_sample([marker_text(marker)], t0 + sample / rate_hz)
            sent += len(rows)
        if self.heard(0.0):
            time.sleep(LINGER_S)
        return sent

    def _parts(self, chunk: int, loop: bool) -> Iterator[tuple[int, NDArray[Any], list[tuple[int, Marker]]]]:
        """(first sample, rows to send, markers in or before them), each pass of a loop behind the last."""
        offset = 0
        while True:
            waiting = deque(self._recording.markers)
            end = 0
            for first, stored in blocks(self._recording, chunk):
                ready = stored if self._dtype == "int16" else to_microvolts(self._recording, stored)
                for row in range(0, len(ready), chunk):
                    rows = np.ascontiguousarray(ready[row : row + chunk])
                    end = first + row + len(rows)
                    markers: list[tuple[int, Marker]] = []
                    ended = end == end_of(self._recording)
                    while waiting and (ended or waiting[0][0] < end):
                        sample, marker = waiting.popleft()
                        markers.append((offset + sample, marker))
                    yield offset + first + row, rows, markers
            if not loop:
                return
            offset += end + round(JOIN_GAP_S * self._rate_hz)
