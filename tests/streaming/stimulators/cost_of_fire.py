"""How long `fire` holds the decode thread, driver by driver: python -m tests.streaming.stimulators.cost_of_fire

Each pulse comes 2 ms after the last, so that threads and far end have done with it; the drivers' clock is moved by
hand, so that none is busy. The interpreter switches every 0.2 ms, as in the service. The floor is a byte written to
/dev/null in the same rhythm. What goes on behind the port (USB, network, the box) is not in these numbers.
"""

from __future__ import annotations

import tests.streaming.sources.conftest  # noqa: F401, LSL stays on this machine

# isort: split
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pylsl

from streaming.stimulators.lsl import LslSettings, LslStimulator
from streaming.stimulators.simulated import SimulatedStimulator
from tests.streaming.stimulators.benches import (
    Bench,
    Clock,
    LineBench,
    LslBench,
    PtyBench,
    SimulatedBench,
    UdpBench,
    limits,
    marker,
    until,
)

PULSES = 3000
LIMITS = limits()


class RealLslBench(LslBench):
    """With an outlet on the network and somebody who listens."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.stimulator = LslStimulator(LslSettings(name="CostOfFire"), clock=self.clock)
        (found,) = pylsl.resolve_byprop("name", "CostOfFire", timeout=10)
        self.inlet = pylsl.StreamInlet(found)
        self.inlet.open_stream(10)
        until(self.stimulator._outlet.has_consumers)

    def left(self) -> list[object]:
        return list(self.inlet.pull_chunk()[0])


class LoggingBench(SimulatedBench):
    """With its log on disk."""

    def __init__(self) -> None:
        super().__init__()
        path = Path(tempfile.mkdtemp()) / "device.jsonl"
        self.stimulator = SimulatedStimulator(log_path=path, clock=self.clock)


def measured(bench: Bench) -> tuple[list[int], list[int]]:
    """Nanoseconds of each `fire` and of each `status`."""
    fires, looks = [], []
    bench.stimulator.arm(LIMITS)
    for number in range(PULSES):
        trigger_id = f"{number:08x}"
        text = marker(trigger_id, LIMITS)
        start = time.perf_counter_ns()
        bench.stimulator.fire(LIMITS.patterns[0], trigger_id, text)
        fired = time.perf_counter_ns()
        time.sleep(0.002)
        before = time.perf_counter_ns()
        bench.stimulator.status()
        looks.append(time.perf_counter_ns() - before)
        fires.append(fired - start)
        bench.left()
        bench.answer(trigger_id)
        while bench.stimulator.status().state == "busy" and bench.stimulator._shots._waiting:
            time.sleep(0.0001)
        bench.pass_time(1.0)
    return fires, looks


def floor() -> list[int]:
    """Nanoseconds of what any command costs at least, here and now."""
    nothing, found = os.open(os.devnull, os.O_WRONLY), []
    for _ in range(PULSES):
        time.sleep(0.002)
        start = time.perf_counter_ns()
        os.write(nothing, b"A")
        found.append(time.perf_counter_ns() - start)
    os.close(nothing)
    return found


def row(name: str, nanoseconds: list[int]) -> str:
    p50, p99, most = np.percentile(nanoseconds, [50, 99, 100]) / 1000
    return f"| {name} | {p50:.1f} | {p99:.1f} | {most:.0f} |"


def main() -> None:
    sys.setswitchinterval(0.0002)
    gc.collect()
    gc.freeze()
    kinds: dict[str, Callable[[], Bench]] = {
        "lsl": RealLslBench,
        "serial, a byte to a pseudo-terminal": PtyBench,
        "serial, line of a fake port": LineBench,
        "udp, loopback": UdpBench,
        "simulated": SimulatedBench,
        "simulated, log on disk": LoggingBench,
    }
    print("| µs | p50 | p99 | max |\n|---|---|---|---|")
    print(row("floor", floor()))
    for name, make in kinds.items():
        bench = make()
        fires, looks = measured(bench)
        print(row(f"fire: {name}", fires))
        print(row(f"status: {name}", looks), flush=True)
        bench.close()
    start = time.perf_counter_ns()
    for number in range(PULSES):
        marker(str(number), LIMITS)
    print(f"| a marker built, mean | {(time.perf_counter_ns() - start) / PULSES / 1000:.1f} | | |")


if __name__ == "__main__":
    main()
