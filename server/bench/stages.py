"""The stages by themselves: signal chain and robust normaliser against the plain versions, and the bundle."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from models.bundle import find_bundle, read_manifest
from models.decoder import Decoder
from models.onnx_decoder import open_bundle
from models.providers import RUNS
from server.bench.measure import NoiseFloor, interleaved, percentiles
from streaming.participant.broadband import Broadband
from streaming.participant.participant import Participant
from streaming.signal.chain import SignalChain
from streaming.signal.robust import RobustWindow
from streaming.signal.settings import ChainSettings

RATE = 30_000
CHUNK = 30
N_CHUNKS, IN_CACHE = 8, 2**20  # few, because a chunk that LSL just wrote is in the cache (bytes)
SETTLED = 12_000  # bins, until the normaliser's window is full


class PlainChain:
    """The chain as one would write it with NumPy and SciPy: float64, state carried from chunk to chunk, rolling z."""

    def __init__(self, settings: ChainSettings, channels: int) -> None:
        self._clip = settings.clip_uv
        self._band = signal.butter(settings.band_order, settings.band_hz, "bandpass", fs=RATE, output="sos")
        self._low = signal.butter(settings.lowpass_order, settings.lowpass_hz, "lowpass", fs=RATE, output="sos")
        self._band_state = np.zeros((len(self._band), 2, channels))
        self._low_state = np.zeros((len(self._low), 2, channels))
        self._ring = np.zeros((round(settings.normaliser.window_s * 1000), channels))
        self._sum = np.zeros(channels)
        self._squares = np.zeros(channels)
        self._bins = 0

    def push(self, samples_uv: NDArray[np.float32]) -> NDArray[np.float64]:
        """z (bins, channels) of whole bins."""
        x = samples_uv.astype(np.float64)
        x -= x.mean(axis=1, keepdims=True)
        np.clip(x, -self._clip, self._clip, out=x)
        x, self._band_state = signal.sosfilt(self._band, x, axis=0, zi=self._band_state)
        x, self._low_state = signal.sosfilt(self._low, np.abs(x), axis=0, zi=self._low_state)
        return np.array([self._normalised(envelope) for envelope in x.reshape(-1, CHUNK, x.shape[1]).mean(axis=1)])

    def _normalised(self, envelope: NDArray[np.float64]) -> NDArray[np.float64]:
        slot = self._bins % len(self._ring)
        self._sum += envelope - self._ring[slot]
        self._squares += envelope**2 - self._ring[slot] ** 2
        self._ring[slot] = envelope
        self._bins += 1
        n = min(self._bins, len(self._ring))
        mean = self._sum / n
        deviation = np.sqrt(np.maximum(self._squares / n - mean**2, 0.0))
        return np.asarray((envelope - mean) / np.maximum(deviation, 0.05))


Push = Callable[[NDArray[np.float32]], object]


def chain(channels: int, repeats: int = 4000, bins: int = 1, peers: Mapping[str, Push] | None = None) -> dict[str, Any]:
    """Microseconds for each chunk of so many milliseconds, all versions in turns in one run; how many times as long
    each other one takes. `peers`: of other makers, beside the plain one."""
    rng = np.random.default_rng(0)
    shape = (CHUNK * bins, channels)
    n_chunks = max(1, min(N_CHUNKS, IN_CACHE // (4 * math.prod(shape))))
    chunks = [(20 * rng.standard_normal(shape)).astype(np.float32) for _ in range(n_chunks)]
    live, plain = SignalChain(ChainSettings(), RATE, channels), PlainChain(ChainSettings(), channels)
    # as the plain one: nothing kept for late markers
    offline = SignalChain(ChainSettings(rewind_s=0.0), RATE, channels)
    calls: dict[str, Push] = {
        "live, a second kept": lambda x: live.push(x, live.next_sample),
        "phosphene": lambda x: offline.push(x, offline.next_sample),
        "numpy+scipy": plain.push,
        **(peers or {}),
    }
    for name, call in calls.items():
        for i in range(SETTLED // bins if name in list(calls)[:2] else 100):
            call(chunks[i % n_chunks])
    with NoiseFloor() as floor:
        turns: dict[str, Callable[[int], object]] = {name: partial(_on, call, chunks) for name, call in calls.items()}
        taken = interleaved(turns, repeats)
    found: dict[str, Any] = {name: percentiles(values) for name, values in taken.items()}
    ours = found["phosphene"]["p50"]
    found["times_as_long"] = {name: found[name]["p50"] / ours for name in calls if name != "phosphene"}
    found["us_per_ms"] = ours / bins
    found["real_time_factor"] = 1000 * bins / ours
    found["unit"] = f"µs per {bins} ms chunk"
    found["noise_floor_ms"] = floor.percentiles_ms()
    return found


def _on(call: Push, chunks: list[NDArray[np.float32]], i: int) -> object:
    return call(chunks[i % len(chunks)])


def robust(channels: int = 96, repeats: int = 400) -> dict[str, Any]:
    """Microseconds for each bin with a full 10-s window: exact rolling median and MAD against `np.median` twice."""
    rng = np.random.default_rng(0)
    window = 10_000
    rings = np.zeros((window + 4000, 3, channels), np.float32)
    rings[:, 0] = rng.gamma(8, 1.5, (len(rings), channels))
    ours = RobustWindow(window, 1000, 0.05, channels, 0)
    for at in range(window):
        rings[at, 2] = 1
        ours.advance(rings, at + 1)
    now = deque([window])

    def step(_: int) -> None:
        at = now[0]
        rings[at % len(rings), 2] = 1
        ours.advance(rings, at + 1)
        now[0] = at + 1

    past = np.zeros((channels, window))  # channels first: where np.median is fastest

    def plain(_: int) -> NDArray[np.float64]:
        centre = np.median(past, axis=1)
        deviation = np.median(np.abs(past - centre[:, None]), axis=1)
        return np.asarray((past[:, -1] - centre) / np.maximum(1.4826 * deviation, 0.05))

    step(0)
    past[:] = rings[1 : window + 1, 0].T
    taken = interleaved({"phosphene": step, "np.median": plain}, repeats)
    found: dict[str, Any] = {name: percentiles(values) for name, values in taken.items()}
    past[:] = rings[np.arange(now[0] - window, now[0]) % len(rings), 0].T
    error = np.abs(rings[(now[0] - 1) % len(rings), 1] - plain(0).astype(np.float32)).max()
    return found | {
        "ratio_of_medians": found["np.median"]["p50"] / found["phosphene"]["p50"],
        "largest_error": float(error),
        "unit": "µs per bin",
    }


def bundle(repository: Path, name: str = "default", repeats: int = 2000) -> dict[str, Any]:
    """Milliseconds for each window, one thread, each precision that the bundle holds."""
    path = find_bundle(repository, name)
    found: dict[str, Any] = {"unit": "ms per window, one thread"}
    offered = read_manifest(path).precisions
    for precision in (one for one in RUNS["cpu"] if one in offered):
        with NoiseFloor() as floor:
            found[precision] = _steps(open_bundle(path, precision=precision), repeats)
        found["noise_floor_ms"] = floor.percentiles_ms()
    return found


def participant(repeats: int = 100) -> dict[str, Any]:
    """Milliseconds for each 0.1 s of the simulated participant's broadband, 96 channels, one thread."""
    reader = Broadband(Participant())
    reader.read_counts(CHUNK * 100)
    with NoiseFloor() as floor:
        taken = interleaved({"broadband": lambda _: reader.read_counts(CHUNK * 100)}, repeats)
    found: dict[str, Any] = {"broadband": percentiles(np.array(taken["broadband"]) / 1e3)}
    found["real_time_factor"] = 100 * repeats / (sum(taken["broadband"]) / 1e3)
    return found | {"unit": "ms per 0.1 s", "noise_floor_ms": floor.percentiles_ms()}


def _steps(decoder: Decoder, repeats: int) -> dict[str, float]:
    window = np.random.default_rng(0).standard_normal((decoder.n_channels, decoder.n_bins)).astype(np.float32)
    usable = np.ones(decoder.n_channels, bool)
    for _ in range(50):
        decoder.step(window, usable)
    taken = interleaved({"step": lambda _: decoder.step(window, usable)}, repeats)
    return percentiles(np.array(taken["step"]) / 1e3)
