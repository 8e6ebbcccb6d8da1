"""Frozen encoder to calibrated probes, `prestimulus` and `evoked`, with every comparison that keeps them honest.

Each session gives its first 80 % of trials to fitting and its last 20 % to testing. Beside the probe stand, on the same
trials: permuted labels, the same network untrained, raw MUA, its principal components (as many as the embedding has
numbers), electrode and current alone, and, where a simulator told the truth, what ideal observers make of it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.decomposition import PCA

from models.bundle import PROBES
from models.errors import OperatorFault
from models.networks.masked_autoencoder import Encoder, build, pool
from streaming.pipeline import EVOKED_START_BINS
from streaming.signal.settings import NormaliserSettings
from training.data import Session, open_sessions
from training.frozen import describe, freeze, read
from training.precisions import HELD_OUT, write_held_out
from training.pretrain import chosen_normaliser, load_encoder, read_settings
from training.readout import Readout, chance, fit, percent, permuted, score
from training.trials import (
    LEAST_TRIALS,
    TRAINING_PART,
    Trials,
    gather,
    golden,
    join,
    min_usable_channels,
    part,
    rarely_usable,
    stimulus,
    training_ends,
)

SAME_SESSIONS = "same sessions, later trials"
ROWS = {
    "probe": "probe",
    "permuted_labels": "probe, permuted labels",
    "untrained_encoder": "same network, untrained",
    "raw_mua": "raw MUA",
    "principal_components": "principal components",
    "stimulus_only": "electrode and current alone",
    "window_observer": "ideal observer of the window, level A",
    "state_observer": "observer who knows the state",
}


def probe(checkpoint: Path, data: list[Path], out: Path, settings_file: Path | None = None) -> None:
    """Fits the probes that the data allow and writes `out/probes.json` for `export`, with golden and held-out trials.

    The sessions are normalised as the checkpoint's were, by its frozen statistics where it has some. A [normaliser] in
    `settings_file` (TOML) is taken instead, its statistics fitted to these sessions.

    Raises:
        OperatorFault: no checkpoint, too few trials, or unknown settings.
        RigFault: a recording cannot be used.
    """
    encoder, about = load_encoder(checkpoint)
    other = chosen_normaliser(read_settings(settings_file)) if settings_file else None
    normaliser = other or NormaliserSettings(**about["sessions"]["chain"]["normaliser"])
    sessions = [session for session in open_sessions(data, out / "cache", normaliser) if session.header.trials]
    if not sessions:
        raise OperatorFault("no session has a trials table; probes are fitted to answers, name stimulation sessions")
    refuse_other_origin(about, sessions)
    statistics = None if other else read(about["sessions"].get("frozen"))
    sessions = freeze(sessions, training_ends(sessions, encoder.config.bins), statistics)
    fitted = fit_probes(encoder, sessions, {})
    write_probes(out, checkpoint, sessions, fitted)
    show(fitted)


@dataclass(frozen=True, eq=False)
class FittedProbe:
    readout: Readout
    metrics: dict[str, dict[str, Any]]  # by what it was tested on, then by what was fitted
    training_trials: int
    min_usable: int
    golden: Trials
    held_out: Trials  # by which export judges each precision


def fit_probes(encoder: Encoder, sessions: list[Session], later: dict[str, list[Session]]) -> dict[str, FittedProbe]:
    """Both probes, each where there are trials enough; scored on the sessions' last trials and on the sets of `later`.

    Raises:
        OperatorFault: not for one probe.
    """
    fitted = {}
    for name in PROBES:
        parts = [gather(session, name, encoder.config.bins) for session in sessions]
        training = join([part(one, 0, TRAINING_PART) for one in parts])
        test = join([part(one, TRAINING_PART, 1) for one in parts])
        counts = [min(one.perceived.sum(), (~one.perceived).sum()) for one in (training, test)]
        if len(training) >= LEAST_TRIALS and min(counts) >= 2:
            others = {
                key: join([gather(one, name, encoder.config.bins) for one in group]) for key, group in later.items()
            }
            fitted[name] = _fit_one(encoder, training, {SAME_SESSIONS: test} | others)
    if not fitted:
        raise OperatorFault(
            f"{sum(len(s.header.trials) for s in sessions)} trials, of which too few valid or of one kind only; "
            f"a probe needs {LEAST_TRIALS} with both answers in the first {TRAINING_PART:.0%} of the sessions"
        )
    return fitted


def _fit_one(encoder: Encoder, training: Trials, tests: dict[str, Trials]) -> FittedProbe:
    """Everything is fitted to `training` once and scored on each of `tests`: metrics[test][row]."""
    features = embed(encoder, training)
    readout = fit(features, training.perceived)
    by_luck = permuted(features, training.perceived, readout.c)
    metrics: dict[str, dict[str, Any]] = {}
    for key, test in tests.items():
        test_features = embed(encoder, test)
        metrics[key] = {
            "probe": score(readout.probability(test_features), test.perceived, readout.prevalence),
            "permuted_labels": chance(by_luck, test_features, test.perceived),
        }
    for name, see in _other_features(encoder, training).items():
        other = fit(see(training), training.perceived)
        for key, test in tests.items():
            metrics[key][name] = score(other.probability(see(test)), test.perceived, other.prevalence)
    for key, test in tests.items():
        for name, told in (("window_observer", test.window_known), ("state_observer", test.state_known)):
            if np.isfinite(told).all():
                metrics[key][name] = score(told, test.perceived, readout.prevalence)
        metrics[key]["rejected_trials"] = test.rejected
    least = min_usable_channels(partial(embed, encoder), readout.weight, training)
    return FittedProbe(readout, metrics, len(training), least, golden(tests[SAME_SESSIONS]), tests[SAME_SESSIONS])


def _other_features(encoder: Encoder, training: Trials) -> dict[str, Callable[[Trials], NDArray[Any]]]:
    """What else a readout could be given."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = build(encoder.config).encoder.eval()

    def raw(trials: Trials) -> NDArray[Any]:
        return np.where(trials.usable[:, :, None], trials.windows, 0).reshape(len(trials), -1)

    components = min(encoder.config.latent_width, len(training) - 1)
    pca = PCA(components, svd_solver="randomized", random_state=0).fit(raw(training))
    electrodes = np.unique(training.electrode)
    return {
        "untrained_encoder": lambda trials: embed(untrained, trials),
        "raw_mua": raw,
        "principal_components": lambda trials: pca.transform(raw(trials)),
        "stimulus_only": lambda trials: stimulus(trials, electrodes),
    }


