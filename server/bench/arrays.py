"""Several arrays, as threads of one service and as a service each: what either costs in tails, cores and memory.

Each array is a stream of its own sender and has one client. The two ways take turns, so that the machine's moods strike
both.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from pylsl import local_clock

from server.array_settings import FIRST
from server.bench.client import Client
from server.bench.measure import NoiseFloor, cpu_s, memory_mib, percentiles
from server.bench.path import produce, serve_process
from server.running import ask, free_port, status, wait_for

COUNTS = (1, 2, 4)
ROUNDS = 2
STARTS_S = 90.0

Place = tuple[int, str]  # port, and the path below which the array is found


@dataclass(slots=True)
class Seen:
    """Of one way to serve so many arrays: milliseconds from newest sample to prediction by array, and what it cost."""

    ms: dict[str, list[float]] = field(default_factory=dict)
    skipped: int = 0
    cores: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        return {
            "sample_to_prediction": {name: percentiles(ms) for name, ms in self.ms.items()},
            "all_arrays": percentiles(np.concatenate([np.array(ms) for ms in self.ms.values()])),
            "windows": sum(map(len, self.ms.values())),
            "skipped_windows": self.skipped,
            "cores": float(np.mean(self.cores)),
            "memory_mib": float(np.mean(self.memory_mib)),
        }


def arrays(seconds: float = 20.0) -> dict[str, Any]:
    """For 1, 2 and 4 arrays of 96 channels and a hop of 10 ms, `seconds` of each way."""
    found: dict[str, Any] = {"unit": "ms"}
    sources: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for count in COUNTS:
            while len(sources) < count:
                sources.append(f"PhospheneBench-{os.getpid()}-{len(sources)}")
                produce(stack, sources[-1])
            ways = {"one service": Seen(), "a service each": Seen()}
            with NoiseFloor() as floor:
                for _ in range(ROUNDS):
                    _round(ways["one service"], seconds / ROUNDS, lambda one: _together(one, sources, folder))
                    _round(ways["a service each"], seconds / ROUNDS, lambda one: _apart(one, sources))
            figures: dict[str, Any] = {way: seen.figures() for way, seen in ways.items()}
            found[f"{count} array{'s' * (count > 1)}"] = figures | {"noise_floor_ms": floor.percentiles_ms()}
    return found


def _together(stack: ExitStack, sources: list[str], folder: Path) -> tuple[list[Place], list[int]]:
    config, port = folder / "arrays.toml", free_port()
    tables = (f"[arrays.a{k}]\nsource = \"lsl:name='{source}'\"" for k, source in enumerate(sources[1:], 1))
    config.write_text("\n".join(tables))
    process = serve_process(stack, sources[0], port, "--config", str(config))
    return [(port, ""), *((port, f"/arrays/a{k}") for k in range(1, len(sources)))], [process.pid]


def _apart(stack: ExitStack, sources: list[str]) -> tuple[list[Place], list[int]]:
    ports = [free_port() for _ in sources]
    pids = [serve_process(stack, source, port).pid for source, port in zip(sources, ports, strict=True)]
    return [(port, "") for port in ports], pids


def _round(seen: Seen, seconds: float, start: Callable[[ExitStack], tuple[list[Place], list[int]]]) -> None:
    with ExitStack() as stack:
        places, pids = start(stack)
        wait_for(lambda: all(status(port).get("state") == "running" for port, _ in places), STARTS_S)
        wait_for(lambda: all(_status(place)["state"] == "running" for place in places), STARTS_S)
        skipped, cpu = [_status(place)["skipped_windows"] for place in places], sum(map(cpu_s, pids))
        with ThreadPoolExecutor(len(places)) as clients:
            heard = list(clients.map(lambda place: _listen(place, seconds), places))
        seen.cores.append((sum(map(cpu_s, pids)) - cpu) / seconds)
        seen.memory_mib.append(sum(map(memory_mib, pids)))
        seen.skipped += sum(_status(place)["skipped_windows"] for place in places) - sum(skipped)
    for k, ms in enumerate(heard):
        seen.ms.setdefault(f"a{k}" if k else FIRST, []).extend(ms)


def _status(place: Place) -> dict[str, Any]:
    port, path = place
    return ask(port, "GET", f"{path}/v1/status")


def _listen(place: Place, seconds: float) -> list[float]:
    """Of each prediction, as the service itself timed it: how busy its client is does not count."""
    port, path = place
    found: list[float] = []
    until = local_clock() + seconds
    with Client(f"ws://127.0.0.1:{port}{path}/v1/predictions?format=msgpack&fields=probability") as client:
        while local_clock() < until:
            frame = msgpack.unpackb(client.receive())
            if frame["type"] == "prediction":
                found.append(frame["latency_ms"]["total"])
    return found
