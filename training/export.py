"""Checkpoint and probes to a bundle in a repository, each precision judged on the way."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Golden, versions, write_bundle
from models.errors import OperatorFault
from models.export import IN_POOLING, FoldedProbe, export_onnx, reference, split_weights
from models.half import halve
from models.int8 import quantize_int8
from models.manifest import ArrayIdentity, Calibration, Frozen, InputSpec, Manifest, PrecisionName, Probe, chain_sha256
from models.networks.slow_pooling import Slow
from streaming.chunk import ArrayMap
from training.frozen import read
from training.precisions import FILES, HELD_OUT, described, judge, read_held_out
from training.precisions import card as precisions_card
from training.pretrain import load_encoder
from training.probe import SAME_SESSIONS
from training.readout import FOLDS

LARGEST = (
    256 * 2**20
)  # bytes of a model in one file; a protobuf message ends at 2 GiB, and copies are made of it before


def export(checkpoint: Path, probes: Path, out: Path, name: str, participant: str) -> None:
    """Writes the next version of bundle `name` into the repository `out`.

    Raises:
        OperatorFault: probes of another checkpoint or participant, or files that cannot be read.
    """
    print(export_bundle(checkpoint, probes, out, name, participant))


def export_bundle(
    checkpoint: Path,
    probes: Path,
    repository: Path,
    name: str,
    participant: str,
    card: str = "",
    provenance: dict[str, Any] | None = None,
    version: int | None = None,
) -> Path:
    """The same, with a model card and provenance beside what the files say themselves."""
    encoder, about = load_encoder(checkpoint)
    folder = probes if probes.is_dir() else probes.parent
    try:
        fitted = json.loads((folder / "probes.json").read_text())
        with np.load(folder / "golden.npz") as stored:
            windows, usable = stored["windows"], stored["usable"]
        masked = tuple(fitted["masked"])
        slow = _slow(folder) if fitted["pooling"] == "slow" else None
    except (OSError, ValueError, KeyError) as error:
        raise OperatorFault(f"{probes} does not hold the output of `phosphene probe` ({error!r}); run it") from error
    weights = checkpoint / "best.safetensors" if checkpoint.is_dir() else checkpoint
    if hashlib.sha256(weights.read_bytes()).hexdigest() != fitted["checkpoint_sha256"]:
        raise OperatorFault(f"{probes} was fitted to another checkpoint than {checkpoint}; run `phosphene probe` again")
    if participant != fitted["participant"]:
        raise OperatorFault(f"{probes} was fitted to participant {fitted['participant']!r}, not {participant!r}")
    if fitted["chain"]["normaliser"]["kind"] == "robust_session":
        raise OperatorFault(
            f"{probes} was fitted to sessions normalised each by its own statistics (robust_session), which no stream "
            "has before its end; fit it with a [normaliser] of robust_frozen, robust_trailing or rolling_z"
        )

    folded = {key: FoldedProbe(np.array(one["weight"]), one["bias"]) for key, one in fitted["probes"].items()}
    float32 = export_onnx(encoder, folded, slow)
    models: dict[PrecisionName, bytes] = {
        "float32": float32,
        "float16": halve(float32, (IN_POOLING,)),
        "bfloat16": halve(float32, (IN_POOLING,), "bfloat16"),
        "int8": quantize_int8(float32, windows, usable, (IN_POOLING,)),
    }
    outputs = reference(encoder, folded, windows, usable, slow)
    prevalence = {key: one["prevalence"] for key, one in fitted["probes"].items()}
    held_out = read_held_out(folder / HELD_OUT, list(folded))
    judged = judge(models, (windows, usable), outputs, held_out, prevalence)
    if why := judged["float32"].why_not:
        raise OperatorFault(f"{checkpoint} cannot be exported: {why}; its checkpoint is of no use")
    not_written = {precision: one.why_not for precision, one in judged.items() if one.why_not}
    written = [precision for precision in judged if precision not in not_written]
    for precision, why in not_written.items():
        print(f"{precision} is not written: {why}")
    files, weights = {}, dict[PrecisionName, str | None]()
    for precision in written:
        file, content = FILES[precision], models[precision]
        weights[precision] = None
        if len(content) > LARGEST:
            weights[precision] = f"{Path(file).stem}.weights"
            content, files[f"{Path(file).stem}.weights"] = split_weights(content, f"{Path(file).stem}.weights")
        files[file] = content
    golden = Golden(windows, usable, outputs["embedding"], {key: outputs[key] for key in folded})
    files["golden.npz"] = golden.to_bytes()
    files["card.md"] = ((card or _card(name, fitted)) + precisions_card(judged)).encode()

    array = ArrayMap(tuple(fitted["labels"]), _positions(fitted["positions"]))
    channels, bins = windows.shape[1:]
    manifest = Manifest(
        name=name,
        version=version or (versions(repository, name) or [0])[-1] + 1,
        participant=participant,
        array=ArrayIdentity(
            name=f"{participant}'s array",
            labels=array.labels,
            positions=array.positions,
            sha256=array.sha256(),
            masked=masked,
        ),
        input=InputSpec(channels=channels, bins=bins, rate_hz=fitted["rate_hz"]),
        chain=fitted["chain"],
        chain_sha256=chain_sha256(fitted["chain"]),
        frozen=_frozen(fitted.get("frozen"), masked),
        min_usable_channels=fitted["min_usable_channels"],
        embedding_size=outputs["embedding"].shape[1],
        read=None if slow is None else slow.read,
        probes={key: _probe(one) for key, one in fitted["probes"].items()},
        precisions={precision: described(precision, judged[precision], weights[precision]) for precision in written},
        provenance={
            "pretraining": about,
            "checkpoint_sha256": fitted["checkpoint_sha256"],
            "probe_sessions": fitted["sessions"],
            "parity": {FILES[precision]: judged[precision].off for precision in written},
            "precisions_not_written": not_written,
            "versions": {"python": platform.python_version()}
            | {package: importlib.metadata.version(package) for package in ("torch", "onnx", "onnxruntime")},
            **(provenance or {}),
        },
    )
    return write_bundle(repository, manifest, files)


def _slow(folder: Path) -> Slow:
    with np.load(folder / "pooling.npz") as stored:
        return Slow.of(dict(stored))


def _probe(fitted: dict[str, Any]) -> Probe:
    calibration = Calibration(slope=fitted["slope"], offset=fitted["offset"], trials=fitted["trials"], folds=FOLDS)
    return Probe(
        window=tuple(fitted["window"]),
        calibration=calibration,
        prevalence=fitted["prevalence"],
        metrics=fitted["metrics"],
    )


def _frozen(described: dict[str, Any] | None, masked: tuple[int, ...]) -> Frozen | None:
    """A channel without statistics is masked and gets 0 and 1, which nothing is ever multiplied by but zero."""
    statistics = read(described)
    if statistics is None:
        return None
    known = np.isfinite(statistics.median_uv)
    assert set(np.flatnonzero(~known) + 1) <= set(masked)  # what was never usable is rarely usable
    median, mad = np.where(known, statistics.median_uv, 0.0), np.where(known, statistics.mad_uv, 1.0)
    return Frozen(median_uv=tuple(median.tolist()), mad_uv=tuple(mad.tolist()))


def _positions(stored: list[list[float]] | None) -> tuple[tuple[float, float], ...] | None:
    return None if stored is None else tuple((x, y) for x, y in stored)


def _card(name: str, fitted: dict[str, Any]) -> str:
    """What the figures in the probes file say, for a person."""
    lines = [f"# {name}", "", f"Participant {fitted['participant']}, sessions {', '.join(fitted['sessions'])}.", ""]
    for key, one in fitted["probes"].items():
        test, luck = (one["metrics"][SAME_SESSIONS][row] for row in ("probe", "permuted_labels"))
        lines.append(
            f"- {key}: balanced accuracy {test['balanced_accuracy']:.3f} "
            f"[{test['interval'][0]:.3f}, {test['interval'][1]:.3f}] on {test['trials']} later trials of the same "
            f"sessions; permuted labels {luck['balanced_accuracy']:.3f}."
        )
    return "\n".join(lines) + "\n"
