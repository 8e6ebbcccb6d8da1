"""What a crowd of subscribers costs: the service per send, the decode path, and each other where some do not read.

In turns, so that the machine's moods strike all alike: nobody beside the client that measures; `SUBSCRIBERS` that read;
as many, and `SLOW` more that read nothing. A send is timed as what the event loop's thread, the kernel's part included,
takes more than without the crowd.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from server.bench.measure import NoiseFloor, memory_mib, percentiles
from server.bench.path import listen, produce, serve_process
from server.running import free_port, status, wait_for

SUBSCRIBERS = 100
SLOW = 10
ROUNDS = 3
CROWDS = {"alone": (0, 0), "crowd": (SUBSCRIBERS, 0), "with slow ones": (SUBSCRIBERS, SLOW)}


class Crowd(NamedTuple):
    """A process of `server.bench.crowd`, and the ports of those who do not read."""

    process: subprocess.Popen[str]
    slow_ports: list[int]


def fanout(seconds: float = 45.0) -> dict[str, Any]:
    """Microseconds a send; milliseconds of the decode path and of newest sample → frame in each company."""
    total: dict[str, list[float]] = {name: [] for name in CROWDS}
    inference: dict[str, list[float]] = {name: [] for name in CROWDS}
    frame: dict[str, list[float]] = {name: [] for name in CROWDS}
    loop_s: dict[str, list[float]] = {name: [] for name in CROWDS}  # seconds a second
    held: list[int] = []
    missed: list[int] = []
    grown_mib: list[float] = []
    with ExitStack() as stack, NoiseFloor() as floor:
        name, port = f"PhospheneBench-{os.getpid()}", free_port()
        config = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "fanout.toml"
        config.write_text("subscribers = 200\nhold_s = 5.0\n")  # ten minutes of held predictions would grow
        produce(stack, name)
        process = serve_process(stack, name, port, "--config", str(config))
        wait_for(lambda: status(port).get("state") == "running", 60.0)
        part_s = seconds / ROUNDS / len(CROWDS)
        for _ in range(ROUNDS):
            for company, (quick, slow) in CROWDS.items():
                memory = memory_mib(process.pid)
                with crowd(port, quick, slow) as there:
                    before = _loop_ns(process.pid)
                    frames, _ = listen(port, part_s, 1)
                    loop_s[company].append((_loop_ns(process.pid) - before) / 1e9 / part_s)
                    total[company] += [one.stages["total"] for one in frames]
                    inference[company] += [one.stages["inference"] for one in frames]
                    frame[company] += [one.late_ms for one in frames]
                    held += [_waiting_bytes(port, one) for one in there.slow_ports]
                    if slow:
                        grown_mib.append(memory_mib(process.pid) - memory)
                        missed += _told(there)
    hz = len(frame["crowd"]) / seconds * len(CROWDS)
    cost_s = float(np.mean(loop_s["crowd"]) - np.mean(loop_s["alone"]))
    decode_ms = {company: percentiles(ms) for company, ms in total.items()}
    frame_ms = {company: percentiles(ms) for company, ms in frame.items()}
    return {
        "unit": "ms",
        "subscribers": SUBSCRIBERS,
        "frames_a_second": hz,
        "us_per_send": cost_s / SUBSCRIBERS / hz * 1e6,
        "event_loop_share": {company: float(np.mean(shares)) for company, shares in loop_s.items()},
        "sample_to_prediction": decode_ms,
        "inference": {company: percentiles(ms) for company, ms in inference.items()},
        "sample_to_frame": frame_ms,
        "ratio_of_medians": decode_ms["crowd"]["p50"] / decode_ms["alone"]["p50"],
        "p99_more_with_slow_ones": frame_ms["with slow ones"]["p99"] - frame_ms["crowd"]["p99"],
        "slow": {
            "count": SLOW,
            "kernel_kib_each_at_most": max(held, default=0) / 2**10,
            "memory_mib_grown_at_most": max(grown_mib),
            "told_that_they_missed": [min(missed), max(missed)],
        },
        "noise_floor_ms": floor.percentiles_ms(),
    }


@contextmanager
def crowd(port: int, quick: int, slow: int) -> Iterator[Crowd]:
    """So many subscribers, all there, until the end of the block."""
    arguments = [sys.executable, "-m", "server.bench.crowd", str(port), str(quick), str(slow)]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        ready = process.stdout.readline().split()
        yield Crowd(process, [int(one) for one in ready[1:]])
    finally:
        process.kill()
        process.wait()


def _told(there: Crowd) -> list[int]:
    """How many messages each slow one is told that it missed, once it reads."""
    stdin, stdout = there.process.stdin, there.process.stdout
    assert stdin is not None
    assert stdout is not None
    stdin.write("\n")
    stdin.flush()
    return [int(stdout.readline()) for _ in there.slow_ports]


def _loop_ns(pid: int) -> int:
    """Processor time of the event loop's thread, the first of the process (Linux)."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0])


def _waiting_bytes(port: int, client_port: int) -> int:
    """What the kernel holds of the service's for this client (Linux)."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ours, theirs = (int(end.split(":")[1], 16) for end in fields[1:3])
        if (ours, theirs) == (port, client_port):
            return int(fields[4].split(":")[0], 16)
    return 0
