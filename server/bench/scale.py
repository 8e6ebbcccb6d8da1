"""More channels, and a shorter hop: where LSL ends on this machine, what the whole path takes, and one window a bin.

The bundles are fresh networks of the right size (training/random_bundle.py); what they say means nothing, and takes as
long as if it did. An encoder takes an electrode for a token, so from 256 on it looks at some of them only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.errors import RigFault
from models.manifest import PrecisionName, ProviderName
from models.onnx_decoder import open_bundle
from server.bench.measure import NoiseFloor
from server.bench.path import Watched, produce, serve_process, watch
from server.bench.producer import CHUNK
from server.running import free_port, status, wait_for

LSL_CHANNELS = (96, 256, 1024, 2048, 4096)  # on two cores LSL ends between the last two
PATHS = ((96, 96), (256, 96), (1024, 96))  # channels, and how many of them the encoder looks at
STARTS_S = 90.0
HOP_S = 0.001  # the shortest
Run = tuple[ProviderName, PrecisionName]
RUN: Run = ("cpu", "int8")


def lsl_in(seconds: float = 60.0) -> dict[str, Any]:
    """Samples lost between a sender and a reader of 30 kHz, and the cores that the reader takes."""
    found: dict[str, Any] = {"unit": f"in {seconds:g} s"}
    for channels in LSL_CHANNELS:
        with ExitStack() as stack, NoiseFloor() as floor:
            name = f"PhospheneBench-{os.getpid()}-{channels}"
            produce(stack, name, channels)
            command = [sys.executable, "-m", "server.bench.reader", name, str(seconds)]
            answer = subprocess.run(command, capture_output=True, text=True, timeout=seconds + STARTS_S)
            if answer.returncode:
                raise RigFault(f"bench lsl: {answer.stderr.strip()}")
            read = orjson.loads(answer.stdout)
            expected = seconds * 30_000
            found[f"{channels} channels"] = read | {"came_of_expected": read["samples"] / expected}
        found[f"{channels} channels"]["noise_floor_ms"] = floor.percentiles_ms()
    return found


def scale(seconds: float = 60.0, run: Run = RUN) -> dict[str, Any]:
    """Milliseconds from newest sample to frame with more channels, encoder `live`, hop 10 ms.

    Raises:
        ImportError: torch is not installed.
        OperatorFault: this machine cannot run it so.
    """
    return {"unit": "ms", "run": " ".join(run)} | {
        f"{channels} channels, {looks_at} looked at": _watched(run, seconds, 0.01, "live", channels, looks_at).told
        for channels, looks_at in PATHS
    }


def hop_1ms(seconds: float = 60.0, run: Run = RUN) -> dict[str, Any]:
    """The same with a window every millisecond, 96 channels, the smallest preset. Raises as `scale`.

    A push of the sender is one window. It came on time where it was no more than half a hop later than the earliest of
    all would have it: a sender that was not given the processor is no fault of the decoder's.
    """
    with tempfile.TemporaryDirectory() as folder:
        pushes = Path(folder) / "pushes"
        np.zeros(round((seconds + STARTS_S) * 1000)).tofile(pushes)
        told, _, last_samples = _watched(run, seconds, HOP_S, "pico", 96, 96, pushes)
        stamps = np.array(np.memmap(pushes, np.float64, "r"))
    decoded = (last_samples + 1) // CHUNK - 1
    on_time, share = of_those_on_time(stamps[decoded[0] : decoded[-1] + 1], decoded - decoded[0])
    return (
        {"unit": "ms", "run": " ".join(run), "preset": "pico"}
        | told
        | {"windows_on_time": on_time, "share_of_those_on_time": share}
    )


def of_those_on_time(stamps: NDArray[np.float64], decoded: NDArray[np.int64]) -> tuple[int, float]:
    """How many pushes came on time, and which share of them was decoded. `stamps`: the clock at each push, one a hop;
    `decoded`: places in them."""
    late = stamps - HOP_S * np.arange(len(stamps))
    on_time = late - late.min() <= HOP_S / 2
    was = np.zeros(len(stamps), bool)
    was[decoded] = True
    return int(on_time.sum()), float(was[on_time].mean())


def _watched(
    run: Run, seconds: float, hop_s: float, preset: str, channels: int, looks_at: int, pushes: Path | None = None
) -> Watched:
    from training.random_bundle import write_random

    provider, precision = run

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        some = looks_at if looks_at < channels else None
        path, _ = write_random(folder / "bundles", preset, tuple({"float32": 0, precision: 0}), channels, some)
        open_bundle(path, provider, precision)  # what this machine cannot run is said here
        config = folder / "bench.toml"
        config.write_text(
            f"model = '{preset}'\nbundles = '{folder / 'bundles'}'\nhop_s = {hop_s}\n"
            f"provider = '{provider}'\nprecision = '{precision}'\n"
        )
        name, port = f"PhospheneBench-{os.getpid()}-{channels}", free_port()
        produce(stack, name, channels, pushes)
        process = serve_process(stack, name, port, "--config", str(config))
        wait_for(lambda: status(port).get("state") == "running", STARTS_S)
        return watch(port, process.pid, seconds, 1)
