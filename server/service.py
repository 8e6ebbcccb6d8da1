"""The service: one decode thread, what it said, and who wants to hear it. HTTP and WebSockets are views of this."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeVar

from models.errors import OperatorFault
from server.closed_loop import ClosedLoop, open_loop
from server.decoding import ProbeName, WindowDecoder, read_windows
from server.feed import Events, Predictions
from server.heartbeat import LOOK_S, Heartbeat
from server.hits import Hits
from server.metrics import Metrics
from server.settings import Settings
from server.state_log import StateLog
from server.status import Arrivals, LatencyWindow, Skips, array_fields, not_ready, status_fields
from server.supervisor import Supervisor
from server.swap import Swap
from streaming.answers import Answers
from streaming.events import Report, Stimulation
from streaming.live import LiveDecoder
from streaming.live_status import LiveStatus, MarkerSeen
from streaming.predictions import Prediction

if TYPE_CHECKING:
    from models.onnx_decoder import OnnxDecoder
    from server.bundles import Bundles

log = logging.getLogger("phosphene")
Answer = TypeVar("Answer")

TICK_S = 0.1
ENDS_S = 2.0
MOST_HZ = 1000  # predictions a second: one a bin
NEAR_S = 1.0  # a mask holds from the next bin, so the newest prediction of its epoch is not older
SPARE = 1.02  # a stream whose clock is fast, or catches up, still has its `hold_s`


class Service:
    """`decoder` is the bundle that `live` runs; `looking_for` the stream that it waits for, in words; `clock` any
    steady clock in seconds; `loop` the closed loop, by default one that cannot be armed; `trigger_of` the service whose
    trigger this one stands beside, by default itself: what it shows, stops with a hang, and changes no bundle under;
    `log` whose lines these are.

    The decode thread calls `hand_over`, `marked` and `marked_late`, worker threads `decode`, any thread
    `trigger_happened`; the rest is the event loop's.
    """

    def __init__(
        self,
        live: LiveDecoder,
        decoder: OnnxDecoder,
        settings: Settings,
        bundles: Bundles,
        clock: Callable[[], float] = time.monotonic,
        looking_for: str = "",
        loop: ClosedLoop | None = None,
        trigger_of: Service | None = None,
        log: logging.Logger = log,
    ) -> None:
        self.live, self.log = live, log
        self.decoder = decoder
        self.settings = settings
        self.bundles = bundles
        loop = loop or open_loop(settings)
        self.closed_loop, self.gate, self.journal = loop, loop.gate, loop.journal
        self.trigger_of = trigger_of or self
        self.run_id = loop.journal.run_id
        self._windows: WindowDecoder | None = None
        self._windows_lock = threading.Lock()
        self.predictions = Predictions(self.run_id, settings.hold_s, held_at_most(settings), clock)
        self.events = Events(256, clock)
        self.metrics = Metrics(settings.deadline_s)
        self.latency = LatencyWindow()
        self.subscribers = 0
        self.dropped = 0
        self.refusals: Counter[int] = Counter()
        self._newest_refusal = ""
        self._state_log = StateLog(clock, log)
        self._supervisor = Supervisor()
        self._arrivals = Arrivals()
        self._skips = Skips()
        self._clock = clock
        self._looking_for = looking_for
        self._loop: asyncio.AbstractEventLoop | None = None
        self._state = ""
        self._shown_samples = 0
        self._uncounted: list[Prediction] = []
        self._newest: Prediction | None = None
        self.hits = Hits()
        self.answers = _answers(decoder)
        self.swap = Swap(self, clock)
        self.hangs = ""  # a sentence, while the decode thread does
        self.dead = ""  # and one when it is given up, and the process must end
        self.give_up: Callable[[], None] = lambda: None
        # a stop never queues behind a decode request, nor behind those that wait for the limits' disk
        self.controls, self._stops = ThreadPoolExecutor(4, "control"), ThreadPoolExecutor(2, "stop")
        self._ending = threading.Event()

    def hand_over(self, prediction: Prediction) -> None:
        """The decode thread's sink: one call into the event loop, whatever the number of clients."""
        self._on_the_loop(self._publish, prediction)

    def marked_late(self, first_sample: int, last_sample: int) -> None:
        """The decode thread: a marker came too late for the predictions that rest on these samples."""
        self._on_the_loop(self._withdraw, first_sample, last_sample)

    def marked(self, seen: MarkerSeen) -> None:
        """The decode thread: a stimulation or a report."""
        event = seen.event
        fields = asdict(event)
        if isinstance(event, Stimulation):
            kind = "stim"
            if event.trigger_id is not None:
                self.gate.acknowledged(event.trigger_id)
            told = {"time": seen.time, "sample": seen.sample, "before_sample": seen.before_sample}
            self.journal.write("stimulation", told | fields)
        else:
            kind = "report"
            self.journal.write("report", {"time": seen.time, "sample": seen.sample, **fields})
        self._on_the_loop(self._marked, kind, {"sample_time": seen.time, **fields})

    def refused(self, status: int, sentence: str) -> None:
        """A client was not let in; the answer's status, and what it was told."""
        self.refusals[status] += 1
        self._newest_refusal = sentence

    def trigger_happened(self, kind: str, fields: dict[str, Any]) -> None:
        """The gate, on whichever thread: a transition or a trigger."""
        self._on_the_loop(self._trigger_happened, kind, fields)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The decode thread, the trigger's watch and the 10 Hz tick, for as long as the service lives."""
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        self.live.start()
        self._supervisor.tell("READY=1")
        tick = asyncio.create_task(self._tick_forever())
        beat = asyncio.create_task(self._watch_the_decoder())
        try:
            yield
        finally:
            tick.cancel()
            beat.cancel()
            await self.make_safe()
            await self.swap.close()
            self._loop = None
            await asyncio.to_thread(self.live.stop, 0.0 if self.dead else ENDS_S)
            self.controls.shutdown(wait=False)
            self._stops.shutdown(wait=False)

    @property
    def ending(self) -> bool:
        """Whether it was told to end."""
        return self._ending.is_set()

    async def make_safe(self) -> None:
        """The first thing of the end: disarmed, the device let go, the journal on the disk. Clients still listen."""
        self._ending.set()
        self._supervisor.tell("STOPPING=1")
        await asyncio.to_thread(self.closed_loop.close)

    async def control(self, call: Callable[..., Answer], *arguments: Any) -> Answer:
        """A call of the gate that may touch the device, on a thread of its own."""
        on = self._stops if call in (self.gate.disarm, self.gate.stop) else self.controls
        return await asyncio.get_running_loop().run_in_executor(on, lambda: call(*arguments))

    def _watch(self) -> None:
        """Ten times a second and not on the event loop, so that nothing a client does can hold it up."""
        while not self._ending.wait(TICK_S):
            try:
                self.gate.watch()
            except Exception:  # whoever must stop it has no other eyes
                self.log.exception("the trigger's watch failed; it goes on")

    def snapshot(self) -> LiveStatus:
        """The decode thread's state; while it waits for a stream, `problem` says for which."""
        status = self.live.status()
        if status.state == "waiting" and not status.problem and self._looking_for:
            problem = f"no stream yet: still looking for {self._looking_for}; start the amplifier's LSL sender"
            return replace(status, problem=problem)
        return status

    def not_ready(self, status: LiveStatus | None = None) -> list[str]:
        """Why /readyz says no; empty when it says yes. `status` is a snapshot that was just taken."""
        deadline_s = self.settings.deadline_s
        hangs = [self.hangs] if self.hangs else []
        return hangs + not_ready(
            status or self.snapshot(),
            self._arrivals.silent_s(self._clock()),
            self.latency.late_share(deadline_s),
            deadline_s,
            self._skips.share(),
        )

    def status(self, status: LiveStatus | None = None) -> dict[str, Any]:
        """The body of /v1/status and of the status event. `status` is a snapshot that was just taken."""
        status = status or self.snapshot()
        reasons = self.not_ready(status)
        return {
            "run_id": self.run_id,
            "arrays": list(self.settings.arrays),
            "trigger": self.trigger_status(),
            "evoked": self.answers.to_dict() if self.settings.mode == "evoked" else None,
            "model": self.decoder.name,
            "provider": self.decoder.provider,
            "precision": self.decoder.precision,
            "model_participant": self.decoder.manifest.participant,
            "ready": not reasons,
            "not_ready": reasons,
            "next_seq": self.predictions.history.next_seq,
            "latency_ms": self.latency.percentiles(),
            "subscribers": self.subscribers,
            "dropped": self.dropped,
            **status_fields(status, self.settings.participant, self.settings.session),
        }

    def trigger_status(self) -> dict[str, Any]:
        """The body of GET /v1/trigger."""
        one = self.trigger_of
        return {**one.gate.status(), "hits": one.hits.table()}

    def take_over(self, decoder: OnnxDecoder) -> None:
        """Decode with another bundle from the next window on."""
        self.live.activate(decoder)
        self.decoder = decoder
        self.answers = _answers(decoder)

    def decode(self, body: bytes, npy: bool, probe: ProbeName) -> dict[str, Any]:
        """Answer POST /v1/decode, on a worker thread and on a session of its own."""
        running = self.decoder
        return self.window_decoder(running).decode(read_windows(body, npy, running.n_channels, running.n_bins), probe)

    def window_decoder(self, running: OnnxDecoder) -> WindowDecoder:
        """The session beside the one of `running`, opened where it is not yet; a worker thread's."""
        with self._windows_lock:
            if self._windows is None or self._windows.decoder.name != running.name:
                self._windows = WindowDecoder(self.bundles.open(running.name))
            return self._windows

    async def set_mask(self, masked: list[int]) -> dict[str, Any]:
        """Mask exactly the channels `masked`, 1-based in stream order. Returns the answer of PUT /v1/channels: from
        which sample of which epoch it holds, and that sample's time.

        Raises:
            OperatorFault: no stream yet, or a channel that it does not have.
        """
        usable = self.live.status().usable.copy()
        if not len(usable):
            raise OperatorFault("there is no stream yet, so no channels to mask; wait until /readyz says yes")
        wrong = [channel for channel in masked if not 1 <= channel <= len(usable)]
        if wrong:
            raise OperatorFault(f"found channels {wrong[:8]}, expected numbers from 1 to {len(usable)}")
        usable[:] = True
        usable[[channel - 1 for channel in masked]] = False
        from_sample = await asyncio.to_thread(self.live.set_mask, usable)
        said = {"masked": sorted(set(masked)), "from_sample": from_sample, **self._moment(from_sample)}
        sentence = "channels masked: %(masked)s, from sample %(from_sample)d of epoch %(epoch)s"
        self.log.info(sentence, said, extra={"event": "channels", "fields": said})
        self.journal.write("mask", said)
        self.events.happened("channels", said)
        return said | {"usable_channels": int(usable.sum())}

    def _moment(self, sample: int) -> dict[str, Any]:
        """Epoch and time of a sample that comes next, told from the newest prediction; null where that is not near."""
        newest, stream = self._newest, self.live.status().stream
        if newest is None or stream is None or not 0 <= sample - newest.last_sample < NEAR_S * stream.rate_hz:
            return {"epoch": None, "sample_time": None}
        ahead_s = (sample - newest.last_sample) / stream.rate_hz
        return {"epoch": newest.epoch, "sample_time": newest.sample_time + ahead_s}

    def _on_the_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closing: nobody is left to hear it
                self._loop.call_soon_threadsafe(call, *arguments)

    def _marked(self, kind: str, fields: dict[str, Any]) -> None:
        if kind == "stim":
            self.hits.stimulated(fields["trigger_id"], fields["trial"])
        else:
            report = Report(fields["trial"], fields["perceived"])
            self.answers.reported(report, fields["sample_time"])
            fields["trigger_id"] = self.hits.reported(fields["trial"], fields["perceived"])
        self.events.happened(kind, fields)

    def _trigger_happened(self, kind: str, fields: dict[str, Any]) -> None:
        if kind == "transition":
            self.events.state("trigger_state", self.trigger_status())
        elif kind != "would_fire" and not fields["refused"]:
            self.hits.triggered(fields["trigger_id"], fields["arm"], kind == "sham")
        if kind == "trigger" and self.gate.blind:  # the id of a sham is another kind of id
            fields = {**fields, "trigger_id": None}
        self.events.happened(kind, fields)

    def _publish(self, prediction: Prediction) -> None:
        self._newest = prediction
        self.answers.predicted(prediction)
        self.predictions.publish(prediction)
        self.latency.push(prediction)
        self.swap.predicted(prediction)
        self._uncounted.append(prediction)

    def _withdraw(self, first_sample: int, last_sample: int) -> None:
        changed = self.predictions.flag_late(first_sample, last_sample)
        if changed:
            self.answers.withdraw(*changed)
            self.events.happened("late_marker", {"first_seq": changed[0], "last_seq": changed[1]})

    async def _tick_forever(self) -> None:
        count = 0
        while True:
            self._supervisor.tell("WATCHDOG=1")
            try:
                self.tick(count)
                await self.swap.tick()
            except Exception:  # a display that fails must not take the rest with it
                self.log.exception("the status could not be published")
            count += 1
            before = self._clock()
            await asyncio.sleep(TICK_S)
            self.metrics.loop_lag(self._clock() - before - TICK_S)

    async def _watch_the_decoder(self) -> None:
        """One that hangs is told and disarms; one that does not come back, or that failed, ends the process, for its
        supervisor."""
        heartbeat = Heartbeat(self.settings.hop_s)
        while not self.dead:
            await asyncio.sleep(LOOK_S)
            verdict = heartbeat.look(self.live.busy_since)
            if self.live.failed:
                self._give_up("the decode thread failed", "decoder_failed")
                return
            if verdict == "hangs" and not self.hangs:
                self.hangs = f"the decoder has not moved for over {heartbeat.noticed_s:g} s: its inference hangs"
                self.metrics.decoder_hangs()
                self.log.error("%s", self.hangs, extra={"event": "decoder", "fields": {"hangs": True}})
                self.events.state("status", self.status())
                # not awaited: whatever hangs may hold the gate
                self._stops.submit(self.trigger_of.gate.disarm, self.hangs)
            elif verdict == "moves" and self.hangs:
                self.hangs = ""
                self.log.warning("the decoder moves again", extra={"event": "decoder", "fields": {"hangs": False}})
            elif verdict == "dead":
                self._give_up(self.hangs, "decoder_hangs")
            self.trigger_of.gate.stands_still(self.run_id, self.hangs)  # nobody arms it meanwhile

    def _give_up(self, because: str, reason: str) -> None:
        self.dead = f"{because}; the process ends, start it again (a supervisor does)"
        told = {"event": "decoder", "fields": {"hangs": bool(self.hangs), "given_up": True}}
        self.log.critical("%s", self.dead, extra=told)
        self._stops.submit(self.trigger_of.gate.disarm, self.dead)
        self.trigger_of.gate.stands_still(self.run_id, self.dead)
        self.journal.write("fault", {"reason": reason})
        self.give_up()

    def tick(self, count: int) -> None:
        """Ten times a second: metrics, and the array while samples come; twice a second or on change: the status;
        five times a second: the trigger's."""
        status = self.snapshot()  # one for all: it copies arrays
        if status.counters is not None:
            self._arrivals.push(status.counters.samples, self._clock())
            self._skips.push(status.predictions, status.skipped_windows, self._clock())
        reasons = self.not_ready(status)
        self._state_log.look(status, reasons)
        self._state_log.refused(self.refusals, self._newest_refusal)
        uncounted, self._uncounted = self._uncounted, []
        for prediction in uncounted:  # here, and not before its frame goes out
            self.metrics.observe(prediction, self.trigger_of.gate.blind)
        self.metrics.publish(status, self, not reasons)
        samples = status.counters.samples if status.counters else 0
        if samples != self._shown_samples:  # so that a page can tell a stream that stands still
            self._shown_samples = samples
            self.events.state("array", array_fields(status))
        if count % 2 == 0:
            self.events.state("trigger_state", self.trigger_status())
        if count % 5 == 0 or status.state != self._state:
            self._state = status.state
            self.events.state("status", self.status(status))


def _answers(decoder: OnnxDecoder) -> Answers:
    """Predictions of this bundle, to be held against reports at the share of perceived trials that it was fitted to."""
    probe = decoder.manifest.probes.get("evoked")
    return Answers(decoder.name, probe.prevalence if probe else 0.5, window_bins=decoder.n_bins)


def held_at_most(settings: Settings) -> int:
    """How many predictions `hold_s` can bring: one a hop, or at worst one a bin where stimulation sets the pace."""
    hz = min(1 / settings.hop_s, MOST_HZ) if settings.mode == "continuous" else MOST_HZ
    return math.ceil(settings.hold_s * hz * SPARE)
