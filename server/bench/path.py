"""The whole path: an LSL sender, the service and a WebSocket client, each a process, and the time between them.

newest sample's stamp (set at the push) → LSL → chain → window → bundle → hand-over → frame at the client. All on one
machine, so LSL's clock is the same for all three.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from typing import Any

import msgpack
import numpy as np
from pylsl import local_clock

from models.errors import OperatorFault
from server.bench.client import Client
from server.bench.measure import NoiseFloor, percentiles
from server.running import child, free_port, status, wait_for

HOP_S = 0.01


def path(seconds: float = 60.0, subscribers: int = 1) -> dict[str, Any]:
    """Milliseconds from the newest sample to the frame at one client, while `subscribers` in all are served."""
    with ExitStack() as stack:
        port = _rig_and_service(stack)
        wait_for(lambda: status(port).get("state") == "running", 60.0)
        with NoiseFloor() as floor:
            frames, skipped = _listen(port, seconds, subscribers)
        after = status(port)
    late = np.array([frame[0] for frame in frames])
    stages = {
        name: percentiles(np.array([frame[1][name] for frame in frames]))
        for name in ("signal", "queue", "inference", "total")
    }
    expected = (frames[-1][2] - frames[0][2]) / HOP_S + 1
    found = {
        "unit": "ms",
        "seconds": seconds,
        "subscribers": subscribers,
        "sample_to_frame": percentiles(late),
        "stages": stages,
        "sample_to_frame_p50_minus_inference_p50": float(np.median(late) - stages["inference"]["p50"]),
        "windows": len(frames),
        "share_of_windows": len(frames) / expected,
        "skipped_windows": after["skipped_windows"],
        "dropped_by_client": skipped,
        "noise_floor_ms": floor.percentiles_ms(),
    }
    return found


def fanout(seconds: float = 20.0) -> dict[str, Any]:
    """What 20 subscribers cost the decode path: p50 of its total with 1 and with 20, in turns."""
    ones: list[float] = []
    twenties: list[float] = []
    with ExitStack() as stack:
        port = _rig_and_service(stack)
        wait_for(lambda: status(port).get("state") == "running", 60.0)
        for _ in range(3):
            for subscribers, into in ((1, ones), (20, twenties)):
                frames, _skipped = _listen(port, seconds / 6, subscribers)
                into += [frame[1]["total"] for frame in frames]
    one, twenty = percentiles(np.array(ones)), percentiles(np.array(twenties))
    return {"unit": "ms", "with_1": one, "with_20": twenty, "ratio_of_medians": twenty["p50"] / one["p50"]}


def startup() -> dict[str, Any]:
    """Seconds from the start of `phosphene serve` to its first prediction, a stream being there already."""
    with ExitStack() as stack:
        name, port = f"PhospheneBench-{os.getpid()}", free_port()
        produce(stack, name)
        time.sleep(4.0)  # the stream is there
        began = time.perf_counter()
        serve_process(stack, name, port)
        wait_for(lambda: (status(port).get("predictions") or 0) > 0, 60.0)
        first = time.perf_counter() - began
        wait_for(lambda: status(port).get("state") == "running", 60.0)
        vouched = time.perf_counter() - began
    settling = 0.05 + 1.0 + 0.128
    return {
        "unit": "s",
        "first_frame": first,
        "first_probability": vouched,
        "beyond_window_and_settling": vouched - settling,
    }


def _rig_and_service(stack: ExitStack) -> int:
    name, port = f"PhospheneBench-{os.getpid()}", free_port()
    produce(stack, name)
    serve_process(stack, name, port)
    return port


def produce(stack: ExitStack, name: str) -> None:
    """The lean rig, on a stream of this name."""
    stack.enter_context(child("-m", "server.bench.producer", name, stderr=subprocess.DEVNULL))


def serve_process(stack: ExitStack, name: str, port: int, *options: str) -> subprocess.Popen[Any]:
    """`phosphene serve` on the stream of this name."""
    source = ("--source", f"lsl:name='{name}'", "--port", str(port))
    return stack.enter_context(child("-m", "server.cli", "serve", *source, *options, stderr=subprocess.DEVNULL))


def _listen(port: int, seconds: float, subscribers: int) -> tuple[list[tuple[float, dict[str, float], float]], int]:
    """(milliseconds, stages, sample time) of each frame at the first client; how many it missed."""
    url = f"ws://127.0.0.1:{port}/v1/predictions?format=msgpack"
    frames: list[tuple[float, dict[str, float], float]] = []
    missed = 0
    with ExitStack() as stack:
        for _ in range(subscribers - 1):
            threading.Thread(target=_drain, args=(stack.enter_context(Client(url)),), daemon=True).start()
        client = stack.enter_context(Client(url))
        until = local_clock() + seconds
        while local_clock() < until:
            message = client.receive()
            now = local_clock()
            frame = msgpack.unpackb(message)
            if frame["type"] == "prediction":
                frames.append(((now - frame["sample_time"]) * 1e3, frame["latency_ms"], frame["sample_time"]))
            elif frame["type"] == "dropped":
                missed += frame["count"]
    return frames, missed


def _drain(client: Client) -> None:
    with suppress(OSError, OperatorFault):
        while True:
            client.receive()
