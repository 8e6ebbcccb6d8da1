"""A bundle of a fresh network, with its weights in a file of their own: what `phosphene bench large` opens.

The weights are random, which takes as long as any, and it is nobody's: no probability of it means anything.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from models.bundle import (
    ArrayIdentity,
    Calibration,
    Golden,
    InputSpec,
    Manifest,
    Precision,
    Probe,
    array_sha256,
    chain_sha256,
    write_bundle,
)
from models.export import FoldedProbe, export_onnx, reference, split_weights
from models.networks.masked_autoencoder import PRESETS, build
from streaming.signal.settings import ChainSettings

TOLERANCE = 1e-2  # of a GPU's order of sums at the paper's depth


def write_random(repository: Path, preset: str) -> tuple[Path, int]:
    """Returns its directory, and how many parameters its encoder has."""
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
