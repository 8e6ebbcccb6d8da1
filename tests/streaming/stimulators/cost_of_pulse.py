"""Prediction → pulse behind a real inference: python -m tests.streaming.stimulators.cost_of_pulse [CHECKOUT...]

A hop of 10 ms, slept through, as in the service; each runs the default bundle on noise and hands its prediction, with a
probability that any state passes, to an armed gate with a journal on disk. The pulses leave through a real LSL outlet
and are heard by another process: what is measured lies between the inference's end and liblsl's own stamp of the
marker. No event loop, no broadband stream: `phosphene bench pulse` has those.

Other CHECKOUTs of this repository are measured in turns with this one, so that a noisy machine is noisy for all.
"""

from __future__ import annotations

import tests.streaming.sources.conftest  # noqa: F401, LSL stays on this machine

# isort: split
import gc
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np
import pylsl

from models.bundle import find_bundle
from models.decoder import Decoded
from models.onnx_decoder import OnnxDecoder, open_bundle
from server.bench.pulse import LIMITS
from server.journal.writer import Journal
from streaming.arming import GateSettings
from streaming.chunk import ArrayMap, Chunk, StreamInfo
from streaming.gate import Gate
from streaming.limits import parse_limits
from streaming.matching import Decoding, decoding_settings
from streaming.pipeline import Pipeline
from streaming.stimulators.lsl import LslSettings, LslStimulator
from streaming.trigger import TriggerSettings

TURNS, TURN_S, HOP_S, RATE_HZ, SETTLED_S = 3, 15.0, 0.01, 30_000.0, 12.0
CHUNK = round(HOP_S * RATE_HZ)
CLOCK = pylsl.local_clock
PATIENT = GateSettings(lease_inhibits_s=60.0, lease_disarms_s=60.0, stream_disarms_s=60.0)  # a host may stall


class Sure:
    """The bundle, which runs, and another probability than its own."""

    def __init__(self, running: OnnxDecoder) -> None:
        self._running, self.name = running, running.name

    def step(self, window: Any, usable: Any) -> Decoded:
        return replace(self._running.step(window, usable), prestimulus=0.9)


def listen(name: str, heard: Queue[Any], ready: Any) -> None:
    """Another process, as a rig is: (seq, stamp) of each trigger."""
    (found,) = pylsl.resolve_byprop("name", name, timeout=20)
    inlet = pylsl.StreamInlet(found)
    inlet.open_stream(10)
    ready.set()
    while True:
        (text,), stamp = inlet.pull_sample(timeout=600)
        if (marker := json.loads(text))["event"] == "trigger":
            heard.put((marker["seq"], stamp))


def predictions(running: OnnxDecoder, info: StreamInfo) -> Iterator[Any]:
    """One for each hop, decoded when it is asked for."""
    settings = decoding_settings(running.manifest, info, "continuous", HOP_S)
    numbers = itertools.count()
    pipeline, decoder = Pipeline(settings, info, lambda: next(numbers)), Sure(running)
    noise_uv = np.random.default_rng(0).normal(0, 20, (CHUNK, info.n_channels)).astype(np.float32)
    for hop in itertools.count():
        now = CLOCK()
        for due in pipeline.push(Chunk(noise_uv, hop * CHUNK, now, now)):
            yield pipeline.decode(due, decoder, now, CLOCK(), CLOCK)  # type: ignore[arg-type]


def turn(seconds: float) -> list[float]:
    """Milliseconds from the inference's end to the stamp, of each pulse."""
    sys.setswitchinterval(0.0002)
    running = open_bundle(find_bundle(Path("models/bundles"), "default"))
    array, name, limits = running.manifest.array, f"CostOfPulse-{os.getpid()}", parse_limits(LIMITS.encode())
    info = StreamInfo("live", name, RATE_HZ, ArrayMap(tuple(array.labels)), running.manifest.participant)
    device = LslStimulator(LslSettings(simulated=True, name=name))
    journal = Journal(Path(tempfile.mkdtemp()) / "journal", {}, limits)
    thresholds = TriggerSettings(p_on=0.51, p_off=0.5, dwell_hops=1)
    gate = Gate(lambda: limits, device, journal, PATIENT, thresholds, clock=CLOCK)
    gate.decoding(Decoding("simulated", info.participant, RATE_HZ, running.name, "", 64, running.manifest.participant))
    context = multiprocessing.get_context("spawn")
    heard, ready = context.Queue(), context.Event()
    listener = context.Process(target=listen, args=(name, heard, ready), daemon=True)
    listener.start()
    ready.wait(30)
    ended: dict[int, float] = {}
    lease, end = "", 0.0
    following = time.monotonic()
    for hop, prediction in enumerate(predictions(running, info)):
        if (trigger_id := gate.predict(prediction)) is not None:
            ended[prediction.seq] = prediction.sample_time + prediction.latency_ms.total * 1e-3
            device.marked(trigger_id)
        if hop == round(SETTLED_S / HOP_S):
            lease = gate.confirm(gate.request(limits.sha256)[0])
            gc.collect()
            gc.freeze()
            following, end = time.monotonic(), time.monotonic() + seconds
        elif lease:
            if hop % 50 == 0:
                gate.heartbeat(lease)
            following = max(following + HOP_S, time.monotonic() - HOP_S)
            time.sleep(max(0.0, following - time.monotonic()))
        if end and time.monotonic() > end:
            break
    gate.close()
    journal.close()
    found = [heard.get(timeout=5) for _ in ended]
    listener.kill()
    return [(stamp - ended[seq]) * 1e3 for seq, stamp in found]


def main(checkouts: list[str]) -> None:
    found: dict[str, list[float]] = {checkout: [] for checkout in checkouts}
    for checkout in [*found] * TURNS:
        command = [sys.executable, __file__, "--turn"]
        said = subprocess.run(
            command, cwd=checkout, env=os.environ | {"PYTHONPATH": checkout}, stdout=subprocess.PIPE, check=True
        )
        found[checkout] += json.loads(said.stdout)
    print("| prediction → pulse, ms | pulses | p10 | p50 | p90 |\n|---|---|---|---|---|")
    for checkout, lasted in found.items():
        p10, p50, p90 = np.percentile(lasted, [10, 50, 90])
        print(f"| {checkout} | {len(lasted)} | {p10:.3f} | {p50:.3f} | {p90:.3f} |")


if __name__ == "__main__":
    if sys.argv[1:] == ["--turn"]:
        print(json.dumps(turn(TURN_S)))
    else:
        main([str(Path(__file__).parents[3]), *(str(Path(one).resolve()) for one in sys.argv[1:])])
