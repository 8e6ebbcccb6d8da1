"""How long a step of pretraining takes here: of noise, which costs what recordings cost.

The share of the machine that a step uses is its matrix products a second (`models.networks.flops`) against those of one
large product in the same precision, measured in the same run: what a table of the maker says, nobody reaches.
"""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from models.networks.flops import step_flops
from models.networks.masked_autoencoder import PRESETS
from training.batches import Batch, assemble
from training.learner import Learner
from training.optimizing import learning_rate
from training.processes import launch
from training.settings import SETTINGS

MILLION = 1_000_000


class Noise:
    """A session of noise; as many windows as are asked for."""

    class header:
        name = "noise"

    def __init__(self, channels: int) -> None:
        self._channels = channels

    def windows(self, first_bins: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(int(first_bins[0]))
        return rng.standard_normal((1, self._channels, length), np.float32), np.ones((1, self._channels), bool)


def noise_batch(preset: str, windows: int) -> Batch:
    """A batch as training draws it, of two sessions."""
    network, sessions = PRESETS[preset], [Noise(PRESETS[preset].channels) for _ in range(2)]
    rngs = (np.random.default_rng(k) for k in range(2))
    return assemble(sessions, [(k % 2, k) for k in range(windows)], network, SETTINGS[preset], *rngs)  # type: ignore[arg-type]


def presets_here() -> tuple[str, ...]:
    """Those whose steps take no minutes on this machine."""
    return ("tiny", "paper") if torch.cuda.is_available() else ("tiny",)


def step_time(preset: str, seconds: float, micro_batch: int = 0, accelerator: str = "auto") -> dict[str, Any]:
    """Steps of the preset's own batch for `seconds`, at least one, behind one that warms up."""
    settings = replace(SETTINGS[preset], micro_batch=micro_batch)
    learner = Learner(launch(settings, accelerator), PRESETS[preset], settings)
    device = learner.fabric.device
    batch = noise_batch(preset, settings.batch)
    learner.learn(batch, 0, learning_rate(0, settings))
    taken: list[float] = []
    while not taken or sum(taken) < seconds:
        began = time.perf_counter()
        learner.learn(batch, 1 + len(taken), learning_rate(1, settings))  # reads its losses, and so waits for a GPU
        taken.append(time.perf_counter() - began)
    work = settings.batch * step_flops(PRESETS[preset], settings.mask_ratio)
    median, most = float(np.median(taken)), _matrix_flops(device)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": settings.precision,
        "steps": len(taken),
        "seconds_a_step": median,
        "windows_a_second": settings.batch / median,
        "tflop_a_second": work / median / 1e12,
        "share_of_one_large_product": work / median / most,
        "memory_gb": _memory_gb(device),
        "days_for_a_million_steps": MILLION * median / 86_400,
    }


def _matrix_flops(device: torch.device, turns: int = 10) -> float:
    """Operations a second of a large bfloat16 product, the best of some turns."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = np.inf
    for _ in range(turns):
        began = time.perf_counter()
        float((a @ b)[0, 0])
        best = min(best, time.perf_counter() - began)
    return float(2 * size**3 / best)


def _memory_gb(device: torch.device) -> float:
    """Peak, of the GPU or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
