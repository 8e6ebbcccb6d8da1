"""`phosphene calibrate`: both probes fitted anew, on a frozen encoder, to the trials of today's participant.

The encoder is the one in the bundle's ONNX file, so no torch is needed, and what is fitted is what will run. The
windows are those that the service would have shown it: the recordings' envelope through the bundle's own normaliser,
without the channels that the bundle masks.

The old probe serves as anchor (readout.py): a morning's hundred trials cannot find a direction among hundreds of
dimensions, but can tell how far the old one still holds.

Scores are of trials that the scored probe never saw. With many trials the last fifth of each recording is held out;
with few, each of five blocks of time in turn. The probe that is written is then fitted to all of them. Beside it stand,
on the same trials: the old bundle, the electrode and current alone, and chance: the same calls held against answers
moved in time. (Labels permuted before fitting would not be chance: the anchor knows something without them.)
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models.bundle import find_bundle, verify, versions
from models.errors import OperatorFault
from models.manifest import PROBES, DriftReference, Manifest
from models.onnx_decoder import OnnxDecoder, open_bundle
from streaming.chunk import StreamInfo
from streaming.matching import why_not_calibrated
from streaming.signal.normaliser import Statistics
from streaming.signal.settings import NormaliserSettings
from training.calibrated_bundle import write_calibrated
from training.data import Session, open_sessions
from training.drift_reference import drift_reference
from training.frozen import freeze
from training.heads import weights_of
from training.readout import FOLDS, Readout, fit, gain, score, shifted
from training.trials import LEAST_TRIALS, TRAINING_PART, Trials, gather, join, rarely_usable, stimulus

LEAST_OF_EACH = 8  # answers of either kind
MANY_TRIALS = 200  # from here on a fifth of them is enough to score on
LATER = "the last fifth of each recording, held out"
BLOCKS = "five blocks of time, each scored by a probe fitted to the other four"


@dataclass(frozen=True, eq=False)
class Calibrated:
    """One probe: fitted to all `trials`, scored as `how` says. `metrics` by what was fitted."""

    readout: Readout
    trials: Trials
    embeddings: NDArray[np.float64]
    how: str
    metrics: dict[str, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was found, and where the new bundle stands. `left_out`: probe -> why it could not be fitted. `drift`: None
    where the recordings are too short to say how the input usually is."""

    bundle: Path
    parent: Manifest
    seen_before: bool  # the old bundle was calibrated on some of these recordings
    probes: dict[str, Calibrated]
    left_out: dict[str, str]
    drift: DriftReference | None = None


def calibrate(
    recordings: list[Path], model: str, bundles: Path, out: Path, participant: str | None = None
) -> Calibration:
    """Writes the next version of `model` (NAME[@VERSION], of `out` or else of `bundles`) into the repository `out`.

    Raises:
        OperatorFault: too few trials or one kind of answer only, recordings that do not belong together or to the
            bundle's channel map, or nobody's. Nothing is written.
        RigFault: a recording cannot be used.
        BundleFault: the bundle is not what was exported.
    """
    name = model.partition("@")[0]
    parent = find_bundle(out if versions(out, name) else bundles, model)
    decoder = open_bundle(parent, "cpu", "float32")
    hashes = _hashes(recordings)
    with tempfile.TemporaryDirectory(prefix="phosphene-", ignore_cleanup_errors=True) as cache:
        sessions = _sessions(recordings, Path(cache), decoder.manifest)
        who = _whose(sessions, decoder.manifest, participant)
        masked = sorted({*decoder.manifest.array.masked, *rarely_usable(sessions)})
        gathered = {probe: _gather(sessions, probe, decoder.n_bins, masked) for probe in PROBES}
        left_out = {probe: why for probe, parts in gathered.items() if (why := _too_few(probe, parts))}
        if len(left_out) == len(PROBES):
            raise OperatorFault(f"{' and '.join(left_out.values())}; record more trials, nothing was written")
        drift = drift_reference(decoder, sessions, masked)
    anchors = weights_of(verify(parent).files[decoder.manifest.precisions["float32"].file])
    with threadpool_limits(1):  # small matrices: threads would only get in each other's way, and in the rig's
        fitted = {
            probe: _calibrate(decoder, probe, gathered[probe], anchors.get(probe))
            for probe in PROBES
            if probe not in left_out
        }
    before = {one["sha256"] for one in decoder.manifest.provenance.get("recordings", ())}
    header = sessions[0].header
    found = [
        {"file": path.name, "sha256": digest, "session": one.header.name, "date": one.header.date}
        for (path, digest), one in zip(hashes.items(), sessions, strict=True)
    ]
    bundle = write_calibrated(out, decoder, fitted, who, header.array, header.rate_hz, masked, found, parent, drift)
    return Calibration(bundle, decoder.manifest, bool(before & set(hashes.values())), fitted, left_out, drift)


# Recordings ----------------------------------------------------------------------------------------------------------


def _hashes(recordings: list[Path]) -> dict[Path, str]:
    found: dict[Path, str] = {}
    for path in recordings:
        if not path.is_file():
            raise OperatorFault(f"{path}: no such file; name NWB files of `phosphene record` or `phosphene mua`")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest in found.values():
            raise OperatorFault(f"{path} is named twice, or a copy of another one; its trials would count twice")
        found[path] = digest
    return found


