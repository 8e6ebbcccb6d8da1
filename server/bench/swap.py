"""What a swap of the bundle costs the decode path, and one in shadow: windows missed, beside those around a control.

The control opens the same bundle in a process of its own: as busy, and nothing to do with the service. In turns with
the swaps, so that the machine's moods strike both.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import OperatorFault
from server.bench.measure import NoiseFloor, memory_mib, percentiles
from server.bench.path import produce, serve_process
from server.running import ask, free_port, status, wait_for

ROUNDS = 50
WATCHED_S = 1.0  # around each
OPEN = "from server.bundles import Bundles; from server.settings import PACKAGED; Bundles(PACKAGED).open('default')"


def swap(rounds: int = ROUNDS) -> dict[str, Any]:
    """Windows skipped in `rounds` swaps, as many controls and as many seconds beside a shadow; milliseconds of sample →
    prediction around each; MiB."""
    with ExitStack() as stack:
        name, port = f"PhospheneBench-{os.getpid()}", free_port()
        config = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "swap.toml"
        config.write_text("hold_s = 5.0\n")  # ten minutes of held predictions would grow for ten minutes
        produce(stack, name)
        process = serve_process(stack, name, port, "--config", str(config))
        wait_for(lambda: status(port).get("state") == "running", 60.0)
        for _ in range(3):  # what the first swaps load stays
            _swapped(port)
        time.sleep(10.0)
        skipped: dict[str, list[int]] = {"swap": [], "control": [], "shadow": []}
        total_ms: dict[str, list[float]] = {"swap": [], "control": [], "shadow": []}
        before = memory_mib(process.pid)
        with NoiseFloor() as floor:
            for _ in range(rounds):
                for kind, what in (("swap", _swapped), ("control", _as_busy)):
                    at = status(port)
                    began = time.monotonic()
                    what(port)
                    time.sleep(max(0.0, WATCHED_S - (time.monotonic() - began)))
                    now = status(port)
                    skipped[kind].append(now["skipped_windows"] - at["skipped_windows"])
                    total_ms[kind] += _latencies(port, at["next_seq"])
            after = memory_mib(process.pid)
            for _ in range(rounds):
                ask(port, "POST", "/v1/models/default/activate", {"shadow_s": 60})
                at = status(port)
                time.sleep(WATCHED_S)
                skipped["shadow"].append(status(port)["skipped_windows"] - at["skipped_windows"])
                total_ms["shadow"] += _latencies(port, at["next_seq"])
                with suppress(OperatorFault):  # it has dropped out by itself
                    ask(port, "POST", "/v1/models/drop", {})
    return {
        "unit": "ms",
        "rounds": rounds,
        "windows_missed": {kind: sum(counts) for kind, counts in skipped.items()},
        "rounds_with_a_miss": {kind: sum(count > 0 for count in counts) for kind, counts in skipped.items()},
        "sample_to_prediction": {kind: percentiles(np.array(values)) for kind, values in total_ms.items()},
        "memory_mib": {"before": before, "after": after, "grown": after - before},
        "noise_floor_ms": floor.percentiles_ms(),
    }


def _swapped(port: int) -> None:
    ask(port, "POST", "/v1/models/default/activate", {})


def _as_busy(_: int) -> None:
    subprocess.run([sys.executable, "-c", OPEN], check=True)


def _latencies(port: int, since: int) -> list[float]:
    held = ask(port, "GET", f"/v1/predictions?since_seq={since - 1}&limit=1000&fields=probability")["predictions"]
    return [one["latency_ms"]["total"] for one in held]
