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
from training.data import LEAST_SHARE, Session, open_sessions
from training.frozen import describe, freeze, read
from training.pretrain import chosen_normaliser, load_encoder, read_settings
from training.readout import Readout, chance, fit, permuted, score

TRAINING_PART = 0.8
LEAST_TRIALS = 40  # in the fitting part; below this no probe is fitted
LEAST_USABLE = 0.9  # of the session's usual channels, for a trial to count
AGREEMENT = 0.9  # correlation with the full array's score that sets min_usable_channels
GOLDEN_WINDOWS = 8
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


@dataclass(frozen=True, eq=False)
class Trials:
    """Windows (n, channels, bins), usable (n, channels), answers (n,), and what was done; in order of time."""

    windows: NDArray[np.float32]
    usable: NDArray[np.bool_]
    perceived: NDArray[np.bool_]
    electrode: NDArray[np.int64]
    current_ua: NDArray[np.float64]
    state_known: NDArray[np.float64]  # what two observers of the simulated participant say, NaN where there is none
    window_known: NDArray[np.float64]
    rejected: int

    def __len__(self) -> int:
        return len(self.perceived)


def probe(checkpoint: Path, data: list[Path], out: Path, settings_file: Path | None = None) -> None:
    """Fits the probes that the data allow and writes `out/probes.json` and `out/golden.npz` for `export`.

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


def fit_probes(encoder: Encoder, sessions: list[Session], later: dict[str, list[Session]]) -> dict[str, FittedProbe]:
    """Both probes, each where there are trials enough; scored on the sessions' last trials and on the sets of `later`.

    Raises:
        OperatorFault: not for one probe.
    """
    fitted = {}
    for name in PROBES:
        parts = [gather(session, name, encoder.config.bins) for session in sessions]
        training = join([_part(part, 0, TRAINING_PART) for part in parts])
        test = join([_part(part, TRAINING_PART, 1) for part in parts])
        counts = [min(part.perceived.sum(), (~part.perceived).sum()) for part in (training, test)]
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
    least = min_usable_channels(encoder, readout, training)
    return FittedProbe(readout, metrics, len(training), least, _golden(tests[SAME_SESSIONS]))


def _other_features(encoder: Encoder, training: Trials) -> dict[str, Callable[[Trials], NDArray[Any]]]:
    """What else a readout could be given."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = build(encoder.config).encoder.eval()

    def raw(trials: Trials) -> NDArray[Any]:
        return np.where(trials.usable[:, :, None], trials.windows, 0).reshape(len(trials), -1)

    components = min(encoder.config.width, len(training) - 1)
    pca = PCA(components, svd_solver="randomized", random_state=0).fit(raw(training))
    electrodes = np.unique(training.electrode)
    return {
        "untrained_encoder": lambda trials: embed(untrained, trials),
        "raw_mua": raw,
        "principal_components": lambda trials: pca.transform(raw(trials)),
        "stimulus_only": lambda trials: _stimulus(trials, electrodes),
    }


