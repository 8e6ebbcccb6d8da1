"""A scientist's own recordings and checkpoint, made ready for the same table: trials cut, what does not fit refused."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault, RigFault
from models.manifest import PROBES
from models.networks.masked_autoencoder import MaeConfig
from streaming.signal.settings import BIN_RATE_HZ, NormaliserSettings
from training.batches import Starts, split
from training.data import Session, open_sessions
from training.evaluation import rest, study, subject, trial_file
from training.evaluation.costs import Size
from training.evaluation.outcomes import FEWEST_OF_EACH
from training.evaluation.settings import Measures
from training.evaluation.steps import Step, key
from training.evaluation.subject import Subject
from training.evaluation.trial_file import Seen
from training.frozen import describe, freeze, read
from training.pretrain import PretrainSettings, load_encoder, train
from training.probe import refuse_other_origin
from training.readout import FOLDS
from training.slow_pooling import worth_reading
from training.trials import LEAST_TRIALS, TRAINING_PART, gather, training_ends

AFTER_TRAIN_BINS = 1200  # from a stimulus on are not spontaneous
PSYCHOMETRIC_CURRENTS = 3  # at one electrode, from so many on: a threshold session has one


@dataclass(frozen=True)
class RecordedWork:
    """Everything opened, checked and cut; `rest_data` only where controls are to be trained on it."""

    one: Subject
    checkpoint: Path
    rest_data: tuple[Path, ...]
    control_steps: int
    folder: Path

    def subject(self) -> Subject:
        return self.one

    def steps(self) -> list[Step]:
        found = [Step(self.one.encoders["mae"], partial(_copy, self.checkpoint), "encoder")]
        for name, file in self.one.encoders.items():
            if name != "mae":
                work = partial(_pretrain, self.checkpoint, self.rest_data, self.folder, name, file)
                found.append(Step(file, work, f"pretraining: {name}", {"trained": float(self.control_steps)}))
        return found + subject.steps(self.one)


def recorded(
    checkpoint: Path,
    data: list[Path],
    new: list[Path],
    rest_data: list[Path],
    measures: Measures,
    cache: Path,
    controls: bool = False,
    same_dates: bool = False,
) -> RecordedWork:
    """`data`: stimulation sessions to learn from and test on; `new`: those only tested on; `rest_data`: resting ones,
    for what is learned without labels (without them: the spontaneous stretches of the sessions' training part).
    `controls` trains the checkpoint's network twice more on them. `same_dates` allows test dates between those that the
    encoder was trained on.

    Raises:
        OperatorFault: no trials or too few of either answer, sessions that the encoder was trained on, or a checkpoint
            of another array.
        RigFault: a recording cannot be used.
    """
    encoder, about = load_encoder(checkpoint)
    if controls and not rest_data:
        raise OperatorFault("controls are encoders trained anew; name the resting sessions that they are trained on")
    normaliser = NormaliserSettings(**about["sessions"]["chain"]["normaliser"])
    both = [session for session in open_sessions([*data, *new], cache, normaliser) if session.header.trials]
    if not both:
        raise OperatorFault("no session has a trials table; name sessions with stimulation and reports")
    refuse_other_origin(about, both)
    _refuse_other_size(encoder.config, both[0])
    _refuse_seen(about, both, same_dates)
    names = {session.header.name for session in open_sessions(new, cache, normaliser)} if new else set()
    learning = [k for k, session in enumerate(both) if session.header.name not in names]
    ends = training_ends([both[k] for k in learning], encoder.config.bins)
    ends = {learning[k]: end for k, end in ends.items()}
    known = read(about["sessions"].get("frozen"))
    both = freeze(both, ends, known)
    folder = cache / about["sessions"]["participant"]
    folder.mkdir(parents=True, exist_ok=True)
    sessions = _trials(both, names, encoder.config.bins, folder)
    measures = replace(measures, rest_windows=min(measures.rest_windows, worth_reading(encoder.config)))
    resting = _rest(both, ends, rest_data, normaliser, encoder.config.bins, measures, cache, folder, known)
    weights = checkpoint / "best.safetensors" if checkpoint.is_dir() else checkpoint
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
    encoders = {"mae": folder / f"mae-{digest}.safetensors"}
    if controls:
        encoders |= {
            name: folder / f"{name}-{key(digest, resting.name, changes)}.safetensors"
            for name, changes in study.VARIANTS.items()
            if name != "mae"
        }
    who = about["sessions"]["participant"]
    sizes = {protocol: _size(files, names) for protocol, files in sessions.items()}
    places = both[0].header.positions
    positions = None if places is None else np.array(places, np.float64)
    one = Subject(who, who, folder, sessions, sizes, frozenset(names), resting, encoders, True, measures, positions)
    return RecordedWork(one, weights, tuple(rest_data) if controls else (), about["training"]["steps"], folder)


def _size(files: list[Path], new: set[str]) -> Size:
    trials = trial_file.read(files, "evoked").trials
    learning = trials.session[~np.isin(trials.session, sorted(new))]
    return Size(len(learning), len(np.unique(learning)), len(trials))


def protocol_of(session: Session) -> str:
    """By the currents that were given: several at one electrode make a psychometric session."""
    given: dict[int, set[float]] = {}
    for trial in session.header.trials:
        given.setdefault(trial.electrode, set()).add(round(trial.current_ua, 3))
    most = max(len(currents) for currents in given.values())
    return "psychometric" if most >= PSYCHOMETRIC_CURRENTS else "threshold"


# What does not fit ---------------------------------------------------------------------------------------------------


def _refuse_other_size(config: MaeConfig, session: Session) -> None:
    if (found := session.usable.shape[1]) != config.channels:
        raise OperatorFault(
            f"{session.header.name}: found {found} channels, expected the checkpoint's {config.channels}; "
            "name a checkpoint of this array"
        )


def _refuse_seen(about: dict[str, Any], sessions: list[Session], same_dates: bool) -> None:
    """An encoder must not have seen what it is tested on."""
    known, dates = set(about["sessions"]["names"]), about["sessions"].get("dates", [])
    for session in sessions:
        header = session.header
        if header.name in known:
            raise OperatorFault(
                f"{header.name}: found in what the encoder was pretrained on, expected a session that it has never "
                "seen; evaluate other sessions, or pretrain without this one"
            )
        if dates and min(dates) <= header.date <= max(dates) and not same_dates:
            raise OperatorFault(
                f"{header.name}: found the date {header.date} inside the encoder's training range, {min(dates)} to "
                f"{max(dates)}, expected a later one; evaluate later sessions, or allow it with --same-dates, which "
                "the result will say"
            )


def _too_few(perceived: list[NDArray[np.bool_]], protocol: str) -> str | None:
    """Why the training parts of these sessions, in order of time, cannot be learned from."""
    training = np.concatenate([one[: round(TRAINING_PART * len(one))] for one in perceived])
    yes = int(training.sum())
    folds = np.array_split(np.arange(len(training)), FOLDS)
    if (
        len(training) >= LEAST_TRIALS
        and min(yes, len(training) - yes) >= FEWEST_OF_EACH
        and all(0 < np.delete(training, fold).mean() < 1 for fold in folds)
    ):
        return None
    return (
        f"{protocol}: found {len(training)} trials with a whole window in the first {TRAINING_PART:.0%} of the "
        f"sessions, {yes} of them perceived, expected at least {LEAST_TRIALS}, and {FEWEST_OF_EACH} of either answer, "
        "both of them outside every fifth; record more trials"
    )


# Cutting -------------------------------------------------------------------------------------------------------------


def _trials(sessions: list[Session], new: set[str], length: int, folder: Path) -> dict[str, list[Path]]:
    """The files of each protocol's sessions, in order of date."""
    by_protocol: dict[str, list[Session]] = {}
    for session in sorted(sessions, key=lambda one: (one.header.date, one.header.name)):
        by_protocol.setdefault(protocol_of(session), []).append(session)
    found, why = {}, []
    for protocol, those in by_protocol.items():
        cut = [{probe: gather(session, probe, length) for probe in PROBES} for session in those]
        learning = [one for one, session in zip(cut, those, strict=True) if session.header.name not in new]
        reasons = [_too_few([one[probe].perceived for one in learning], protocol) for probe in PROBES]
        if any(reasons):
            why.append(next(filter(None, reasons)))
            continue
        files = []
        for session, trials in zip(those, cut, strict=True):
            for one in trials.values():
                if not np.isfinite(one.windows[one.usable]).all():
                    raise RigFault(
                        f"{session.header.name}: found NaN in a window, expected numbers; make its MUA again"
                    )
            known = key(session.header.name, describe([session]), length)
            file = folder / f"trials-{session.header.name}-{known}.npz"
            draft = file.with_name(f".draft-{file.name}")
            trial_file.write(draft, {probe: Seen(one, {}) for probe, one in trials.items()})
            os.replace(draft, file)
            files.append(file)
        found[protocol] = files
    if not found:
        raise OperatorFault("; ".join(filter(None, why)))
    return found


def _rest(
    sessions: list[Session],
    ends: dict[int, int],
    data: list[Path],
    normaliser: NormaliserSettings,
    length: int,
    measures: Measures,
    cache: Path,
    folder: Path,
    known: Any,
) -> Path:
    """`known`: the checkpoint's frozen statistics, by which resting sessions are normalised too."""
    if data:
        sessions = open_sessions(data, cache, normaliser)
        training, held_out = split(sessions, length)
        sessions = freeze(sessions, {i: len(sessions[i].usable) for i in training}, known)
    else:
        training = {i: _spontaneous(sessions[i], length, 0, end) for i, end in ends.items()}
        held_out = {i: _spontaneous(sessions[i], length, end, len(sessions[i].usable)) for i, end in ends.items()}
    names = [sessions[i].header.name for i in (*training, *held_out)]
    hashed = key(names, describe(sessions), bool(data), measures.rest_windows, measures.held_out_windows, length)
    file = folder / f"rest-{hashed}.npz"
    if not file.exists():
        draft = file.with_name(f".draft-{file.name}")
        sample = rest.sample(sessions, training, held_out, length, measures.rest_windows, measures.held_out_windows)
        rest.write(draft, sample)
        os.replace(draft, file)
    return file


def _spontaneous(session: Session, length: int, first: int, end: int) -> Starts:
    """Windows that no stimulus of the session reaches."""
    allowed = np.asarray(session.allowed(length, first, end))
    onsets = np.rint([trial.onset_s * BIN_RATE_HZ for trial in session.header.trials]).astype(np.int64)
    before = np.searchsorted(onsets, allowed + length)
    last = np.where(before > 0, onsets[before - 1], -AFTER_TRAIN_BINS)
    return allowed[allowed >= last + AFTER_TRAIN_BINS]


# Encoders ------------------------------------------------------------------------------------------------------------


def _copy(checkpoint: Path, draft: Path) -> None:
    shutil.copy(checkpoint, draft)


def _pretrain(checkpoint: Path, data: tuple[Path, ...], cache: Path, name: str, file: Path, draft: Path) -> None:
    """The checkpoint's network and settings but for what the control leaves out."""
    _, about = load_encoder(checkpoint)
    normaliser = NormaliserSettings(**about["sessions"]["chain"]["normaliser"])
    settings = replace(PretrainSettings(**about["training"]), **study.VARIANTS[name])
    run = file.with_suffix(".run")
    train(open_sessions(list(data), cache, normaliser), run, MaeConfig(**about["network"]), settings, resume=True)
    os.replace(run / "metrics.jsonl", file.with_suffix(".jsonl"))
    os.replace(run / "best.safetensors", draft)
    shutil.rmtree(run)
