"""Live samples from LSL: what the amplifier must send, and what happens when it does not.

liblsl's own recovery is off: with it a killed source gives no error for 20 s, and a restarted one is taken up silently
(both measured). Here a lost stream is known at once (LostError), a silent one after 250 ms, and `wait` looks for it
again; what comes back is a new epoch and must be the same array. Raw stamps decide on gaps; `time_correction` is kept
beside them and added to what leaves, because its updates (every 2 s, by a fraction of a millisecond) are no gaps.
"""

from __future__ import annotations

import socket
import threading
from collections import deque

import numpy as np
import pylsl
from numpy.typing import NDArray
from pylsl.util import LostError
from pylsl.util import TimeoutError as NoAnswer

from models.errors import RigFault
from streaming.chunk import Chunk, SourceCounters, StreamInfo
from streaming.events import Marker
from streaming.lsl_calls import ChunkPull, local_clock
from streaming.sources.finder import Finder
from streaming.sources.header import Header, describe, differences, read_header
from streaming.sources.lsl_events import EventInlet
from streaming.sources.stamps import Segment, StampTracker, note

SILENCE_S = 0.25
FIRST_SAMPLE_S = 1.0  # a stream that was just opened may take so long
POLL_S = 0.1  # `wait` never blocks longer than this
SECOND_LOOK_S = 0.5  # a second stream of the same name answers within this
BUFFER_S = 2  # liblsl drops the oldest beyond this; the stamps then show the loss
PULL_S = 0.5  # room for one pull
CORRECTION_EVERY_S = 2.0
CORRECTION_JUMP_S = 0.01