def _stimulus(trials: Trials, electrodes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Which of `electrodes`, and ln(current) for each of them."""
    which = trials.electrode[:, None] == electrodes
    return np.hstack([which, which * np.log(np.maximum(trials.current_ua, 1e-3))[:, None]])


def min_usable_channels(encoder: Encoder, readout: Readout, trials: Trials) -> int:
    """The fewest randomly chosen channels, in steps of a sixteenth of the array, whose scores correlate with the full
    array's by at least AGREEMENT."""
    rng, channels = np.random.default_rng(0), encoder.config.channels
    full = embed(encoder, trials) @ readout.weight
    order = np.argsort(rng.random(trials.usable.shape) + ~trials.usable, axis=1)
    least, step = channels, max(1, channels // 16)
    for n in range(channels - step, 0, -step):
        fewer = trials.usable.copy()
        np.put_along_axis(fewer, order[:, n:], False, axis=1)
        if np.corrcoef(full, embed(encoder, trials, fewer) @ readout.weight)[0, 1] < AGREEMENT:
            break
        least = n
    return least


# Trials to features --------------------------------------------------------------------------------------------------


def gather(session: Session, name: str, length: int) -> Trials:
    """The trials of a session whose window for probe `name` is whole and has most of the session's channels."""
    trials, rows = session.header.trials, valid_trials(session, name, length)
    first_bins = session.trial_bins(name, length)[rows]
    windows, usable = session.windows(first_bins, length) if len(rows) else _nothing(session, length)
    kept = [trials[row] for row in rows]
    return Trials(
        windows=windows,
        usable=usable,
        perceived=np.array([trial.perceived for trial in kept], bool),
        electrode=np.array([trial.electrode for trial in kept], np.int64),
        current_ua=np.array([trial.current_ua for trial in kept], np.float64),
        state_known=np.array([trial.observers.get("state", np.nan) for trial in kept], np.float64),
        window_known=np.array([trial.observers.get(name, np.nan) for trial in kept], np.float64),
        rejected=len(trials) - len(kept),
    )


def valid_trials(session: Session, name: str, length: int) -> NDArray[np.int64]:
    """Which trials `gather` takes."""
    first_bins = session.trial_bins(name, length)
    rows = np.flatnonzero(np.isin(first_bins, session.allowed(length)))
    if not len(rows):
        return rows
    channels = np.array([session.usable[b : b + length].all(axis=0).sum() for b in first_bins[rows]])
    return rows[channels >= LEAST_USABLE * np.median(channels)]


def training_ends(sessions: list[Session], length: int) -> dict[int, int]:
    """For each session the bin with which the first window begins that any probe is tested on."""
    ends = {}
    for i, session in enumerate(sessions):
        ends[i] = len(session.usable)
        for name in PROBES:
            rows = valid_trials(session, name, length)
            tested = session.trial_bins(name, length)[rows[round(TRAINING_PART * len(rows)) :]]
            ends[i] = min([ends[i], *tested.tolist()])
    return ends


def _nothing(session: Session, length: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    channels = session.usable.shape[1]
    return np.empty((0, channels, length), np.float32), np.empty((0, channels), bool)


def _part(trials: Trials, start: float, end: float) -> Trials:
    rows = slice(round(start * len(trials)), round(end * len(trials)))
    arrays = {name: value[rows] for name, value in vars(trials).items() if name != "rejected"}
    return Trials(**arrays, rejected=trials.rejected if start == 0 else 0)


def join(parts: list[Trials]) -> Trials:
    arrays = {name: np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0]) if name != "rejected"}
    return Trials(**arrays, rejected=sum(part.rejected for part in parts))


@torch.no_grad()
def embed(encoder: Encoder, trials: Trials, usable: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Embeddings (n, width), every usable channel visible, as live."""
    usable = trials.usable if usable is None else usable
    parts = [
        pool(*encoder(torch.from_numpy(trials.windows[k : k + 64]), torch.from_numpy(usable[k : k + 64])))
        for k in range(0, len(trials), 64)
    ]
    return torch.cat(parts).numpy().astype(np.float64)


def _golden(test: Trials) -> Trials:
    """A few test trials, the later ones with ever more channels taken away, for the golden vectors."""
    few = _part(test, 0, min(1.0, GOLDEN_WINDOWS / len(test)))
    rng = np.random.default_rng(0)
    lost = np.linspace(0, 0.4, len(few))[:, None]
    return Trials(**vars(few) | {"usable": few.usable & (rng.random(few.usable.shape) >= lost)})


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
    golden = join([one.golden for one in fitted.values()])
    np.savez(out / "golden.npz", windows=golden.windows, usable=golden.usable)
    draft = out / "probes.json.draft"
    draft.write_text(json.dumps(content))
    os.replace(draft, out / "probes.json")


def rarely_usable(sessions: list[Session]) -> list[int]:
    """Channels (1-based) that were usable in less than half of the sessions' bins; bins without any do not count."""
    bins = sum(int(session.usable.any(axis=1).sum()) for session in sessions)
    usable = sum(session.usable.sum(axis=0) for session in sessions)
    return [int(channel) + 1 for channel in np.flatnonzero(usable < LEAST_SHARE * bins)]


def show(fitted: dict[str, FittedProbe], console: Console | None = None) -> None:
    """A table of balanced accuracies with their 95 % intervals."""
    table = Table("balanced accuracy, %", *fitted)
    for row, words in ROWS.items():
        found = [one.metrics[SAME_SESSIONS].get(row) for one in fitted.values()]
        if any(found):
            table.add_row(words, *map(percent, found))
    (console or Console()).print(table)


def percent(found: dict[str, Any] | None) -> str:
    if found is None:
        return "–"
    low, high = found["interval"]
    return f"{100 * found['balanced_accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
