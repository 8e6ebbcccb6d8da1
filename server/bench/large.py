"""The paper's encoder, 246 million parameters and all 768 tokens, as one bundle: written, checked, opened and run.

Its weights are random, which takes as long as any. Not among the rows that run unasked: it takes 6 GB and minutes.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import ProviderName
from models.onnx_decoder import open_bundle
from models.runtime import ort
from server.bench.measure import NoiseFloor, memory_mib, percentiles

SECONDS = 30.0


def large(preset: str = "paper", seconds: float = SECONDS) -> dict[str, Any]:
    """Seconds to check and open the bundle; milliseconds of a window, on the best provider that is here.

    Raises:
        ImportError: torch is not installed.
    """
    from training.random_bundle import write_random

    provider: ProviderName = "cuda" if "CUDAExecutionProvider" in ort.get_available_providers() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        path, parameters = write_random(Path(folder), preset)
        gc.collect()
        before, began = memory_mib(os.getpid()), time.perf_counter()
        decoder = open_bundle(path, provider, "float32")
        opened_s = time.perf_counter() - began
        files_mib = sum(file.stat().st_size for file in path.iterdir()) / 2**20
        window = np.random.default_rng(1).standard_normal((decoder.n_channels, decoder.n_bins)).astype(np.float32)
        usable, taken = np.ones(decoder.n_channels, bool), []
        decoder.step(window, usable)
        until = time.perf_counter() + seconds
        with NoiseFloor() as floor:
            while time.perf_counter() < until:
                start = time.perf_counter()
                decoder.step(window, usable)
                taken.append((time.perf_counter() - start) * 1e3)
        return {
            "unit": "ms per window",
            "preset": preset,
            "provider": decoder.provider,
            "parameters_millions": parameters / 1e6,
            "files_mib": files_mib,
            "checked_and_opened_s": opened_s,
            "memory_mib": memory_mib(os.getpid()) - before,
            "step": percentiles(taken),
            "noise_floor_ms": floor.percentiles_ms(),
        }
