"""The paper's encoder, 246 million parameters and all 768 tokens, as one bundle: written, checked, opened and run.

Its weights are random, which takes as long as any. Not among the rows that run unasked: it takes 6 GB and minutes. On a
GPU it is run in each precision by each provider that is here, at once and at a hop, after a pause and kept warm over
it, and the fastest of them holds the hop for minutes; torch runs the same network beside it.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import Fault
from models.manifest import PrecisionName, ProviderName
from models.onnx_decoder import OnnxDecoder, open_bundle
from models.providers import NAMES, RUNS
from models.runtime import ort
from server.bench.measure import NoiseFloor, memory_mib, percentiles

SECONDS = 30.0  # each
HELD_S = 180.0
HOP_S = 0.004
PAUSE_S, KEEP_WARM_S, PAUSES = 0.3, 0.02, 30  # as long as a blank; the default of the setting


def large(preset: str = "paper", seconds: float = SECONDS, held_s: float = HELD_S) -> dict[str, Any]:
    """Seconds to check and open the bundle; milliseconds of a window, on each GPU provider that is here, or the CPU.

    Args:
        seconds: how long each way of running it is timed.
        held_s: how long a GPU holds the hop, with the fastest.

    Raises:
        ImportError: torch is not installed.
    """
    from server.bench.peer_networks import torch_networks
    from training.random_bundle import write_random

    offered = ort.get_available_providers()
    providers: list[ProviderName] = [name for name in NAMES if name != "cpu" and NAMES[name] in offered] or ["cpu"]
    precisions: tuple[PrecisionName, ...] = ("float32",) if providers == ["cpu"] else RUNS["cuda"]
    found: dict[str, Any] = {"unit": "ms per window", "preset": preset, "left_out": []}
    with tempfile.TemporaryDirectory() as folder, NoiseFloor() as floor:
        path, parameters = write_random(Path(folder), preset, precisions)
        gc.collect()
        found["parameters_millions"] = parameters / 1e6
        found["files_mib"] = sum(file.stat().st_size for file in path.iterdir()) / 2**20
        for provider in providers:
            for precision in precisions:
                try:
                    found[f"{provider} {precision}"] = _run(path, provider, precision, seconds)
                except Fault as fault:
                    found["left_out"].append(str(fault))
        if providers != ["cpu"] and len(found["left_out"]) < len(providers) * len(precisions):
            found["held_at_a_hop_of_4_ms"] = _held(path, found, providers, precisions, held_s)
        found |= torch_networks(preset, seconds)
        found["noise_floor_ms"] = floor.percentiles_ms()
    return found


def _run(path: Path, provider: ProviderName, precision: PrecisionName, seconds: float) -> dict[str, Any]:
    before, began = memory_mib(os.getpid()), time.perf_counter()
    decoder, window, usable = _opened(path, provider, precision)
    found: dict[str, Any] = {"checked_and_opened_s": time.perf_counter() - began}
    decoder.warm_up()
    decoder.step(window, usable)
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        taken.append(_step_ms(decoder, window, usable))
    found |= {"memory_mib": memory_mib(os.getpid()) - before, "step": percentiles(taken)}
    if provider != "cpu":
        found["at_a_hop_of_4_ms"] = _paced(decoder, window, usable, seconds)
        for name, every_s in (("after_a_pause", PAUSE_S), ("after_a_pause_kept_warm", KEEP_WARM_S)):
            found[name] = percentiles([_paused(decoder, window, usable, every_s) for _ in range(PAUSES)])
    return found


def _opened(path: Path, provider: ProviderName, precision: PrecisionName) -> tuple[OnnxDecoder, Any, Any]:
    """A decoder, a window and its usable channels."""
    decoder = open_bundle(path, provider, precision)
    window = np.random.default_rng(1).standard_normal((decoder.n_channels, decoder.n_bins)).astype(np.float32)
    return decoder, window, np.ones(decoder.n_channels, bool)


def _held(
    path: Path,
    found: dict[str, Any],
    providers: Sequence[ProviderName],
    precisions: Sequence[PrecisionName],
    seconds: float,
) -> dict[str, Any]:
    """The hop, by whatever was fastest in `found`."""
    ran = [way for way in product(providers, precisions) if " ".join(way) in found]
    provider, precision = min(ran, key=lambda way: float(found[" ".join(way)]["step"]["p50"]))
    decoder, window, usable = _opened(path, provider, precision)
    decoder.warm_up()
    return {"by": f"{provider} {precision}", "seconds": seconds} | _paced(decoder, window, usable, seconds)


def _step_ms(decoder: OnnxDecoder, window: Any, usable: Any) -> float:
    began = time.perf_counter()
    decoder.step(window, usable)
    return (time.perf_counter() - began) * 1e3


def _paced(decoder: OnnxDecoder, window: Any, usable: Any, seconds: float) -> dict[str, Any]:
    """Each HOP_S a window: from when it was due to its embedding, and the share that was there before the next."""
    late, due = [], time.perf_counter()
    for _ in range(round(seconds / HOP_S)):
        due += HOP_S
        time.sleep(max(0.0, due - time.perf_counter()))
        decoder.step(window, usable)
        late.append((time.perf_counter() - due) * 1e3)
    return percentiles(late) | {"share_in_time": float(np.mean(np.array(late) < HOP_S * 1e3))}


def _paused(decoder: OnnxDecoder, window: Any, usable: Any, every_s: float) -> float:
    """A window after PAUSE_S, in which one is computed for nothing `every_s`."""
    for _ in range(round(PAUSE_S / every_s)):
        time.sleep(every_s)
        took_ms = _step_ms(decoder, window, usable)
    return took_ms
