"""Percentiles, the machine, and its noise floor: what every figure of `phosphene bench` stands beside."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("numpy", "scipy", "numba", "onnxruntime", "pylsl", "uvicorn")


def percentiles(values: Sequence[float] | np.ndarray[Any, Any]) -> dict[str, float]:
    """p50, p99, p99.9 and max of values, in their unit."""
    p50, p99, p999 = np.percentile(values, (50, 99, 99.9))
    return {"p50": float(p50), "p99": float(p99), "p99.9": float(p999), "max": float(np.max(values))}


def interleaved(calls: dict[str, Callable[[int], object]], repeats: int, rounds: int = 20) -> dict[str, list[float]]:
    """Microseconds of each call, `repeats` in all, in turns so that the machine's moods strike all alike."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name, call in calls.items():
            for i in range(repeats // rounds):
                start = time.perf_counter_ns()
                call(turn * (repeats // rounds) + i)
                taken[name].append((time.perf_counter_ns() - start) / 1e3)
    return taken


class NoiseFloor:
    """A thread that only sleeps and wakes, every `period_s`: how late the machine itself is, in `late_ms`."""

    def __init__(self, period_s: float = 0.01) -> None:
        self._period_s = period_s
        self.late_ms: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="noise-floor", daemon=True)

    def _run(self) -> None:
        due = time.perf_counter()
        while not self._stop.is_set():
            due += self._period_s
            time.sleep(max(0.0, due - time.perf_counter()))
            self.late_ms.append((time.perf_counter() - due) * 1e3)

    def __enter__(self) -> NoiseFloor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def percentiles_ms(self) -> dict[str, float]:
        return percentiles(self.late_ms)


def memory_mib(pid: int) -> float:
    """Resident memory of a process; NaN where the system does not tell it this way."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_s(pid: int) -> float:
    """Processor seconds of a process so far, all of its threads; NaN where the system does not tell it this way."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system and versions, and the date."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, AttributeError, OSError):
        return None


def _version(name: str) -> str:
    for candidate in (name, f"{name}-gpu"):
        try:
            return version(candidate)
        except ModuleNotFoundError:
            continue
    return "not installed"
