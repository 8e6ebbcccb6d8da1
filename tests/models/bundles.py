"""A small real bundle for the tests: nano encoder, random weights, both probes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from models.bundle import Golden, write_bundle
from models.export import FoldedProbe, export_onnx, reference, split_weights
from models.int8 import quantize_int8
from models.manifest import (
    ArrayIdentity,
    Calibration,
    InputSpec,
    Manifest,
    Precision,
    Probe,
    array_sha256,
    chain_sha256,
)
from models.networks.masked_autoencoder import PRESETS, Encoder, build

CHANNELS, BINS = 12, 128
CONFIG = replace(PRESETS["nano"], channels=CHANNELS, bins=BINS, sessions=2)
CHAIN = {"clip_uv": 5000.0, "normaliser": {"kind": "rolling_z"}}


@cache
def encoder() -> Encoder:
    torch.manual_seed(0)
    return build(CONFIG).encoder.eval()


@cache
def probes() -> tuple[tuple[str, FoldedProbe], ...]:
    rng = np.random.default_rng(0)
    return tuple((name, FoldedProbe(rng.standard_normal(CONFIG.width), 0.1)) for name in ("prestimulus", "evoked"))


@cache
def model_files() -> tuple[bytes, bytes]:
    float32 = export_onnx(encoder(), dict(probes()))
    return float32, quantize_int8(float32, *windows(8))


def windows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random windows (n, channels, bins) and usable channels, the first sample with all of them."""
    rng = np.random.default_rng(seed)
    usable = rng.random((n, CHANNELS)) > 0.3
    usable[:, 0] = True
    usable[0] = True
    return rng.standard_normal((n, CHANNELS, BINS)).astype(np.float32), usable


def manifest(**changes: object) -> Manifest:
    labels = tuple(f"elec{i + 1}" for i in range(CHANNELS))
    probe = Probe(window=(-BINS, 0), calibration=Calibration(slope=1, offset=0, trials=10, folds=5), prevalence=0.5)
    fields = {
        "name": "small",
        "version": 1,
        "participant": "simulated",
        "array": ArrayIdentity(name="test", labels=labels, sha256=array_sha256(labels, None)),
        "input": InputSpec(channels=CHANNELS, bins=BINS, rate_hz=30000.0),
        "chain": CHAIN,
        "chain_sha256": chain_sha256(CHAIN),
        "min_usable_channels": 6,
        "embedding_size": CONFIG.width,
        "probes": {"prestimulus": probe, "evoked": probe},
        "precisions": {
            "float32": Precision(file="model.onnx", probability_tolerance=1e-3, embedding_tolerance=1e-3),
            "int8": Precision(file="model.int8.onnx", probability_tolerance=0.05, embedding_tolerance=0.1),
        },
    }
    return Manifest.model_validate(fields | changes)


def split_bundle(repository: Path, **changes: object) -> Path:
    """The same with the weights of each model in a file of its own."""
    files: dict[str, object] = {}
    precisions = dict(manifest().precisions)
    for (name, one), content in zip(precisions.items(), model_files(), strict=True):
        weights = f"{Path(one.file).stem}.weights"
        files[one.file], files[weights] = split_weights(content, weights)
        precisions[name] = one.model_copy(update={"weights": weights})
    return small_bundle(repository, **{"precisions": precisions} | files | changes)


def small_bundle(repository: Path, **changes: object) -> Path:
    """`repository/small/1`; `changes` replace manifest fields or, named as files, their bytes."""
    float32, int8 = model_files()
    shown, usable = windows(4)
    outputs = reference(encoder(), dict(probes()), shown, usable)
    golden = Golden(shown, usable, outputs["embedding"], {name: outputs[name] for name, _ in probes()})
    files = {"model.onnx": float32, "model.int8.onnx": int8, "golden.npz": golden.to_bytes()}
    files |= {name: changes.pop(name) for name in list(changes) if "." in name}  # type: ignore[dict-item]
    return write_bundle(repository, manifest(**changes), files)