@torch.no_grad()
def embed(encoder: Encoder, trials: Trials, usable: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Embeddings (n, width), every usable channel visible, as live."""
    usable = trials.usable if usable is None else usable
    parts = [
        pool(*encoder(torch.from_numpy(trials.windows[k : k + 64]), torch.from_numpy(usable[k : k + 64])))
        for k in range(0, len(trials), 64)
    ]
    return torch.cat(parts).numpy().astype(np.float64)


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


def write_probes(out: Path, checkpoint: Path, sessions: list[Session], fitted: dict[str, FittedProbe]) -> None:
    header = sessions[0].header
    file = checkpoint / "best.safetensors" if checkpoint.is_dir() else checkpoint
    described = {}
    for name, one in fitted.items():
        weight, bias = one.readout.folded()
        first_bin = EVOKED_START_BINS if name == "evoked" else -one.golden.windows.shape[2]
        described[name] = {
            "window": [first_bin, first_bin + one.golden.windows.shape[2]],
            "weight": weight.tolist(),
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
        "min_usable_channels": max(one.min_usable for one in fitted.values()),
        "probes": described,
    }
    out.mkdir(parents=True, exist_ok=True)
    shown = join([one.golden for one in fitted.values()])
    np.savez(out / "golden.npz", windows=shown.windows, usable=shown.usable)
    write_held_out(out / HELD_OUT, {name: one.held_out for name, one in fitted.items()})
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
