"""The decode thread: one straight line from sample to prediction that never waits for anyone.

It pulls, filters, decodes the newest window and hands over; everything slow (clients, disks, encoders) is behind a sink
that must return at once. One thread, because liblsl, the kernel and ONNX Runtime all release the interpreter lock
(docs/architecture.md).
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from models.decoder import Decoder
from models.errors import Fault, OperatorFault, RigFault
from streaming.chunk import Chunk, EndOfRecording, Source, StreamInfo
from streaming.events import Marker, Report, Stimulation
from streaming.expected import EXPECT_S
from streaming.keep_warm import KeepWarm
from streaming.live_status import LiveSettings, LiveStatus, MarkerSeen, State
from streaming.lsl_calls import local_clock
from streaming.matching import Decoding, decoding_settings, why_not_calibrated
from streaming.pipeline import TRAINS_KEPT, DecodingSettings, Due, Pipeline
from streaming.predictions import Prediction
from streaming.shadow import Shadow
from streaming.signal.design import design, signal_delay_s
from streaming.signal.loading import load_kernels

log = logging.getLogger("phosphene")

READ_TIMEOUT_S = 0.1
RETRY_S = 0.2
SMOOTHING_BINS = 100
NOISE_BINS = 1000
RATE_OVER_S = 2.0
FUTURE_S = 5.0  # a marker further ahead of the samples has a wrong clock


@dataclass(slots=True)
class _Request:
    """Something another thread asks the decode thread to do between two chunks, and the answer."""

    mask: NDArray[np.bool_]
    done: threading.Event = field(default_factory=threading.Event)
    sample: int = -1
    withdrawn: bool = False


class LiveDecoder:
    """Owns the decode thread.

    Args:
        source: where samples come from; only the decode thread touches it.
        decoder: a running bundle; `activate` swaps it between two windows, `shadow` has another decode beside it.
        settings: see LiveSettings.
        sinks: called with each prediction, on the decode thread, in order; they must not wait.
        decide: called with each prediction before any sink; the trigger's id where a pulse of our own left, whose
            artifact is on its way: what follows is held back until its marker has come, or half a second has passed,
            and is not vouched for without that marker.
        began: called with the stream's facts whenever a stream or a bundle begins.
        revoke: called with (first_sample, last_sample) when a late marker changes what predictions rested on.
        marked: called with each stimulation and report.
        clock: the clock of `sample_time`; LSL's.
        log: where lines go; of several arrays each has its own.
    """

    def __init__(
        self,
        source: Source,
        decoder: Decoder,
        settings: LiveSettings | None = None,
        sinks: Sequence[Callable[[Prediction], None]] = (),
        revoke: Callable[[int, int], None] = lambda first, last: None,
        marked: Callable[[MarkerSeen], None] = lambda seen: None,
        clock: Callable[[], float] = local_clock,
        decide: Callable[[Prediction], str | None] = lambda prediction: None,
        began: Callable[[Decoding], None] = lambda decoding: None,
        log: logging.Logger = log,
    ) -> None:
        self._source, self._decoder = source, decoder
        self._settings = settings or LiveSettings()
        self._decide, self._began, self._log = decide, began, log
        self._sinks, self._revoke, self._marked, self._clock = sinks, revoke, marked, clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self.busy_since: float | None = None  # with the chunk at hand, monotonic; for whoever watches that it goes on
        self._seq = itertools.count()
        self._status = LiveStatus()
        self._pipeline: Pipeline | None = None
        self._shadow: Shadow | None = None
        self._keep_warm: KeepWarm | None = None
        self._operator_mask: NDArray[np.bool_] | None = None
        self._predictions = self._skipped = self._late = self._pulses = 0
        self._drifts = False
        self._rate = (float("nan"), 0, 0.0)  # measured rate, samples and moment of the last measurement
        self._last_sample_time = self._last_prediction_time = float("nan")

    @property
    def failed(self) -> bool:
        """Whether the decode thread ended by a defect: it does not come back."""
        return self._status.state == "failed"

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ends the thread and closes the source; returns when both are done, or after `timeout_s`."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def join(self) -> None:
        """Wait for the end of a recording."""
        self._thread.join()

    def activate(self, decoder: Decoder) -> None:
        """Decode with another bundle from the next stream or window on. One that reads the same windows misses none;
        for any other a new chain starts, which has to settle."""
        self._decoder = decoder

    def reads_the_same(self, decoder: Decoder) -> bool:
        """Whether this bundle would read the very windows that are decoded now; False while there is no stream.

        Raises:
            Fault: it cannot be served on this stream.
        """
        pipeline = self._pipeline
        return pipeline is not None and self._settings_of(decoder, pipeline.info).same_windows(pipeline.settings)

    def check(self, decoder: Decoder) -> None:
        """Design what the chain of this bundle needs at the rate of the stream, where there is one: what is refused
        here would take the running line down. Takes milliseconds, on the caller's thread.

        Raises:
            Fault: it cannot be served on this stream. ValueError: no filter can be made of it.
        """
        info = self._status.stream
        if info is not None:
            design(self._settings_of(decoder, info).chain, info.rate_hz)

    def shadow(self, shadow: Shadow | None) -> None:
        """Show each decoded window to this one, too, from the next on; None: to nobody."""
        self._shadow = shadow

    def set_mask(self, usable: NDArray[np.bool_]) -> int:
        """The operator's usable channels, bool (channels,). Returns the sample index from which it holds.

        Raises:
            OperatorFault: no stream, a mask of another size, or a decode thread that does not answer.
        """
        info = self._status.stream
        if info is None or usable.shape != (info.n_channels,):
            expected = "a stream first" if info is None else f"{info.n_channels} values"
            raise OperatorFault(f"channel mask: found {usable.shape[0]} values, expected {expected}")
        request = _Request(np.array(usable, bool))
        self._requests.put(request)
        if not request.done.wait(1.0) or request.sample < 0:
            request.withdrawn = True  # nobody waits for the answer any more, so it must not be carried out
            raise OperatorFault("channel mask: no samples arrive, so there is no moment from which it could hold")
        return request.sample

    def status(self) -> LiveStatus:
        """A snapshot; any thread may ask."""
        status, pipeline = self._status, self._pipeline
        status = replace(
            status,
            counters=replace(self._source.counters, notes=list(self._source.counters.notes)),
            predictions=self._predictions,
            skipped_windows=self._skipped,
            late_markers=self._late,
            keep_warm_pulses=self._pulses,
            last_sample_time=self._last_sample_time,
            last_prediction_time=self._last_prediction_time,
            rate_measured_hz=self._rate[0],
        )
        if pipeline is None:
            return status
        chain = pipeline.chain
        last = chain.next_bin
        bins = chain.recent(last - SMOOTHING_BINS, last)
        noise_uv, mask = chain.noise_uv(last - NOISE_BINS, last), self._operator_mask
        masked = () if mask is None else tuple((np.flatnonzero(~mask) + 1).tolist())
        return replace(
            status,
            usable=chain.usable,
            envelope_uv=bins[0],
            z=bins[1],
            noise_uv=noise_uv,
            masked=masked,
            drift=None if pipeline.drift is None else pipeline.drift.status(),
        )

    # On the decode thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            loaded = False
            while not self._stop.is_set():
                self._say("waiting", self._status.problem)
                try:
                    if not loaded:
                        load_kernels()
                        self._warm_up(self._decoder)
                        loaded = True
                    if self._source.wait(self._stop):
                        with self._settings.placement.held():
                            self._decode_stream()
                except EndOfRecording:
                    self.busy_since = None
                    self._say("ended", "")
                    return
                except Fault as fault:
                    self.busy_since = None
                    self._log.warning("%s", fault)
                    self._pipeline = None
                    if self._is_over(fault):
                        self._say("ended", str(fault))
                        return
                    self._say("waiting", str(fault))
                    self._stop.wait(RETRY_S)
            self._say("stopped", "")
        except Exception:
            self._log.exception("the decode thread failed: a defect of Phosphene, please report it")
            self.busy_since = None
            self._pipeline = None
            self._say("failed", "the decode thread failed; see the log")
        finally:
            self._source.close()

    def _is_over(self, fault: Fault) -> bool:
        """A recording that broke cannot be read on: whoever tried would take it for one that has no more samples."""
        try:
            return isinstance(fault, RigFault) and self._source.info.recorded
        except RigFault:  # no stream yet
            return False

    def _decode_stream(self) -> None:
        """Until the stream ends or breaks."""
        source, clock = self._source, self._clock
        pipeline: Pipeline | None = None
        decoder, epoch = self._decoder, -1
        trains: deque[tuple[int, Stimulation]] = deque(maxlen=TRAINS_KEPT)  # for the next bundle on this stream
        while not self._stop.is_set():
            self.busy_since = None
            chunk = source.read(READ_TIMEOUT_S)
            if chunk is None:
                continue
            self.busy_since = time.monotonic()
            if pipeline is None or chunk.epoch != epoch or decoder is not self._decoder:
                if chunk.epoch != epoch:
                    trains.clear()
                before = pipeline if chunk.epoch == epoch else None
                decoder, epoch = self._decoder, chunk.epoch
                self._warm_up(decoder)
                pipeline = self._pipeline = self._begin(decoder, before)
                self._began(Decoding.of(decoder, pipeline.info, self._settings, chunk, continues=pipeline is before))
                if pipeline is not before:
                    pipeline.inherit(trains, chunk.first_sample)
            for sample, marker in source.markers():
                self._hear(pipeline, chunk, trains, sample, marker)
            due = pipeline.push(chunk)
            self._answer(pipeline)
            filtered = clock()
            self._last_sample_time = chunk.sample_time
            self._measure(chunk)
            if self._status.state == "warming" and pipeline.chain.settled:
                self._say("running", self._status.problem)
            skipped = 0
            if due and self._settings.mode == "continuous":
                skipped = len(due) - 1
                due = due[-1:]  # the newest window wins
            self._skipped += skipped
            for window in due:
                self._emit(pipeline, decoder, window, chunk, filtered, skipped)
            if self._keep_warm is not None:
                self._pulse(self._keep_warm, pipeline, chunk)

    def _warm_up(self, decoder: Decoder) -> None:
        """On this thread, since a GPU's graph is a thread's own."""
        if decoder.provider == "cpu":
            self._keep_warm = None
        elif self._keep_warm is None or self._keep_warm.decoder is not decoder:
            self._keep_warm = KeepWarm(decoder, self._settings.keep_warm_s, self._clock)

    def _pulse(self, keep_warm: KeepWarm, pipeline: Pipeline, chunk: Chunk) -> None:
        """Of samples that come late it is not known when the next come."""
        if chunk.backlog:
            return
        before = keep_warm.pulses
        keep_warm.look(pipeline.free_s - (self._clock() - chunk.arrival_time))
        self._pulses += keep_warm.pulses - before

    def _settings_of(self, decoder: Decoder, info: StreamInfo) -> DecodingSettings:
        one = self._settings
        return decoding_settings(decoder.manifest, info, one.mode, one.hop_s, one.participant)

    def _begin(self, decoder: Decoder, before: Pipeline | None) -> Pipeline:
        """A new pipeline, warm, for a new stream or bundle; the one `before` where the bundle reads its windows."""
        info = self._source.info
        manifest = decoder.manifest
        settings = self._settings_of(decoder, info)
        reason = why_not_calibrated(manifest, info, self._settings.participant) or ""
        if reason:
            self._log.warning("probabilities are null: %s", reason)
        if before is not None and settings.same_windows(before.settings):
            before.read_by(settings)
            self._status = replace(self._status, not_calibrated=reason)
            return before
        mask = self._operator_mask
        if mask is not None and len(mask) != info.n_channels:
            mask = None
        if mask is not None:
            self._log.info(
                "the operator's channel mask holds here too, from the first sample on: %d usable", mask.sum()
            )
        pipeline = Pipeline(settings, info, self._next_seq, mask)
        self._status = replace(
            self._status,
            state="warming",
            problem=""
            if info.n_channels == manifest.input.channels
            else _wrong_channels(info, manifest.input.channels),
            stream=info,
            signal_delay_s=signal_delay_s(settings.chain, info.rate_hz),
            not_calibrated=reason,
        )
        return pipeline

    def _emit(
        self, pipeline: Pipeline, decoder: Decoder, due: Due, chunk: Chunk, filtered: float, skipped: int
    ) -> None:
        prediction = pipeline.decode(due, decoder, chunk.arrival_time, filtered, self._clock, skipped)
        trigger_id = self._decide(prediction)
        if trigger_id is not None:
            # from the window's end, whatever else this chunk held: so that a replay expects it there, too
            pipeline.expect_stimulation(prediction.last_sample + 1, EXPECT_S, trigger_id)
        for sink in self._sinks:
            sink(prediction)
        self._predictions += 1
        if self._keep_warm is not None and prediction.embedding is not None:
            self._keep_warm.worked(prediction.latency_ms.inference * 1e-3)
        self._last_prediction_time = prediction.sample_time
        if ("drift" in prediction.flags) != self._drifts:
            self._tell_drift(pipeline)
        shadow = self._shadow
        if shadow is not None and prediction.embedding is not None:
            shadow.look(pipeline, prediction)

    def _tell_drift(self, pipeline: Pipeline) -> None:
        self._drifts = not self._drifts
        if self._drifts and pipeline.drift is not None:
            self._log.warning("the input has drifted from what the bundle was fitted to: %s", pipeline.drift.status())
        else:
            self._log.info("the input is again as the bundle knows it, or began anew")

    def _hear(
        self, pipeline: Pipeline, chunk: Chunk, trains: deque[tuple[int, Stimulation]], sample: int, marker: Marker
    ) -> None:
        """A marker that has come, of a sample before, in or behind this chunk."""
        source = self._source
        if sample > chunk.first_sample + FUTURE_S * source.info.rate_hz:
            source.counters.malformed_markers += 1
            self._log.warning("a marker of %s lies over %g s ahead of the samples: ignored", marker, FUTURE_S)
            return
        if isinstance(marker, Stimulation):
            trains.append((sample, marker))
            self._stimulate(pipeline, sample, marker)
        if isinstance(marker, Stimulation | Report):
            time_s = chunk.time_of(sample, source.info.rate_hz)
            self._marked(MarkerSeen(marker, sample, time_s, chunk.first_sample))

    def _stimulate(self, pipeline: Pipeline, sample: int, marker: Stimulation) -> None:
        late = pipeline.late_markers
        revision = pipeline.stimulation(sample, marker)
        self._late += pipeline.late_markers - late
        if revision is not None:
            self._revoke(revision.first_sample, revision.last_sample)

    def _answer(self, pipeline: Pipeline) -> None:
        """Masks that the operator asked for, between two chunks."""
        while not self._requests.empty():
            request = self._requests.get()
            if len(request.mask) == pipeline.info.n_channels and not request.withdrawn:
                request.sample = pipeline.set_mask(request.mask, pipeline.chain.next_sample)
                self._operator_mask = request.mask
                self._log.info("channel mask from sample %d: %d usable", request.sample, request.mask.sum())
            request.done.set()

    def _measure(self, chunk: Chunk) -> None:
        """The rate at which samples really arrive, over a few seconds."""
        samples = self._source.counters.samples
        _, before, since = self._rate
        elapsed = chunk.arrival_time - since
        if samples < before or since == 0.0 or elapsed > 10 * RATE_OVER_S:
            self._rate = (float("nan"), samples, chunk.arrival_time)
        elif elapsed > RATE_OVER_S:
            self._rate = ((samples - before) / elapsed, samples, chunk.arrival_time)

    def _next_seq(self) -> int:
        return next(self._seq)

    def _say(self, state: State, problem: str) -> None:
        self._status = replace(self._status, state=state, problem=problem)


def _wrong_channels(info: StreamInfo, expected: int) -> str:
    return (
        f"stream {info.name}: found {info.n_channels} channels, expected the {expected} of the bundle; nothing is "
        "decoded until a bundle for this array is activated"
    )
