"""`phosphene mua` on an uncompressed 96-channel NWB file: speed, memory against length. Windows drawn for training."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from server.bench.measure import NoiseFloor, interleaved, percentiles

# Peak memory is VmHWM: `ru_maxrss` counts the parent's peak too, from the moment between its fork and our exec.
_RUN = """
import json, os, re, sys, time
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
from pathlib import Path
from training.mua import mua
from streaming.signal.chain import SignalChain
from streaming.signal.settings import ChainSettings
import numpy, training.mua
warm = SignalChain(ChainSettings(), 30000, 96)
warm.push(numpy.zeros((60, 96), numpy.float32), 0)
started = time.perf_counter()
mua(Path(sys.argv[1]), Path(sys.argv[2]))
taken = time.perf_counter() - started
status = Path("/proc/self/status")
peak_kb = int(re.search("VmHWM:\\s+([0-9]+)", status.read_text())[1]) if status.exists() else None
print(json.dumps({"seconds": taken, "memory_mb": peak_kb and peak_kb / 1e3}))
"""


def mua(lengths_s: tuple[float, float] = (60.0, 240.0)) -> dict[str, Any]:
    """Times real time on one core, kernels compiled, and peak memory for two lengths of recording (null off Linux)."""
    from streaming.participant.settings import ParticipantSettings
    from training.simulate import write_dataset

    found: dict[str, Any] = {"unit": "× real time, one core", "runs": []}
    with tempfile.TemporaryDirectory() as folder:
        for length in lengths_s:
            there = Path(folder) / f"{length:g}"
            (recording,) = write_dataset(there, "rest", ParticipantSettings(), sessions=1, minutes=length / 60)
            done = subprocess.run(
                [sys.executable, "-c", _RUN, str(recording), str(there / "mua.nwb")],
                capture_output=True,
                text=True,
                check=True,
                env=_one_core(),
            )
            run = json.loads(done.stdout.strip().splitlines()[-1])
            found["runs"].append(
                {
                    "recording_s": length,
                    "real_time_factor": length / run["seconds"],
                    "peak_memory_mb": run["memory_mb"],
                }
            )
    return found


def loader(repeats: int = 100) -> dict[str, Any]:
    """Windows a second that training draws from memory-mapped sessions on one core, beside those that a step of the
    preset `tiny` uses up on all."""
    from training.loading import contestants

    with contestants() as turns:
        step = {name: call for name, (_, call) in turns.items() if name.startswith("tiny")}
        drawing = {name: call for name, (_, call) in turns.items() if name not in step}
        with NoiseFloor() as floor:
            taken = interleaved(drawing, repeats) | interleaved(step, 10, rounds=10)
    found: dict[str, Any] = {
        name: percentiles(turns[name][0] * 1e6 / np.array(times_us)) for name, times_us in taken.items()
    }
    drawn, used = found["phosphene"]["p50"], found[next(iter(step))]["p50"]
    return found | {
        "times_the_consumption_of_tiny": drawn / used,
        "ratio_of_medians": drawn / found["torch DataLoader"]["p50"],
        "unit": "windows a second",
        "noise_floor_ms": floor.percentiles_ms(),
    }


def training(seconds: float) -> dict[str, Any]:
    """A step of pretraining: of the preset `tiny`, and where there is a GPU of `paper`, the size of the publication."""
    from training.step_time import presets_here, step_time

    presets = presets_here()
    return {preset: step_time(preset, seconds / len(presets)) for preset in presets}


def _one_core() -> dict[str, str]:
    import os

    return os.environ | {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")}
