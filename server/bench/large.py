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

from models.bundle import (
    ArrayIdentity,
    Calibration,
    Golden,
    InputSpec,
    Manifest,
    Precision,
    Probe,
    ProviderName,
    array_sha256,
    chain_sha256,
    write_bundle,
)
from models.onnx_decoder import open_bundle
from models.runtime import ort
from server.bench.measure import NoiseFloor, memory_mib, percentiles
from streaming.signal.settings import ChainSettings

SECONDS = 30.0
TOLERANCE = 1e-2  # of a GPU's order of sums at this depth


def large(preset: str = "paper", seconds: float = SECONDS) -> dict[str, Any]:
    """Seconds to check and open the bundle; milliseconds of a window, on the best provider that is here.

    Raises:
        ImportError: torch is not installed.
    """
    provider: ProviderName = "cuda" if "CUDAExecutionProvider" in ort.get_available_providers() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        path, parameters = _write(Path(folder), preset)
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


def _write(repository: Path, preset: str) -> tuple[Path, int]:
    """The bundle of a fresh network, and how many parameters its encoder has."""
    import torch

    from models.export import FoldedProbe, export_onnx, reference, split_weights
    from models.networks.masked_autoencoder import PRESETS, build

    torch.manual_seed(0)
    config = PRESETS[preset]
    encoder = build(config).encoder.eval()
    probes = {"prestimulus": FoldedProbe(np.random.default_rng(0).standard_normal(config.width) / config.width, 0.0)}
    windows = np.random.default_rng(0).standard_normal((2, config.channels, config.bins)).astype(np.float32)
    usable = np.ones((2, config.channels), bool)
    outputs = reference(encoder, probes, windows, usable)
    model, weights = split_weights(export_onnx(encoder, probes), "model.weights")
    labels, chain = tuple(f"elec{k + 1}" for k in range(config.channels)), ChainSettings().to_dict()
    golden = Golden(windows, usable, outputs["embedding"], {"prestimulus": outputs["prestimulus"]})
    precision = Precision(
        file="model.onnx",
        weights="model.weights",
        probability_tolerance=TOLERANCE,
        embedding_tolerance=TOLERANCE,
    )
    calibration = Calibration(slope=1, offset=0, trials=0, folds=1)
    manifest = Manifest(
        name=preset,
        version=1,
        participant="nobody",
        array=ArrayIdentity(name="none", labels=labels, sha256=array_sha256(labels, None)),
        input=InputSpec(channels=config.channels, bins=config.bins, rate_hz=30_000),
        chain=chain,
        chain_sha256=chain_sha256(chain),
        min_usable_channels=config.channels // 2,
        embedding_size=config.width,
        probes={"prestimulus": Probe(window=(-config.bins, 0), calibration=calibration, prevalence=0.5)},
        precisions={"float32": precision},
    )
    files = {"model.onnx": model, "model.weights": weights, "golden.npz": golden.to_bytes()}
    return write_bundle(repository, manifest, files), sum(one.numel() for one in encoder.parameters())
