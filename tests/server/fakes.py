"""A decode thread and a repository of bundles that do what the test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from models.decoder import Decoded
from models.errors import OperatorFault
from streaming.chunk import ArrayMap, SourceCounters, StreamInfo
from streaming.live_status import LiveStatus
from streaming.predictions import Latency, Prediction

CHANNELS, BINS, SIZE = 96, 128, 16
LABELS = tuple(f"elec{i + 1}" for i in range(CHANNELS))
CORNERS = {(0, 0), (9, 0), (0, 9), (9, 9)}
POSITIONS = tuple((float(x), float(y)) for y in range(10) for x in range(10) if (x, y) not in CORNERS)
STREAM = StreamInfo("simulated", "UtahArray", 30000.0, ArrayMap(LABELS, POSITIONS), "simulated", "s1")


def prediction(seq: int, **changes: Any) -> Prediction:
    whole = Prediction(
        seq=seq,
        source="simulated",
        sample_time=100.0 + seq * 0.01,
        last_sample=seq * 300,
        epoch=0,
        mode="continuous",
        trial=None,
        model="fake@1",
        probability=0.5 + 0.25 * float(np.sin(seq / 20)),
        embedding=np.arange(SIZE, dtype=np.float32) + seq,
        usable_channels=CHANNELS,
        flags=(),
        latency_ms=Latency(0.4, 0.1, 3.2, 4.1),
    )
    return whole._replace(**changes)


@dataclass
class FakeDecoder:
    name: str = "fake@1"
    provider: str = "cpu"
    precision: str = "float32"
    n_channels: int = CHANNELS
    n_bins: int = BINS
    manifest: Any = field(
        default_factory=lambda: SimpleNamespace(
            participant="simulated",
            manifest_sha256="b" * 64,
            probes={"prestimulus": SimpleNamespace(prevalence=0.5)},
            embedding_size=SIZE,
            input=SimpleNamespace(channels=CHANNELS, bins=BINS),
        )
    )

    def step(self, window: Any, usable: Any) -> Decoded:
        return Decoded(window[:SIZE].mean(axis=1), float(usable.mean()), None)


class FakeBundles:
    def open(self, name: str | None) -> Any:
        if name not in ("fake@1", "fake@2", "fake"):
            raise OperatorFault(f"no bundle {name!r}; there are: fake")
        return FakeDecoder(name if "@" in name else "fake@2")

    def list(self) -> list[dict[str, Any]]:
        return [{"name": name, "problem": "a fake"} for name in ("fake@1", "fake@2")]


class FakeLive:
    """What LiveDecoder shows to the service; `say` plays the decode thread."""

    def __init__(self) -> None:
        self.sink: Callable[[Prediction], None] = lambda _: None
        self.state = "waiting"
        self.waiting_for = "no stream matches name='UtahArray'"
        self.problem = ""  # of a running line
        self.asked = 0
        self.counters = SourceCounters()
        self.usable = np.ones(CHANNELS, bool)
        self.started = self.stopped = 0
        self.activated: list[str] = []
        self.shadowed: Any = None
        self.misfit: Exception | None = None  # why no bundle can be served on this stream
        self.busy_since: float | None = None
        self.failed = False
        self.skipped = 0
        self.said = 0

    def start(self) -> None:
        self.started += 1

    def stop(self, timeout_s: float = 2.0) -> None:
        self.stopped += 1

    def say(self, count: int = 1, **changes: Any) -> None:
        """Hand over `count` predictions from a thread that is not the loop's."""

        def run() -> None:
            for _ in range(count):
                self.sink(prediction(self.said, **changes))
                self.said += 1
                self.counters.samples += 300

        self.state = "running"
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    def status(self) -> Any:
        self.asked += 1
        return LiveStatus(
            state=self.state,
            problem=self.problem if self.state == "running" else self.waiting_for,
            stream=STREAM if self.state == "running" else None,
            counters=self.counters,
            predictions=self.said,
            skipped_windows=self.skipped,
            last_sample_time=100.0,
            last_prediction_time=100.0,
            usable=self.usable if self.state == "running" else np.zeros(0, bool),
            envelope_uv=np.linspace(5, 20, CHANNELS, dtype=np.float32),
            z=np.full(CHANNELS, np.nan, np.float32),
            noise_uv=np.linspace(0.5, 2, CHANNELS, dtype=np.float32),
            masked=tuple((np.flatnonzero(~self.usable) + 1).tolist()),
            signal_delay_s=0.0041,
            rate_measured_hz=30000.2,
            late_markers=0,
            keep_warm_pulses=0,
        )

    def set_mask(self, usable: Any) -> int:
        self.usable = np.array(usable)
        return 4242

    def activate(self, decoder: Any) -> None:
        self.activated.append(decoder.name)

    def check(self, decoder: Any) -> None:
        if self.misfit is not None:
            raise self.misfit

    def reads_the_same(self, decoder: Any) -> bool:
        return self.state == "running"

    def shadow(self, shadow: Any) -> None:
        self.shadowed = shadow

    def show(self, count: int, probability: float = 0.5) -> None:
        """So many windows to whoever shadows, each once it has done with the one before."""
        pipeline: Any = SimpleNamespace(copy_window=lambda window, usable: usable.fill(True))
        for k in range(count):
            self.shadowed.look(pipeline, prediction(k, probability=probability))
            until = time.monotonic() + 5
            while self.shadowed._busy and not self.shadowed._problem and time.monotonic() < until:
                time.sleep(0.0005)
