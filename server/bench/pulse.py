"""Newest sample → pulse: the service armed over HTTP, its trigger stream heard over LSL as a rig hears it.

A trigger's marker carries the time of its newest sample, and its own timestamp is the moment at which it left: their
difference needs no clock of ours. The frame of the same prediction tells when it was ready; the rest is the trigger's.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pylsl

from server.bench.client import Client
from server.bench.measure import NoiseFloor, percentiles
from server.bench.path import produce, serve_process
from server.running import arm, ask, free_port, status, wait_for
from streaming.stimulators.lsl import SIMULATED_NAME

LIMITS = """
name = "bench: as often as a file may ask"
participant = "simulated"
simulated_only = true
electrodes = [1]
currents_ua = [1.0]
[pulse]
phase_us = 100
interphase_us = 60
frequency_hz = 300
pulses = 1
[limits]
pulses_per_minute = 120
pulses_per_session = 10000
refractory_s = 0.5
armed_max_s = 14400
"""
HISTORY_S = 10.0  # that the normaliser must have seen
THRESHOLDS = {"p_on": 0.51, "p_off": 0.5, "dwell_hops": 1}  # nearly any state: it is the way that is measured


def pulse(seconds: float = 60.0) -> dict[str, Any]:
    """Milliseconds from the newest sample, and from the prediction, to the moment at which the trigger leaves."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        limits = folder / "limits.toml"
        limits.write_text(LIMITS)
        name, port = f"PhospheneBench-{os.getpid()}", free_port()
        config = folder / "bench.toml"
        config.write_text(
            f"""events = "name='{name}-events'"
limits = "{limits.as_posix()}"
journal = "{(folder / "bench.journal").as_posix()}"
stimulator = "lsl?simulated=true"
"""
        )
        markers = ("Markers", 1, pylsl.IRREGULAR_RATE, pylsl.cf_string)
        events = pylsl.StreamOutlet(pylsl.StreamInfo(f"{name}-events", *markers, f"{name}-events"))
        produce(stack, name)
        serve_process(stack, name, port, "--config", str(config))
        wait_for(lambda: status(port).get("state") == "running", 60.0)
        triggers = pylsl.resolve_byprop("name", SIMULATED_NAME, timeout=10.0)
        inlet = pylsl.StreamInlet(triggers[0])
        inlet.open_stream(timeout=10.0)
        ready: dict[int, tuple[float, float]] = {}
        threading.Thread(target=_frames, args=(port, ready), daemon=True).start()
        with NoiseFloor() as floor:
            fired = _armed(port, inlet, events, seconds)
        missed = status(port)["skipped_windows"]
    sample_to_pulse = np.array([(left - marker["sample_time"]) * 1e3 for marker, left in fired])
    told = [(marker, left, *ready[marker["seq"]]) for marker, left in fired if marker["seq"] in ready]
    prediction_to_pulse = np.array([(left - marker["sample_time"]) * 1e3 - total for marker, left, total, _ in told])
    inference = float(np.median([inference for *_, inference in ready.values()]))
    return {
        "unit": "ms",
        "seconds": seconds,
        "pulses": len(fired),
        "prediction_to_pulse": percentiles(prediction_to_pulse),
        "sample_to_pulse": percentiles(sample_to_pulse),
        "inference_p50": inference,
        "sample_to_pulse_p50_minus_inference_p50": float(np.median(sample_to_pulse)) - inference,
        "skipped_windows": missed,
        "noise_floor_ms": floor.percentiles_ms(),
    }


def _armed(
    port: int, inlet: pylsl.StreamInlet, events: pylsl.StreamOutlet, seconds: float
) -> list[tuple[dict[str, Any], float]]:
    """Arm, renew the lease twice a second, listen, and answer as a rig does: (marker, LSL time at which it left) of
    each trigger."""
    ask(port, "PUT", "/v1/trigger", THRESHOLDS)
    time.sleep(HISTORY_S)
    lease = arm(port)
    fired = []
    until, renew = time.monotonic() + seconds, 0.0
    while time.monotonic() < until:
        if time.monotonic() >= renew:
            ask(port, "POST", "/v1/trigger/heartbeat", {"lease_token": lease})
            renew = time.monotonic() + 0.5
        values, left = inlet.pull_sample(timeout=0.1)
        if values is not None and (marker := json.loads(values[0]))["event"] == "trigger":
            fired.append((marker, left))
            told = {"event": "stim", "electrode": 1, "current_ua": 1.0, "duration_s": 0.001}
            events.push_sample([json.dumps(told | {"trigger_id": marker["trigger_id"]})], pylsl.local_clock())
    ask(port, "POST", "/v1/trigger/disarm", {})
    return fired


def _frames(port: int, ready: dict[int, tuple[float, float]]) -> None:
    """(total, inference) milliseconds of each prediction, by seq, until the service ends."""
    try:
        with Client(f"ws://127.0.0.1:{port}/v1/predictions?format=msgpack&fields=probability") as client:
            while True:
                frame = msgpack.unpackb(client.receive())
                if frame["type"] == "prediction" and frame["probability"] is not None:
                    ready[frame["seq"]] = frame["latency_ms"]["total"], frame["latency_ms"]["inference"]
    except Exception:
        return  # the service has ended
