"""Frozen encoder to calibrated probes, `prestimulus` and `evoked`, with every comparison that keeps them honest.

How tokens become an embedding is learned first, from resting windows and without answers (models/networks/
slow_pooling.py); or they are averaged, as in the paper (`pooling`).
Each session gives its first 80 % of trials to fitting and its last 20 % to testing. What the probe is held against on
the same trials stands in `beside`; where a simulator told the truth, what ideal observers make of it stands there too.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from models.errors import OperatorFault
from models.manifest import PROBES
from models.networks.slow_pooling import Embedder
from models.onnx_decoder import OnnxDecoder
from streaming.pipeline import EVOKED_START_BINS
from streaming.signal.settings import NormaliserSettings
from training import beside
from training.beside import embed
from training.data import Session, open_sessions
from training.frozen import describe, freeze, read
from training.precisions import HELD_OUT, write_held_out
from training.pretrain import chosen_normaliser, load_encoder, read_settings
from training.readout import Readout, chance, fit, gain, percent, permuted, score
from training.resting import Pairs
from training.slow_pooling import learn, resting
from training.trials import (
    LEAST_TRIALS,
    TRAINING_PART,
    Trials,
    fewer_electrodes,
    gather,
    golden,
    join,
    min_usable_channels,
    part,
    rarely_usable,
    training_ends,
)

PoolingName = Literal["slow", "mean"]
ENOUGH_TRIALS = 400  # to see how few channels do
SAME_SESSIONS = "same sessions, later trials"
ROWS = {
    "probe": "probe",
    "electrodes_lost": "probe, a tenth of the electrodes lost",
    "permuted_labels": "probe, permuted labels",
    **beside.WORDS,
    "window_observer": "ideal observer of the window, level A",
    "state_observer": "observer who knows the state",
}


def probe(
    checkpoint: Path, data: list[Path], out: Path, settings_file: Path | None = None, pooling: str = "slow"
) -> None:
    """Fits the probes that the data allow and writes `out/probes.json` for `export`, golden and held-out trials, and
    `out/pooling.npz` where the pooling is learned: from sessions without trials, and from between the trials of others.

    The sessions are normalised as the checkpoint's were, by its frozen statistics where it has some. A [normaliser] in
    `settings_file` (TOML) is taken instead, its statistics fitted to these sessions.

    Raises:
        OperatorFault: no checkpoint, too few trials, too little rest, or unknown settings.
        RigFault: a recording cannot be used.
    """
    if pooling not in get_args(PoolingName):
        raise OperatorFault(f"no pooling {pooling!r}; there are: {', '.join(get_args(PoolingName))}")
    encoder, about = load_encoder(checkpoint)
    other = chosen_normaliser(read_settings(settings_file)) if settings_file else None
    normaliser = other or NormaliserSettings(**about["sessions"]["chain"]["normaliser"])
    sessions = open_sessions(data, out / "cache", normaliser)
    if not any(session.header.trials for session in sessions):
        raise OperatorFault("no session has a trials table; probes are fitted to answers, name stimulation sessions")
    refuse_other_origin(about, sessions)
    statistics, length = None if other else read(about["sessions"].get("frozen")), encoder.config.bins
    ends = training_ends(sessions, length)
    sessions = freeze(sessions, ends, statistics)
    stimulated = [session for session in sessions if session.header.trials]
    rest = None if pooling == "mean" else resting(sessions, ends, encoder.config)
    embedder = Embedder(encoder, None if rest is None else learn(encoder, rest)).eval()
    fitted = fit_probes(embedder, stimulated, {}, rest)
    write_probes(out, checkpoint, stimulated, embedder, fitted)
    show(fitted)


@dataclass(frozen=True, eq=False)
class FittedProbe:
    readout: Readout
    metrics: dict[str, dict[str, Any]]  # by what it was tested on, then by what was fitted
    training_trials: int
    min_usable: int
    golden: Trials
    held_out: Trials  # by which export judges each precision


def fit_probes(
    embedder: Embedder,
    sessions: list[Session],
    later: dict[str, list[Session]],
    rest: Pairs | None,
    older: OnnxDecoder | None = None,
) -> dict[str, FittedProbe]:
    """Both probes, each where there are trials enough; scored on the sessions' last trials and on the sets of `later`,
    beside an `older` bundle if one is given. `rest` is what the rivals learn from where the embedder did.

    Raises:
        OperatorFault: not for one probe.
    """
    fitted, length = {}, embedder.encoder.config.bins
    unlabelled = beside.unlabelled(embedder, rest)
    for name in PROBES:
        parts = [gather(session, name, length) for session in sessions]
        training = join([part(one, 0, TRAINING_PART) for one in parts])
        test = join([part(one, TRAINING_PART, 1) for one in parts])
        counts = [min(one.perceived.sum(), (~one.perceived).sum()) for one in (training, test)]
        if len(training) >= LEAST_TRIALS and min(counts) >= 2:
            others = {key: join([gather(one, name, length) for one in group]) for key, group in later.items()}
            told = beside.told(training, unlabelled, embedder.encoder.config.latent_width) | beside.by(older, name)
            fitted[name] = _fit_one(embedder, training, {SAME_SESSIONS: test} | others, told)
    if not fitted:
        raise OperatorFault(
            f"{sum(len(s.header.trials) for s in sessions)} trials, of which too few valid or of one kind only; "
            f"a probe needs {LEAST_TRIALS} with both answers in the first {TRAINING_PART:.0%} of the sessions"
        )
    return fitted


def _fit_one(
    embedder: Embedder, training: Trials, tests: dict[str, Trials], others: dict[str, beside.Foretell]
) -> FittedProbe:
    """Everything is fitted to `training` once and scored on each of `tests`: metrics[test][row]."""

    def see(trials: Trials, usable: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        return embed(embedder, trials, usable)[:, : embedder.read]

    features = see(training)
    readout = fit(features, training.perceived)
    by_luck = permuted(features, training.perceived, readout.c)
    metrics: dict[str, dict[str, Any]] = {}
    for key, test in tests.items():
        test_features = see(test)
        probability = readout.probability(test_features)
        found = metrics[key] = {
            "probe": score(probability, test.perceived, readout.prevalence),
            "permuted_labels": chance(by_luck, test_features, test.perceived),
        }
        with_fewer = readout.probability(see(test, fewer_electrodes(test.usable)))
        told = {name: foretell(test) for name, foretell in others.items()} | {
            "electrodes_lost": (with_fewer, readout.prevalence)
        }
        for name, (other, prevalence) in told.items():
            found[name] = score(other, test.perceived, prevalence)
            called, called_other = probability > readout.prevalence, other > prevalence
            found[f"gain_over_{name}"] = gain(called, called_other, test.perceived)
        for name, known in (("window_observer", test.window_known), ("state_observer", test.state_known)):
            if np.isfinite(known).all():
                found[name] = score(known, test.perceived, readout.prevalence)
        found["rejected_trials"] = test.rejected
    some = part(training, 0, min(1.0, ENOUGH_TRIALS / len(training)))
    least = min_usable_channels(see, readout.weight, some)
    return FittedProbe(readout, metrics, len(training), least, golden(tests[SAME_SESSIONS]), tests[SAME_SESSIONS])


# Writing and showing -------------------------------------------------------------------------------------------------


def refuse_other_origin(about: dict[str, Any], sessions: list[Session]) -> None:
    """
    Raises:
        OperatorFault: the sessions are not of the array, participant and chain that the encoder was trained on. Only
            the chain's normaliser may be another: it was asked for.
    """
    header, trained = sessions[0].header, about["sessions"]
    expected_chain = trained["chain"] | {"normaliser": header.chain["normaliser"]}
    for what, found, expected in (
        ("participant", header.participant, trained["participant"]),
        ("channel map", header.array.sha256(), trained["array_sha256"]),
        ("signal chain", header.chain, expected_chain),
    ):
        if found != expected:
            raise OperatorFault(f"sessions have {what} {found}, the checkpoint was trained on {expected}; retrain")


def write_probes(
    out: Path, checkpoint: Path, sessions: list[Session], embedder: Embedder, fitted: dict[str, FittedProbe]
) -> None:
    header = sessions[0].header
    file = checkpoint / "best.safetensors" if checkpoint.is_dir() else checkpoint
    described = {}
    for name, one in fitted.items():
        weight, bias = one.readout.folded()
        first_bin = EVOKED_START_BINS if name == "evoked" else -one.golden.windows.shape[2]
        described[name] = {
            "window": [first_bin, first_bin + one.golden.windows.shape[2]],
            "weight": np.pad(weight, (0, embedder.size - len(weight))).tolist(),
            "bias": bias,
            "slope": one.readout.slope,
            "offset": one.readout.offset,
            "prevalence": one.readout.prevalence,
            "trials": one.training_trials,
            "metrics": one.metrics,
        }
    content = {
        "checkpoint_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "participant": header.participant,
        "labels": header.labels,
        "positions": header.positions,
        "rate_hz": header.rate_hz,
        "chain": header.chain,
        "frozen": describe(sessions),
        "sessions": [session.header.name for session in sessions],
        "masked": rarely_usable(sessions),
        "pooling": "mean" if embedder.slow is None else "slow",
        "min_usable_channels": max(one.min_usable for one in fitted.values()),
        "probes": described,
    }
    out.mkdir(parents=True, exist_ok=True)
    shown = join([one.golden for one in fitted.values()])
    np.savez(out / "golden.npz", windows=shown.windows, usable=shown.usable)
    write_held_out(out / HELD_OUT, {name: one.held_out for name, one in fitted.items()})
    if embedder.slow is not None:
        np.savez(out / "pooling.npz", **embedder.slow.arrays())
    draft = out / "probes.json.draft"
    draft.write_text(json.dumps(content))
    os.replace(draft, out / "probes.json")


def show(fitted: dict[str, FittedProbe], console: Console | None = None) -> None:
    """A table of balanced accuracies with their 95 % intervals."""
    table = Table("balanced accuracy, %", *fitted)
    for row, words in ROWS.items():
        found = [one.metrics[SAME_SESSIONS].get(row) for one in fitted.values()]
        if any(found):
            table.add_row(words, *map(percent, found))
    (console or Console()).print(table)
