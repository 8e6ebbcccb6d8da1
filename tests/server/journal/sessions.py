"""Sessions through the real decode thread, gate, service and journal, on a clock that follows the samples; and what a
recorder that heard the same stream would have kept.

Moments are seconds since the amplifier was switched on; the service and the recorder join later, and count samples from
then on, each for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault, RigFault
from server.closed_loop import ClosedLoop
from server.journal.read import rows
from server.journal.replay import Replay, Replayed
from server.journal.rows import Row
from server.journal.session import read_session
from server.journal.writer import Clocks, Journal
from server.service import Service
from server.settings import Settings
from server.trigger_settings import PlanSettings, planner
from streaming.chunk import Chunk, EndOfRecording, SourceCounters
from streaming.events import Marker, Stimulation
from streaming.gate import Gate
from streaming.limits import Limits, parse_limits
from streaming.live import LiveDecoder
from streaming.sources.recorded import Stretch
from streaming.trigger import TriggerSettings
from tests.server.fakes import FakeBundles
from tests.streaming.fakes import RATE, MeanDecoder, manifest, stream
from tests.streaming.gate_fakes import Device

CHANNELS = 4
SCALE_UV = 0.25
SWITCHED_ON = 1000.0  # on the LSL clock
WALL = 1_700_000_000.0  # the wall clock is so far ahead of it
EASY = TriggerSettings(p_on=0.51, p_off=0.5, dwell_hops=2)
ARMS = PlanSettings(arms=["favourable", "unfavourable", "random"], trials_per_arm=50, sham_fraction=0.5, seed=0)
LIMITS = """
name = "tests"
participant = "P1"
electrodes = [2]
currents_ua = [10.0]
[pulse]
phase_us = 170
interphase_us = 60
frequency_hz = 300
pulses = 50
[limits]
refractory_s = 0.5
pulses_per_minute = 100
"""
BUNDLES: tuple[Any, ...] = tuple(
    MeanDecoder(manifest(manifest_sha256=sha256, full_name=name), name=name)
    for name, sha256 in (("fake@1", "5ea1"), ("fake@2", "5ea2"))
)
Action = Callable[["Played"], None]


def signal(seconds: float, seed: int = 0, channels: int = CHANNELS) -> NDArray[np.int16]:
    """Noise whose loudness wanders over seconds, as counts of 0.25 µV, (samples, channels)."""
    rng = np.random.default_rng(seed)
    at = np.arange(round(seconds * RATE))[:, None] / RATE
    loud = 12 + 4 * np.sin(2 * np.pi * (0.3 + 0.02 * np.arange(channels)) * at)
    return np.rint(loud * rng.standard_normal((len(at), channels)) / SCALE_UV).astype(np.int16)


@dataclass
class Answers:
    """What the rig says about the pulses of ours, one after the other: seconds from the pulse to its marker, None: none
    comes; and whether that marker names its trigger."""

    after_s: Sequence[float | None] = (0.02,)
    named: bool = True


@dataclass
class Played:
    """One session. `script`: what people and things do, and when. `spans`: when the service hears the stream; each is a
    connection. `lost`: what the amplifier lost. `trains`: (onset, told at) of somebody else's stimulations. `cut`: how
    many samples come at once; `stalls`: when 25 ms of them do, several windows. `stale`, `backlog`: when samples come
    late, and when they are a backlog."""

    folder: Path
    counts: NDArray[np.int16]
    script: dict[float, Action]
    spans: Sequence[tuple[float, float]]
    lost: Sequence[tuple[float, float]] = ()
    trains: Sequence[tuple[float, float]] = ()
    answers: Answers = field(default_factory=Answers)
    cut: tuple[int, int] = (30, 290)
    stalls: Sequence[float] = ()
    seed: int = 0
    stale: Sequence[tuple[float, float]] = ()
    backlog: Sequence[tuple[float, float]] = ()
    bundles: Sequence[Any] = BUNDLES
    plan: PlanSettings | None = ARMS

    def __post_init__(self) -> None:
        self.now = SWITCHED_ON
        self.info, self.counters = stream(self.counts.shape[1]), SourceCounters()
        self.limits_text = LIMITS
        self.every_limits = [self.limits()]  # that stood on the disk
        self.beats = True
        self.token = ""
        self.device = Device(self)  # type: ignore[arg-type]
        self._answered = 0
        self._markers: list[tuple[float, float, Stimulation]] = [
            (told, onset, Stimulation(trial, 1, 20.0, 0.167, 50, 170, 60, 300))
            for trial, (onset, told) in enumerate(self.trains)
        ]
        self._actions = sorted(self.script.items())
        self._asking: list[threading.Thread] = []
        self._next_watch = 0.0
        clocks = Clocks(wall=lambda: WALL + self.now, lsl=lambda: self.now, mono=lambda: 0.0)  # the disk has all time
        self.path = self.folder / "a.journal"
        self.journal = Journal(self.path, {}, self.limits(), run_id="run", clocks=clocks)
        self.gate = Gate(
            self.limits, self.device, self.journal, thresholds=EASY, make_plan=planner(self.plan),
            clock=lambda: self.now, monotonic=lambda: self.now,
        )  # fmt: skip
        self.journal.write("settings", {"plan": self.plan and self.plan.model_dump(mode="json")})
        self.live = LiveDecoder(
            self, self.bundles[0], marked=lambda seen: self.service.marked(seen), clock=lambda: self.now,
            decide=self.gate.predict, began=self.gate.decoding, revoke=lambda *_: self.gate.withdrawn(),
        )  # fmt: skip
        repository: Any = FakeBundles()
        loop = ClosedLoop(self.gate, self.journal)
        self.service = Service(self.live, self.bundles[0], Settings(outlet=False), repository, loop=loop)
        self._items = self._parts()

    # What happens in it ----------------------------------------------------------------------------------------------

    def play(self) -> Played:
        """To its end, with the journal on the disk."""
        self.live.start()
        self.live.join()
        assert self.live.status().state == "ended"
        for thread in self._asking:
            thread.join()
        self.gate.watch()
        self.service.closed_loop.close()
        return self

    def limits(self) -> Limits:
        return parse_limits(self.limits_text.encode())

    def arm(self) -> None:
        with contextlib.suppress(OperatorFault):  # the device may be broken, or the trigger armed already
            token, _ = self.gate.request(self.limits().sha256)
            self.token = self.gate.confirm(token)

    def request(self) -> None:
        """The first step only."""
        with contextlib.suppress(OperatorFault):
            self.gate.request(self.limits().sha256)

    def shadow(self) -> None:
        with contextlib.suppress(OperatorFault):
            self.gate.shadow()

    def configure(self, thresholds: TriggerSettings, plan: PlanSettings | None = None) -> None:
        """As PUT /v1/trigger does."""
        with contextlib.suppress(OperatorFault):
            self.gate.configure(thresholds, None if plan is None else planner(plan))
            asked = {} if plan is None else {"plan": plan.model_dump(mode="json")}
            self.journal.write("settings", {"asked": asked})

    def mask(self, *channels: int) -> None:
        """As PUT /v1/channels does, on a thread of its own; the decode thread answers behind the next chunk."""

        def ask() -> None:
            with contextlib.suppress(OperatorFault):  # while there is no stream
                asyncio.run(self.service.set_mask(list(channels)))

        thread = threading.Thread(target=ask)
        thread.start()
        self._asking.append(thread)
        while thread.is_alive() and self.live._requests.empty():
            time.sleep(0.0005)

    def activate(self, which: int) -> None:
        self.gate.disarm("another bundle")
        self.live.activate(self.bundles[which])

    def edit_limits(self, more: str = "# looked through\n") -> None:
        self.limits_text += more
        with contextlib.suppress(OperatorFault):
            self.every_limits.append(self.limits())

    # A source --------------------------------------------------------------------------------------------------------

    def wait(self, stop: threading.Event) -> bool:
        return not stop.is_set()

    def read(self, timeout_s: float) -> Chunk | None:
        item = next(self._items, None)
        if item is None:
            raise EndOfRecording
        if isinstance(item, RigFault):
            raise item
        self.now = max(self.now, item.arrival_time)
        self._answer_pulses()
        at = self.now - SWITCHED_ON
        while self._actions and self._actions[0][0] <= at:
            self._actions.pop(0)[1](self)
        if at >= self._next_watch:
            self._next_watch = at + 0.1
            if self.beats:
                with contextlib.suppress(OperatorFault):
                    self.gate.heartbeat(self.token)
            self.gate.watch()
            while self.journal.ids_left < 4:  # its thread lives on the wall's time
                time.sleep(0.001)
        self._base = round((item.sample_time - SWITCHED_ON) * RATE) - len(item.samples_uv) + 1 - item.first_sample
        self._told = [one for one in self._markers if one[0] <= at]
        self._markers = [one for one in self._markers if one[0] > at]
        return item

    def markers(self) -> list[tuple[int, Marker]]:
        found, self._told = self._heard(), []
        return found

    def close(self) -> None:
        pass

    def _heard(self) -> list[tuple[int, Marker]]:
        return [(round(onset * RATE) - self._base, marker) for _, onset, marker in self._told]

    def _answer_pulses(self) -> None:
        for fired_at, trigger_id, _ in self.device.log[self._answered :]:
            after_s = self.answers.after_s[self._answered % len(self.answers.after_s)]
            self._answered += 1
            if after_s is not None:
                named = trigger_id if self.answers.named else None
                train = Stimulation(1000 + self._answered, 2, 10.0, 0.167, 50, 170, 60, 300, named)
                onset = fired_at - SWITCHED_ON + 0.004
                self._markers.append((onset + after_s, onset, train))

    def _parts(self) -> Iterator[Chunk | RigFault]:
        rng, stalls = np.random.default_rng(self.seed), sorted(self.stalls)
        for epoch, (began, ended) in enumerate(self.spans):
            base = round(began * RATE)
            if epoch:
                yield RigFault("the stream is gone")
            for start, end in held(began, ended, self.lost):
                while start < end:
                    stop = min(end, start + int(rng.integers(*self.cut)))
                    if stalls and stalls[0] * RATE <= start:
                        stop = min(end, start + round(0.025 * RATE))
                        stalls.pop(0)
                    newest = SWITCHED_ON + (stop - 1) / RATE
                    late_s = 0.2 if _in(self.stale, start) else 0.001
                    samples_uv = self.counts[start:stop] * np.float32(SCALE_UV)
                    yield Chunk(
                        samples_uv, start - base, newest, newest + late_s, epoch, backlog=_in(self.backlog, start)
                    )
                    start = stop


def held(began: float, ended: float, lost: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    """What is left of [began, ended), in samples."""
    start, found = round(began * RATE), []
    for gap_start, gap_end in (*((round(a * RATE), round(b * RATE)) for a, b in lost), (round(ended * RATE),) * 2):
        if start < gap_start <= round(ended * RATE):
            found.append((start, gap_start))
        start = max(start, gap_end)
    return found


def _in(spans: Sequence[tuple[float, float]], sample: int) -> bool:
    return any(start <= sample / RATE < end for start, end in spans)


class Kept:
    """The recording of a recorder that joined at `began`: a streaming.sources.recorded.Recording in memory."""

    def __init__(self, played: Played, began: float = 0.0, ended: float | None = None) -> None:
        self._counts, self._first, n_channels = played.counts, round(began * RATE), played.info.n_channels
        self.info, self.dtype = stream(n_channels, kind="replay"), np.dtype(np.int16)
        self.scale_uv, self.offset_uv = np.full(n_channels, SCALE_UV, np.float32), np.zeros(n_channels, np.float32)
        self.start_s, self.markers, self.malformed_markers, self.trials = 0.0, [], 0, None
        self.began = datetime.fromtimestamp(WALL + SWITCHED_ON + began, UTC)
        whole = held(began, len(played.counts) / RATE if ended is None else ended, played.lost)
        self.stretches = [Stretch(start - self._first, end - start) for start, end in whole]

    def rows(self, stretch: int, start: int, stop: int) -> NDArray[np.int16]:
        first = self._first + self.stretches[stretch].first_sample
        return self._counts[first + start : first + stop]

    def close(self) -> None:
        pass


def told(played: Played) -> list[Row]:
    """The journal's rows."""
    return list(rows(played.path))


def replayed(played: Played, recording: Any = None, altered: Sequence[Row] | None = None) -> Replayed:
    """The session once more; `altered`: with these rows in place of the journal's."""
    session = read_session(told(played) if altered is None else altered)
    bundles = {one.manifest.manifest_sha256: one for one in played.bundles}
    kept = Kept(played) if recording is None else recording
    return Replay(session, kept, lambda about: bundles[about["bundle_sha256"]], played.every_limits).run()
