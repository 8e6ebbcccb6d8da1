"""An inference that hangs: how soon it is noticed, and how soon a service that a supervisor starts again predicts.

`python -m server.bench.hang FILE …` is `phosphene serve …` with a bundle whose inference stands still once FILE exists.
It takes the file away first: the service that is started in its place is sound.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

import server.wiring
from models.onnx_decoder import OnnxDecoder
from server.bench.measure import NoiseFloor, percentiles
from server.bench.path import produce
from server.bundles import Bundles
from server.cli import quieten_lsl, run
from server.running import free_port, status, wait_for

ROUNDS = 10
AGAIN_S = 0.1  # a supervisor's pause before it starts a program again
LOOK_S = 0.002


class Hanging(Bundles):
    """Opens bundles whose inference hangs for ever once `file` exists."""

    file = Path()

    def open(self, name: str) -> OnnxDecoder:
        decoder = super().open(name)
        sound = decoder.step

        def step(window: Any, usable: Any) -> Any:
            if self.file.exists():
                self.file.unlink()
                threading.Event().wait()
            return sound(window, usable)

        decoder.step = step  # type: ignore[method-assign]
        return decoder


def hang() -> dict[str, Any]:
    """Seconds from the last prediction to `/readyz`'s no, to the end of the process, and to the next prediction."""
    noticed, ended, again = [], [], []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        cue, name, port = Path(folder) / "hang", f"PhospheneBench-{os.getpid()}", free_port()
        produce(stack, name)
        with NoiseFloor() as floor:
            process = _start(cue, name, port)
            for _ in range(ROUNDS):
                wait_for(lambda: status(port).get("state") == "running", 60.0)
                time.sleep(0.5)
                cue.touch()
                wait_for(lambda: not cue.exists(), 5.0)
                began = time.perf_counter()
                wait_for(lambda: not status(port).get("ready", True), 5.0, LOOK_S)
                noticed.append(time.perf_counter() - began)
                process.wait(10.0)
                ended.append(time.perf_counter() - began)
                time.sleep(AGAIN_S)
                process = _start(cue, name, port)
                wait_for(lambda: (status(port).get("predictions") or 0) > 0, 60.0)
                again.append(time.perf_counter() - began)
            process.send_signal(signal.SIGTERM)
            process.wait(10.0)
    return {
        "unit": "s",
        "rounds": ROUNDS,
        "noticed": percentiles(np.array(noticed)),
        "ended": percentiles(np.array(ended)),
        "predicts_again": percentiles(np.array(again)),
        "noise_floor_ms": floor.percentiles_ms(),
    }


def _start(cue: Path, name: str, port: int) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "server.bench.hang", str(cue), "serve"]
    return subprocess.Popen(
        [*arguments, "--source", f"lsl:name='{name}'", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=None
    )


if __name__ == "__main__":
    Hanging.file = Path(sys.argv[1])
    with suppress(FileNotFoundError):
        Hanging.file.unlink()
    vars(server.wiring)["Bundles"] = Hanging
    quieten_lsl()
    sys.exit(run(sys.argv[2:]))
