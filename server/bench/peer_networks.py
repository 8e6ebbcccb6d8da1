"""The encoder in torch, for `phosphene bench large`: eager, compiled, and compiled and replayed as one CUDA graph.

Each step does what ours does: the window goes to the device from page-locked memory, unusable channels are masked, the
embedding comes back. In bfloat16 the weights of the products are stored as such, as in our file; norms stay float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from models.networks.masked_autoencoder import PRESETS, build, pool
from server.bench.measure import percentiles

WARM = 5  # steps that are not counted


def torch_networks(preset: str, seconds: float) -> dict[str, Any]:
    """Milliseconds of a window, by kind and precision, on a GPU where there is one, else eager on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if not torch.cuda.is_available():
            return {"torch eager float32": _timed(_eager(preset, "cpu", torch.float32), preset, "cpu", seconds)}
        found: dict[str, Any] = {"device": torch.cuda.get_device_name()}
        torch.backends.cuda.matmul.allow_tf32 = False  # as ours
        for kind in (torch.float32, torch.bfloat16):
            eager = _eager(preset, "cuda", kind)
            compiled = torch.compile(eager)
            for name, call in {"eager": eager, "compiled": compiled, "graph": _replayed(compiled, preset)}.items():
                found[f"torch {name} {str(kind).removeprefix('torch.')}"] = _timed(call, preset, "cuda", seconds)
        return found
    finally:
        torch.set_num_threads(threads)


Call = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # window, usable -> embedding, on the device


def _eager(preset: str, device: str, kind: torch.dtype) -> Call:
    torch.manual_seed(0)
    encoder = build(PRESETS[preset]).encoder.eval().to(device)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Linear):
            module.to(kind)

    def call(window: torch.Tensor, usable: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(window.device.type, torch.bfloat16, enabled=kind is torch.bfloat16):
            latents, visible = encoder(window, usable)
        pooled: torch.Tensor = pool(latents.float(), visible)
        return pooled

    return call


def _replayed(call: Call, preset: str) -> Call:
    """One graph, captured now; its inputs are copied to where they were at the capture."""
    config = PRESETS[preset]
    window = torch.zeros((1, config.channels, config.bins), device="cuda")
    usable = torch.ones((1, config.channels), dtype=torch.bool, device="cuda")
    aside: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM):
            call(window, usable)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        embedding = call(window, usable)

    def replay(new_window: torch.Tensor, new_usable: torch.Tensor) -> torch.Tensor:
        window.copy_(new_window)
        usable.copy_(new_usable)
        graph.replay()
        return embedding

    return replay


def _timed(call: Call, preset: str, device: str, seconds: float) -> dict[str, float]:
    config, taken = PRESETS[preset], []
    window = torch.from_numpy(np.random.default_rng(1).standard_normal((1, config.channels, config.bins), np.float32))
    usable = torch.ones((1, config.channels), dtype=torch.bool)
    if device == "cuda":
        window, usable = window.pin_memory(), usable.pin_memory()
    for _ in range(WARM):
        call(window.to(device), usable.to(device)).cpu()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        call(window.to(device), usable.to(device)).cpu()
        taken.append((time.perf_counter() - began) * 1e3)
    return percentiles(taken)
