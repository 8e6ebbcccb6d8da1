"""The bundle that calibration writes: the parent's encoder to the byte, new probes, new golden vectors, a new owner.

The golden vectors come from elsewhere than the graph that they judge: the embeddings from the parent, whose own golden
vectors hold here, the probabilities from the fitted probe in double precision.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sklearn
from numpy.typing import NDArray

from models.bundle import GOLDEN, Bundle, Golden, verify, versions, write_bundle
from models.errors import BundleFault
from models.manifest import ArrayIdentity, DriftReference, Manifest, PrecisionName, Probe
from models.manifest import Calibration as Platt
from models.onnx_decoder import OnnxDecoder
from models.providers import RUNS
from models.runtime import ort
from streaming.chunk import ArrayMap
from streaming.pipeline import EVOKED_START_BINS
from training.heads import Heads, replace_heads
from training.readout import FOLDS, percent
from training.trials import Trials, golden, join, min_usable_channels, part

if TYPE_CHECKING:
    from training.calibrate import Calibrated

ENOUGH_TRIALS = 200  # to see how few channels do
ROWS = {
    "probe": "new probe",
    "parent": "old bundle, same trials",
    "stimulus_only": "electrode and current alone",
    "chance": "chance: new probe, answers moved in time",
    "gain_over_parent": "new less old",
    "gain_over_stimulus_only": "new less electrode and current",
}


def write_calibrated(
    repository: Path,
    decoder: OnnxDecoder,
    fitted: dict[str, Calibrated],
    participant: str,
    array: ArrayMap,
    rate_hz: float,
    masked: list[int],
    recordings: list[dict[str, Any]],
    parent_path: Path,
    drift: DriftReference | None = None,
) -> Path:
    """Writes the next version and returns its directory. It is opened and checked before it is written.

    Raises:
        BundleFault: the new graph does not give what was fitted: our own bug, or a graph of another make.
    """
    parent, old = decoder.manifest, verify(parent_path)
    heads: Heads = {name: one.readout.folded() for name, one in fitted.items()}
    files = {one.file: replace_heads(old.files[one.file], heads) for one in parent.precisions.values()}
    files |= {one.weights: old.files[one.weights] for one in parent.precisions.values() if one.weights}
    files[GOLDEN] = _golden(decoder, fitted, heads).to_bytes()
    files["card.md"] = _card(parent, fitted, participant, recordings).encode()
    positions = array.positions or parent.array.positions
    least = max(_least(decoder, one) for one in fitted.values())
    manifest = Manifest.model_validate(
        parent.model_dump()
        | {
            "version": max([parent.version, *versions(repository, parent.name)]) + 1,
            "participant": participant,
            "array": ArrayIdentity(
                name=f"{participant}'s array",
                labels=array.labels,
                positions=positions,
                sha256=ArrayMap(array.labels, positions).sha256(),
                masked=tuple(masked),
            ),
            # what was measured there was measured with the old probes
            "precisions": {name: one.model_copy(update={"metrics": {}}) for name, one in parent.precisions.items()},
            "input": parent.input.model_copy(update={"rate_hz": rate_hz}),
            "min_usable_channels": min(least, parent.input.channels - len(masked)),
            "probes": {name: _probe(name, one, parent.input.bins) for name, one in fitted.items()},
            "drift": drift,
            "provenance": {
                "calibrated_from": {"bundle": parent.full_name, "manifest_sha256": parent.manifest_sha256},
                "recordings": recordings,
                "scored_on": {name: one.how for name, one in fitted.items()},
                "fitted_to": "all valid trials of the recordings",
                "encoder": {key: parent.provenance.get(key) for key in ("pretraining", "checkpoint_sha256")},
                "versions": {
                    "python": platform.python_version(),
                    "onnxruntime": ort.__version__,
                    "scikit-learn": sklearn.__version__,
                },
            },
            "files": {},
            "manifest_sha256": "",
        }
    )
    manifest = manifest.model_copy(update={"provenance": manifest.provenance | {"off": _check(manifest, files)}})
    return write_bundle(repository, manifest, files)


def _probe(name: str, one: Calibrated, bins: int) -> Probe:
    first = EVOKED_START_BINS if name == "evoked" else -bins
    readout, metrics = one.readout, {one.how: one.metrics}
    platt = Platt(slope=readout.slope, offset=readout.offset, trials=len(one.trials), folds=FOLDS)
    return Probe(window=(first, first + bins), calibration=platt, prevalence=readout.prevalence, metrics=metrics)


def _golden(decoder: OnnxDecoder, fitted: dict[str, Calibrated], heads: Heads) -> Golden:
    shown = join([golden(one.trials) for one in fitted.values()])
    embedding = _embed(decoder, shown, shown.usable)
    probabilities = {
        name: (1 / (1 + np.exp(-(embedding @ weight + bias)))).astype(np.float32)
        for name, (weight, bias) in heads.items()
    }
    return Golden(shown.windows, shown.usable, embedding.astype(np.float32), probabilities)


def _check(manifest: Manifest, files: dict[str, bytes]) -> dict[str, dict[str, float]]:
    """How far each precision that a CPU runs lands from the golden vectors here. Only float32 must hold: whether int8
    does is a matter of the machine, and is asked again by each that serves."""
    bundle, found = Bundle(Path(manifest.name) / str(manifest.version), manifest, files), {}
    names: list[PrecisionName] = [name for name in RUNS["cpu"] if name in manifest.precisions]
    for precision in names:
        check = OnnxDecoder(bundle, "cpu", precision).check_golden(bundle)
        found[precision] = {"probability": check.probability, "embedding": check.embedding}
        if precision == "float32" and not check.holds:
            raise BundleFault(
                f"{manifest.full_name}: the new probes do not give what was fitted ({check}); report this"
            )
    return found


def _embed(decoder: OnnxDecoder, trials: Trials, usable: NDArray[np.bool_]) -> NDArray[np.float64]:
    rows = [decoder.step(window, seen).embedding for window, seen in zip(trials.windows, usable, strict=True)]
    return np.stack(rows).astype(np.float64)


def _least(decoder: OnnxDecoder, one: Calibrated) -> int:
    some = part(one.trials, 0, min(1.0, ENOUGH_TRIALS / len(one.trials)))
    return min_usable_channels(lambda trials, usable: _embed(decoder, trials, usable), one.readout.weight, some)


def _card(parent: Manifest, fitted: dict[str, Calibrated], participant: str, recordings: list[dict[str, Any]]) -> str:
    lines = [
        f"# {parent.name}, calibrated",
        "",
        f"The encoder of {parent.full_name} (fitted to participant {parent.participant}), its probes fitted anew to "
        f"participant {participant}:",
        "",
        *(f"- {one['file']} of {one['date']}, sha256 {one['sha256'][:12]}" for one in recordings),
        "",
        "Balanced accuracy in %, 95 % bootstrap intervals over trials (for chance: over shifts). The "
        "probes in this bundle are fitted to all trials; scored are probes that had not seen the trials.",
    ]
    for name, one in fitted.items():
        lines += ["", f"## Probe `{name}`", "", f"{len(one.trials)} trials; {one.how}.", "", "| | |", "|---|---|"]
        lines += [f"| {words} | {percent(one.metrics.get(row))} |" for row, words in ROWS.items()]
    return "\n".join(lines) + "\n"