class LslSource:
    """One broadband stream and the event stream beside it: `wait`, then `read`; after a RigFault `wait` again."""

    def __init__(
        self,
        predicate: str = "name='UtahArray'",
        event_predicate: str = "name='StimEvents'",
    ) -> None:
        self._predicate = predicate
        self._counters = SourceCounters()
        self._header: Header | None = None
        self._inlet: pylsl.StreamInlet | None = None
        self._pull_chunk: ChunkPull | None = None
        self._epoch = -1
        self._pending: deque[Segment] = deque()
        self._events = EventInlet(event_predicate, self._counters)

    @property
    def looking_for(self) -> str:
        """What `wait` resolves, for messages."""
        return f"an LSL stream with {self._predicate}"

    @property
    def info(self) -> StreamInfo:
        if self._header is None:
            raise RigFault(f"no stream yet: still looking for {self.looking_for}; start the amplifier's LSL sender")
        return self._header.info

    @property
    def scale_uv(self) -> NDArray[np.float32] | None:
        """Microvolts per count of each channel, (channels,); None where the stream is microvolts itself, or not yet
        there."""
        return self._header.scale_uv if self._header is not None and self._header.dtype == "int16" else None

    @property
    def hears_events(self) -> bool:
        """Whether the event stream is connected. Without it nothing is blanked, and nobody says so."""
        return self._events.connected

    @property
    def counters(self) -> SourceCounters:
        return self._counters

    def wait(self, stop: threading.Event) -> bool:
        """Looks for the stream until it is connected (True) or `stop` is set (False).

        Raises:
            RigFault: two streams match, the header is not what it must be, or not what it was before.
        """
        self._close_inlet()
        finder = Finder(self._predicate)
        first_seen: float | None = None
        while not stop.is_set():
            found = finder.found()
            if len(found) > 1:
                streams = ", ".join(describe(stream) for stream in found.values())
                raise RigFault(f"{len(found)} streams match {self._predicate}: {streams}; name one, e.g. by source_id")
            now = pylsl.local_clock()
            if found and first_seen is None:
                first_seen = now
            if found and first_seen is not None and now - first_seen >= SECOND_LOOK_S:
                if self._connect(next(iter(found.values())), stop):
                    return True
                first_seen = None
            stop.wait(POLL_S / 2)
        return False

    def read(self, timeout_s: float) -> Chunk | None:
        """The next chunk, or None when nothing came within `timeout_s`; see Source."""
        if self._inlet is None or self._header is None or self._pull_chunk is None:
            raise RigFault(f"not connected to {self.looking_for}; wait for it first")
        if not self._pending:
            self._pull(self._inlet, self._pull_chunk, self._header, timeout_s)
        if not self._pending:
            return None
        segment = self._pending.popleft()
        return Chunk(
            samples_uv=self._samples[segment.start : segment.stop],
            first_sample=segment.first_sample,
            sample_time=segment.newest_time + self._correction,
            arrival_time=self._arrival,
            epoch=segment.epoch,
            backlog=segment.backlog,
        )

    def markers(self) -> list[tuple[int, Marker]]:
        """Markers since the last call, each with the sample that its time falls on; see Source."""
        if self._inlet is None or not self._tracker.started or self._pending:
            return []  # they wait in their inlet until there is a sample to count from, of the newest epoch
        return [(self._tracker.sample_of(time - self._correction), marker) for time, marker in self._events.pull()]

    def close(self) -> None:
        self._close_inlet()
        self._events.close()

    # -- connecting --------------------------------------------------------------------------------------------------

    def _connect(self, found: pylsl.StreamInfo, stop: threading.Event) -> bool:
        """Opens the stream; False when it went away meanwhile or `stop` was set."""
        inlet = pylsl.StreamInlet(found, max_buflen=BUFFER_S, recover=False)
        remote = found.hostname() != socket.gethostname()
        header = None
        correction = 0.0 if not remote else None
        give_up = pylsl.local_clock() + 5.0
        while header is None or correction is None:
            if stop.is_set() or pylsl.local_clock() > give_up:
                return False
            try:
                if header is None:
                    header = read_header(inlet.info(timeout=POLL_S))
                if correction is None:
                    correction = inlet.time_correction(timeout=POLL_S)
            except NoAnswer:
                continue
            except LostError:
                return False
        if self._header is not None and (changed := differences(self._header, header)):
            raise RigFault(f"LSL stream {describe(found)} is not the one that was lost: {'; '.join(changed)}; restart")
        try:
            inlet.open_stream(timeout=1.0)
        except (NoAnswer, LostError):
            return False
        if self._epoch >= 0:
            self._counters.reconnects += 1
            note(self._counters, f"reconnected to {describe(found)}")
        rows = int(PULL_S * header.info.rate_hz)
        self._header, self._inlet, self._remote, self._correction = header, inlet, remote, correction
        self._pull_chunk = pull = ChunkPull(inlet, rows, header.info.n_channels, header.dtype)
        self._samples = pull.raw if header.dtype == "float32" else np.empty(pull.raw.shape, np.float32)
        self._tracker = StampTracker(header.info.rate_hz, self._counters, self._epoch + 1)
        self._epoch += 1
        self._silent_after = pylsl.local_clock() + FIRST_SAMPLE_S
        self._correct_after = pylsl.local_clock() + CORRECTION_EVERY_S
        return True

    def _close_inlet(self) -> None:
        if self._inlet is not None:
            self._epoch = self._tracker.epoch
            self._inlet = self._pull_chunk = None  # its destructor closes the connection
        self._pending.clear()

    # -- pulling -----------------------------------------------------------------------------------------------------

    def _pull(self, inlet: pylsl.StreamInlet, pull: ChunkPull, header: Header, timeout_s: float) -> None:
        """One pull into the buffer; what it holds goes into `_pending`."""
        wait_s = max(0.0, min(timeout_s, self._silent_after - local_clock()))
        try:
            rows = pull(wait_s)
        except LostError as lost:
            self._fail(
                f"{header.info.name!r} is gone: its sender ended or the network broke; looking for it again", lost
            )
        self._arrival = local_clock()
        if not rows:
            if self._arrival >= self._silent_after:
                self._fail(
                    f"{header.info.name!r} is silent: no sample for {SILENCE_S * 1e3:.0f} ms; looking for it again"
                )
            return
        self._silent_after = self._arrival + SILENCE_S
        if self._samples is not pull.raw:
            np.multiply(pull.raw[:rows], header.scale_uv, out=self._samples[:rows])
        if self._remote and self._arrival >= self._correct_after:
            self._update_correction(inlet)
        self._pending.extend(self._tracker.push(pull.stamps[:rows], self._arrival - self._correction))

    def _fail(self, problem: str, cause: Exception | None = None) -> None:
        note(self._counters, problem)
        self._close_inlet()
        raise RigFault(problem) from cause

    def _update_correction(self, inlet: pylsl.StreamInlet) -> None:
        self._correct_after = self._arrival + CORRECTION_EVERY_S
        try:
            correction = inlet.time_correction(timeout=0.0)
        except (NoAnswer, LostError):
            return  # the old one holds; a lost stream shows at the next pull
        if abs(correction - self._correction) > CORRECTION_JUMP_S:
            note(self._counters, f"the sender's clock moved by {(correction - self._correction) * 1e3:+.1f} ms")
        self._correction = correction
