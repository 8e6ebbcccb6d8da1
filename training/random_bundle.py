"""A bundle of a fresh network, of any size: what the bench opens for arrays and presets that nobody has trained.

The weights are random, which takes as long as any, and it is nobody's: no probability of it means anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from models.bundle import Golden, write_bundle
from models.export import FoldedProbe, export_onnx, reference, split_weights
from models.half import halve
from models.int8 import quantize_int8
from models.manifest import (
    ArrayIdentity,
    Calibration,
    InputSpec,
    Manifest,
    Precision,
    PrecisionName,
    Probe,
    array_sha256,
    chain_sha256,
)
from models.networks.fewer_electrodes import FewerElectrodes
from models.networks.masked_autoencoder import PRESETS, build
from streaming.signal.settings import ChainSettings
from training.precisions import FILES

# off the golden vectors: of a GPU's order of sums at the paper's depth; of rounding; of weights that nobody trained
TOLERANCES: dict[PrecisionName, float] = {"float32": 1e-2, "float16": 2e-2, "bfloat16": 0.1, "int8": 0.5}


def write_random(
    repository: Path,
    preset: str,
    precisions: Sequence[PrecisionName] = ("float32",),
    channels: int | None = None,
    looks_at: int | None = None,
) -> tuple[Path, int]:
    """The preset, for arrays of so many channels, of which it looks at so many; the weights of each precision in a file
    of their own. Returns its directory, and how many parameters its encoder has."""
    torch.manual_seed(0)
    config = replace(PRESETS[preset], channels=channels or PRESETS[preset].channels)
    encoder = build(config).encoder.eval()
    if looks_at is not None:
        encoder = FewerElectrodes(encoder, np.linspace(0, config.channels - 1, looks_at).astype(int).tolist()).eval()
    probes = {"prestimulus": FoldedProbe(np.random.default_rng(0).standard_normal(config.width) / config.width, 0.0)}
    windows = np.random.default_rng(0).standard_normal((2, config.channels, config.bins)).astype(np.float32)
    usable = np.ones((2, config.channels), bool)
    outputs = reference(encoder, probes, windows, usable)
    float32 = export_onnx(encoder, probes)
    files: dict[str, bytes] = {}
    written: dict[PrecisionName, Precision] = {}
    for name in precisions:
        file, tolerance = FILES[name], TOLERANCES[name]
        weights = f"{file.removesuffix('.onnx')}.weights"
        match name:
            case "float32":
                model = float32
            case "int8":
                model = quantize_int8(float32, windows, usable)
            case half:
                model = halve(float32, (), half)
        files[file], files[weights] = split_weights(model, weights)
        written[name] = Precision(
            file=file, weights=weights, probability_tolerance=tolerance, embedding_tolerance=tolerance
        )
    labels, chain = tuple(f"elec{k + 1}" for k in range(config.channels)), ChainSettings().to_dict()
    golden = Golden(windows, usable, outputs["embedding"], {"prestimulus": outputs["prestimulus"]})
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
        precisions=written,
    )
    path = write_bundle(repository, manifest, files | {"golden.npz": golden.to_bytes()})
    return path, sum(one.numel() for one in encoder.parameters())
