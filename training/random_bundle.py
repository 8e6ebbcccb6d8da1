"""A bundle of a fresh network, of any size: what the bench opens for arrays and presets that nobody has trained.

The weights are random, which takes as long as any, and it is nobody's: no probability of it means anything.
"""

from __future__ import annotations

<<<<<<< HEAD
from dataclasses import replace
=======
from collections.abc import Sequence
>>>>>>> ed919ea (A pulse keeps a GPU warm between windows; tests and bench rows that ask a GPU; the decision on providers)
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
    PrecisionName,
    Probe,
    array_sha256,
    chain_sha256,
    write_bundle,
)
from models.export import FoldedProbe, export_onnx, reference, split_weights
<<<<<<< HEAD
from models.int8 import quantize_int8
from models.networks.fewer_electrodes import FewerElectrodes
=======
from models.half import halve
>>>>>>> ed919ea (A pulse keeps a GPU warm between windows; tests and bench rows that ask a GPU; the decision on providers)
from models.networks.masked_autoencoder import PRESETS, build
from streaming.signal.settings import ChainSettings
from training.precisions import FILES

<<<<<<< HEAD
TOLERANCE = 1e-2  # of a GPU's order of sums at the paper's depth
INT8_TOLERANCE = 0.5  # of weights that nobody trained


def write_random(
    repository: Path, preset: str, channels: int | None = None, looks_at: int | None = None, int8: bool = False
) -> tuple[Path, int]:
    """The preset, for arrays of so many channels, of which it looks at so many; its weights in a file of their own, or
    in int8 as well. Returns its directory, and how many parameters its encoder has."""
=======
# off the golden vectors: of a GPU's order of sums at the paper's depth; of rounding there
TOLERANCES: dict[PrecisionName, float] = {"float32": 1e-2, "float16": 2e-2, "bfloat16": 0.1}


def write_random(repository: Path, preset: str, precisions: Sequence[PrecisionName] = ("float32",)) -> tuple[Path, int]:
    """Returns its directory, and how many parameters its encoder has."""
>>>>>>> ed919ea (A pulse keeps a GPU warm between windows; tests and bench rows that ask a GPU; the decision on providers)
    torch.manual_seed(0)
    config = replace(PRESETS[preset], channels=channels or PRESETS[preset].channels)
    encoder = build(config).encoder.eval()
    if looks_at is not None:
        encoder = FewerElectrodes(encoder, np.linspace(0, config.channels - 1, looks_at).astype(int).tolist()).eval()
    probes = {"prestimulus": FoldedProbe(np.random.default_rng(0).standard_normal(config.width) / config.width, 0.0)}
    windows = np.random.default_rng(0).standard_normal((2, config.channels, config.bins)).astype(np.float32)
    usable = np.ones((2, config.channels), bool)
    outputs = reference(encoder, probes, windows, usable)
<<<<<<< HEAD
    model = export_onnx(encoder, probes)
    files, precisions = _int8(model, quantize_int8(model, windows, usable)) if int8 else _beside(model)
=======
    float32 = export_onnx(encoder, probes)
    files: dict[str, bytes] = {}
    written: dict[PrecisionName, Precision] = {}
    for name in precisions:
        file = FILES[name]
        weights = f"{file.removesuffix('.onnx')}.weights"
        files[file], files[weights] = split_weights(float32 if name == "float32" else halve(float32, (), name), weights)
        tolerance = TOLERANCES[name]
        written[name] = Precision(
            file=file, weights=weights, probability_tolerance=tolerance, embedding_tolerance=tolerance
        )
>>>>>>> ed919ea (A pulse keeps a GPU warm between windows; tests and bench rows that ask a GPU; the decision on providers)
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
<<<<<<< HEAD
        precisions=precisions,
    )
    path = write_bundle(repository, manifest, files | {"golden.npz": golden.to_bytes()})
    return path, sum(one.numel() for one in encoder.parameters())


def _beside(model: bytes) -> tuple[dict[str, bytes], dict[PrecisionName, Precision]]:
    model, weights = split_weights(model, "model.weights")
    kept = {"model.onnx": model, "model.weights": weights}
    return kept, {"float32": _precision("model.onnx", TOLERANCE, "model.weights")}


def _int8(model: bytes, quantised: bytes) -> tuple[dict[str, bytes], dict[PrecisionName, Precision]]:
    kept = {"model.onnx": model, "model.int8.onnx": quantised}
    return kept, {
        "float32": _precision("model.onnx", TOLERANCE),
        "int8": _precision("model.int8.onnx", INT8_TOLERANCE),
    }


def _precision(file: str, tolerance: float, weights: str | None = None) -> Precision:
    return Precision(file=file, weights=weights, probability_tolerance=tolerance, embedding_tolerance=tolerance)
=======
        precisions=written,
    )
    files["golden.npz"] = golden.to_bytes()
    return write_bundle(repository, manifest, files), sum(one.numel() for one in encoder.parameters())
>>>>>>> ed919ea (A pulse keeps a GPU warm between windows; tests and bench rows that ask a GPU; the decision on providers)