def _sessions(recordings: list[Path], cache: Path, manifest: Manifest) -> list[Session]:
    """The recordings by the bundle's normaliser, in the order given."""
    sessions = open_sessions(list(recordings), cache, NormaliserSettings(**manifest.chain["normaliser"]))
    if sessions[0].header.chain != manifest.chain:
        raise OperatorFault(
            f"{recordings[0]} was recorded through another signal chain than that of {manifest.full_name}; "
            "calibrate a bundle of the same chain"
        )
    frozen = manifest.frozen
    return freeze(sessions, {}, frozen and Statistics(np.array(frozen.median_uv), np.array(frozen.mad_uv)))


def _whose(sessions: list[Session], manifest: Manifest, participant: str | None) -> str:
    """The participant, after making sure that the encoder knows this array."""
    said = sessions[0].header.participant
    who = participant if said == "unknown" else said
    if who is None:
        raise OperatorFault(f"{sessions[0].header.name} does not say whose cortex it is; say --participant")
    if participant not in (None, who):
        raise OperatorFault(f"{sessions[0].header.name} is of participant {who!r}, not of {participant!r}")
    theirs = manifest.model_copy(update={"participant": who})  # whoever it is: probes are fitted to them now
    for session in sessions:
        header = session.header
        info = StreamInfo("replay", header.name, header.rate_hz, header.array, who)
        if why := why_not_calibrated(theirs, info):
            raise OperatorFault(f"{header.name} does not fit {manifest.full_name}: {why}; nothing was written")
    return who


def _gather(sessions: list[Session], probe: str, length: int, masked: list[int]) -> list[Trials]:
    """The valid trials of each recording, without the masked channels."""
    parts = [gather(session, probe, length) for session in sessions]
    for part in parts:
        part.usable[:, [channel - 1 for channel in masked]] = False
    return parts


def _too_few(probe: str, parts: list[Trials]) -> str | None:
    trials = join(parts)
    yes = int(trials.perceived.sum())
    if len(trials) >= LEAST_TRIALS and min(yes, len(trials) - yes) >= LEAST_OF_EACH:
        return None
    return (
        f"{probe}: {len(trials)} trials with a whole window ({trials.rejected} without), {yes} of them perceived, "
        f"expected at least {LEAST_TRIALS} and {LEAST_OF_EACH} of either answer"
    )


# Fitting and scoring -------------------------------------------------------------------------------------------------

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows to fit to, rows to score on


def _calibrate(decoder: OnnxDecoder, probe: str, parts: list[Trials], anchor: NDArray[np.float64] | None) -> Calibrated:
    trials = join(parts)
    decoded = [decoder.step(window, usable) for window, usable in zip(trials.windows, trials.usable, strict=True)]
    embeddings = np.stack([one.embedding for one in decoded]).astype(np.float64)
    how, folds = _folds([len(part) for part in parts])
    labels = trials.perceived
    scored = np.concatenate([test for _, test in folds])
    read = embeddings[:, : decoder.manifest.read]  # a few slow directions, where the bundle has them
    anchor = None if anchor is None else anchor[: read.shape[1]]
    try:
        readout = fit(read, labels, anchor=anchor)
        probability, prevalence = _held_out(read, labels, folds, anchor)
        known, base = _held_out(stimulus(trials, np.unique(trials.electrode)), labels, folds)
    except ValueError as error:  # a part of the trials without both answers
        raise OperatorFault(
            f"{probe}: the answers come in such long runs that a fifth of the trials leaves one kind only ({error}); "
            "record more trials, nothing was written"
        ) from error
    called = {"probe": probability > prevalence, "stimulus_only": known > base}
    metrics: dict[str, Any] = {
        "probe": score(probability[scored], labels[scored], prevalence[scored]),
        "chance": shifted(called["probe"][scored], labels[scored]),
        "stimulus_only": score(known[scored], labels[scored], base[scored]),
    }
    if probe in decoder.manifest.probes:
        before, usual = np.array([getattr(one, probe) for one in decoded]), decoder.manifest.probes[probe].prevalence
        metrics["parent"] = score(before[scored], labels[scored], usual)
        called["parent"] = before > usual
    for other in called.keys() - {"probe"}:
        metrics[f"gain_over_{other}"] = gain(called["probe"][scored], called[other][scored], labels[scored])
    readout = replace(readout, weight=np.pad(readout.weight, (0, embeddings.shape[1] - read.shape[1])))
    return Calibrated(readout, trials, embeddings, how, metrics | {"rejected_trials": trials.rejected})


def _folds(counts: list[int]) -> tuple[str, list[Fold]]:
    rows, first = np.arange(sum(counts)), np.cumsum([0, *counts[:-1]])
    if len(rows) < MANY_TRIALS:
        return BLOCKS, [(np.setdiff1d(rows, test), test) for test in np.array_split(rows, FOLDS)]
    ends = [start + round(TRAINING_PART * n) for start, n in zip(first, counts, strict=True)]
    test = np.concatenate([rows[end : start + n] for end, start, n in zip(ends, first, counts, strict=True)])
    return LATER, [(np.setdiff1d(rows, test), test)]


def _held_out(
    features: NDArray[Any], labels: NDArray[np.bool_], folds: list[Fold], anchor: NDArray[Any] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probability of each scored trial and the threshold it is held against, NaN for trials that are never scored."""
    probability, prevalence = np.full((2, len(labels)), np.nan)
    for training, test in folds:
        readout = fit(features[training], labels[training], anchor=anchor)
        probability[test], prevalence[test] = readout.probability(features[test]), readout.prevalence
    return probability, prevalence
