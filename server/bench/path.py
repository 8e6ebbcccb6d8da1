"""The whole path: an LSL sender, the service and a WebSocket client, each a process, and the time between them.

newest sample's stamp (set at the push) → LSL → chain → window → bundle → hand-over → frame at the client. All on one
machine, so LSL's clock is the same for all three.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
from numpy.typing import NDArray
from pylsl import local_clock

from models.bundle import find_bundle, read_manifest
from models.errors import OperatorFault
from server.bench.client import Client
from server.bench.histogram import histogram
from server.bench.measure import NoiseFloor, cpu_s, memory_mib, percentiles
from server.running import child, free_port, status, wait_for
from server.settings import load
from streaming.participant.settings import N_ELECTRODES
from streaming.signal.settings import BIN_RATE_HZ

STAGES = ("signal", "queue", "inference", "total")
LOST = ("lost_samples", "gaps", "backlog_samples", "reconnects")
SCRAPE_S = 5.0
MEMORY_EVERY_S = 60.0
TELL = 100  # frames


def path(seconds: float = 60.0, subscribers: int = 1) -> dict[str, Any]:
    """Milliseconds from the newest sample to the frame at one client, while `subscribers` in all are served; beside
    them what no computer makes shorter, the delay of the signal chain and the window."""
    with ExitStack() as stack:
        name, port = f"PhospheneBench-{os.getpid()}", free_port()
        produce(stack, name)
        process = serve_process(stack, name, port)
        wait_for(lambda: status(port).get("state") == "running", 60.0)
        waits = inherent_ms(status(port))
        found, ms, _ = watch(port, process.pid, seconds, subscribers)
    shown = {each: ms[each] for each in ("sample to frame", "inference", "noise floor")}
    return found | waits | {"svg": histogram(shown, f"{found['windows']} windows in {seconds:g} s")}


def inherent_ms(about: dict[str, Any]) -> dict[str, float]:
    """Of a running service, by its status: how late filters and half a bin make the envelope, and how long it takes
    until a window holds nothing of the time before."""
    manifest = read_manifest(find_bundle(load(None).bundles, about["model"]))
    window_s = manifest.input.bins / BIN_RATE_HZ
    return {"signal_delay_ms": about["signal_delay_s"] * 1e3, "window_ms": window_s * 1e3}


def rest_of_the_path(seconds: float) -> dict[str, float]:
    """Milliseconds from the newest sample to the frame at a client, less the inference of the same window."""
    with ExitStack() as stack:
        name, port = f"PhospheneBench-{os.getpid()}", free_port()
        produce(stack, name)
        process = serve_process(stack, name, port)
        wait_for(lambda: status(port).get("state") == "running", 60.0)
        found: dict[str, float] = watch(port, process.pid, seconds, 1).told["sample_to_frame_less_inference"]
    return found


class Watched(NamedTuple):
    """Of the windows that were decoded. `ms`: of newest sample to frame, of each stage, of the noise floor;
    `last_samples`: the newest sample of each frame, counted from the first of its stream."""

    told: dict[str, Any]
    ms: dict[str, NDArray[np.float64]]
    last_samples: NDArray[np.int64]


def watch(
    port: int, pid: int, seconds: float, subscribers: int, tell: Callable[[float], None] = lambda left_s: None
) -> Watched:
    """A running service of process `pid`, scraped every 5 s. `tell`: seconds left, now and then.

    Raises:
        OperatorFault: not one window was decoded.
    """
    before, cpu, memory = status(port), cpu_s(pid), [(0.0, memory_mib(pid))]

    def tell_and_look(left_s: float) -> None:
        if seconds - left_s >= memory[-1][0] + MEMORY_EVERY_S:
            memory.append((seconds - left_s, memory_mib(pid)))
        tell(left_s)

    with NoiseFloor() as floor, scraped(port):
        heard, dropped = listen(port, seconds, subscribers, tell_and_look)
    after = status(port)
    frames, not_decoded = decoded(heard)
    if not frames:
        said = after.get("problem") or ", ".join(f"{flag} {n}" for flag, n in not_decoded.items()) or "no frame came"
        raise OperatorFault(f"found no window decoded in {seconds:g} s, expected nearly all ({said}); mend that first")
    ms = {"sample to frame": np.array([frame.late_ms for frame in frames])}
    ms |= {name: np.array([frame.stages[name] for frame in frames]) for name in STAGES}
    ms["noise floor"] = np.array(floor.late_ms)
    flags = Counter(flag for frame in heard for flag in frame.flags)
    hop_s = float(np.median(np.diff([frame.sample_time for frame in heard])))
    counted = {name: after["counters"][name] - before["counters"][name] for name in LOST}
    missing, unexplained = missing_windows(heard, hop_s, after["stream"]["rate_hz"])
    told = {
        "unit": "ms",
        "seconds": seconds,
        "subscribers": subscribers,
        "hop_ms": hop_s * 1e3,
        "sample_to_frame": percentiles(ms["sample to frame"]),
        "stages": {name: percentiles(ms[name]) for name in STAGES},
        "sample_to_frame_less_inference": percentiles(ms["sample to frame"] - ms["inference"]),
        "windows": len(frames),
        "share_of_windows": len(frames) / (len(heard) + missing),
        "not_decoded": dict(not_decoded),
        "skipped_windows": after["skipped_windows"] - before["skipped_windows"],
        "unexplained_windows": unexplained,
        "dropped_by_client": dropped,
        "flags": dict(flags),
        "source": counted,
        "cores": (cpu_s(pid) - cpu) / seconds,
        "memory_mib": _memory([*memory, (seconds, memory_mib(pid))]),
        "noise_floor_ms": percentiles(ms["noise floor"]),
    }
    return Watched(told, ms, np.array([frame.last_sample for frame in frames]))


def decoded(heard: list[Heard]) -> tuple[list[Heard], Counter[str]]:
    """The frames whose window went through the network, and how many did not, by the first flag, which says why: these
    cost next to nothing, and would make the others look fast."""
    why_not = Counter(frame.flags[0] for frame in heard if not frame.decoded)
    return [frame for frame in heard if frame.decoded], why_not


def missing_windows(heard: list[Heard], hop_s: float, rate_hz: float) -> tuple[int, int]:
    """How many windows have no frame between the first and the last one, in bins of the stream, over a change of the
    stream by the clock; and how many of these for no reason: the frame behind them has no flag, and the client was told
    of none that it missed."""
    hop_bins = max(1, round(hop_s * BIN_RATE_HZ))
    missing = unexplained = 0
    for before, frame in pairwise(heard):
        if frame.epoch == before.epoch:
            bins = (frame.last_sample - before.last_sample) * BIN_RATE_HZ / rate_hz
        else:
            bins = (frame.sample_time - before.sample_time) * BIN_RATE_HZ
        gone = max(0, round(bins / hop_bins) - 1)
        missing += gone
        unexplained += gone if not frame.flags and frame.missed == before.missed else 0
    return missing, unexplained


def _memory(seen: list[tuple[float, float]]) -> dict[str, Any]:
    """Growth counts from the second look on: by then every client is served and every buffer has been used once."""
    settled = seen[1 if len(seen) > 2 else 0][1]
    before, after = seen[0][1], seen[-1][1]
    return {"before": before, "settled": settled, "after": after, "grown": after - settled, "looks": seen}


@contextmanager
def scraped(port: int) -> Iterator[None]:
    """As Prometheus does it."""
    done = threading.Event()

    def scrape() -> None:
        while not done.wait(SCRAPE_S):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                answer.read()

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


PLACES = {"anywhere": "", "a core of its own": "decode_core = {core}\n"}
PLACES["real-time"] = PLACES["a core of its own"] + "decode_priority = 20\n"
ROUNDS = 3


def placement(seconds: float = 60.0) -> dict[str, Any]:
    """Milliseconds from newest sample to frame with the decode thread placed in each way, in turns."""
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in PLACES}
    left_out: dict[str, str] = {}
    with ExitStack() as stack, NoiseFloor() as floor:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        name = f"PhospheneBench-{os.getpid()}"
        produce(stack, name)
        for _ in range(ROUNDS):
            for place in PLACES.keys() - left_out.keys():
                config = folder / "place.toml"
                config.write_text(PLACES[place].format(core=(os.cpu_count() or 1) - 1))
                with ExitStack() as one:
                    port = free_port()
                    process = serve_process(one, name, port, "--config", str(config))
                    wait_for(partial(_began, process, port), 60.0)
                    if process.poll() is not None:
                        left_out[place] = "refused: this user may not, or the system does not know it"
                        continue
                    found[place].append(watch(port, process.pid, seconds / ROUNDS, 1).ms["sample to frame"])
    frames = {place: np.concatenate(parts) for place, parts in found.items() if parts}
    return {
        "unit": "ms",
        **{place: percentiles(ms) for place, ms in frames.items()},
        "left_out": left_out,
        "noise_floor_ms": floor.percentiles_ms(),
    }


def _began(process: subprocess.Popen[Any], port: int) -> bool:
    return process.poll() is not None or status(port).get("state") == "running"


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


def produce(stack: ExitStack, name: str, channels: int = N_ELECTRODES, pushes: Path | None = None) -> None:
    """The lean rig, on a stream of this name. `pushes`: where it writes the clock at each push."""
    told = (str(pushes),) if pushes else ()
    stack.enter_context(child("-m", "server.bench.producer", name, str(channels), *told, stderr=subprocess.DEVNULL))


def serve_process(
    stack: ExitStack, name: str, port: int, *options: str, env: dict[str, str] | None = None
) -> subprocess.Popen[Any]:
    """`phosphene serve` on the stream of this name; `env`: another environment than ours."""
    source = ("--source", f"lsl:name='{name}'", "--port", str(port))
    arguments = ("-m", "server.cli", "serve", *source, *options)
    return stack.enter_context(child(*arguments, stderr=subprocess.DEVNULL, env=env))


class Heard(NamedTuple):
    """A frame at the first client: milliseconds since its newest sample, those of each stage, and what it says."""

    late_ms: float
    stages: dict[str, float]
    sample_time: float
    last_sample: int
    flags: tuple[str, ...]
    decoded: bool
    epoch: int = 0
    missed: int = 0  # frames of which the client had been told that it missed them


def listen(
    port: int, seconds: float, subscribers: int, tell: Callable[[float], None] = lambda left_s: None
) -> tuple[list[Heard], int]:
    """Each frame at the first client, in order; how many it missed."""
    url = f"ws://127.0.0.1:{port}/v1/predictions?format=msgpack"
    frames: list[Heard] = []
    missed = 0
    with ExitStack() as stack:
        if subscribers > 1:
            _others(stack, url, subscribers - 1)
        client = stack.enter_context(Client(url))
        until = local_clock() + seconds
        while local_clock() < until:
            message = client.receive()
            now = local_clock()
            frame = msgpack.unpackb(message)
            if frame["type"] == "prediction":
                at = frame["sample_time"]
                late_ms, flags, known = (now - at) * 1e3, tuple(frame["flags"]), frame["embedding"] is not None
                stages, last, epoch = frame["latency_ms"], frame["last_sample"], frame["epoch"]
                frames.append(Heard(late_ms, stages, at, last, flags, known, epoch, missed))
                if len(frames) % TELL == 0:
                    tell(until - now)
            elif frame["type"] == "dropped":
                missed += frame["count"]
    return frames, missed


def _others(stack: ExitStack, url: str, count: int) -> None:
    command = [sys.executable, "-m", "server.bench.others", url, str(count)]
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    stack.callback(process.terminate)
    assert process.stdout is not None
    if process.stdout.readline().strip() != "connected":
        raise OperatorFault(f"{url}: the other {count} subscribers could not connect; what stands above says why")
