"""A simulated participant's files: resting sessions, encoders, trials. Everything but the encoders is quickly made.

Resting sessions take a gigabyte; they are there while encoders are trained on them and are removed afterwards.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from models.networks.masked_autoencoder import PRESETS, MaeConfig
from streaming.participant.settings import ParticipantSettings, StateCode
from streaming.participant.trials import Protocol
from training.data import Session, read_session
from training.evaluation import rest, trial_file
from training.evaluation.settings import Measures, Simulated, Stimulation
from training.evaluation.simulated import (
    SimulatedSessionSettings,
    rest_session,
    seconds_for,
    stimulation_session,
)
from training.evaluation.steps import Step, key
from training.evaluation.subject import Subject
from training.pretrain import SETTINGS, PretrainSettings, train

# each encoder's departure from what is trained for the table; all have the same budget of steps
VARIANTS: dict[str, dict[str, Any]] = {
    "mae": {},
    "time_shuffled": {"shuffle_time": True},
    "no_cross_session": {"cross_session_weight": 0.0},
}
_KNOWN = {field.name for field in fields(PretrainSettings)}
VARIANTS = {name: changes for name, changes in VARIANTS.items() if changes.keys() <= _KNOWN}
PROTOCOLS: tuple[Protocol, ...] = ("threshold", "psychometric")
FIRST_SESSIONS = {"rest": (100,), "threshold": (200, 300), "psychometric": (400, 500)}  # numbers: to learn from, new


def subject(study: Simulated, measures: Measures, code: StateCode, seed: int, full: bool, folder: Path) -> Subject:
    """Where everything of this participant lies, or will."""
    resting = rest_sessions(study, code, seed)
    drawn = key(resting, measures.rest_pairs, measures.held_out_windows, network(study).bins)
    stimulated = {protocol: stimulation_sessions(study, protocol, code, seed) for protocol in PROTOCOLS}
    return Subject(
        name=f"{code}-{seed}",
        folder=folder,
        sessions={
            protocol: [folder / f"{one.name}-{key(one)}.npz" for one in each] for protocol, each in stimulated.items()
        },
        new=frozenset(
            one.name
            for protocol, each in stimulated.items()
            for one in each
            if one.participant.session >= FIRST_SESSIONS[protocol][1]
        ),
        rest=folder / f"rest-{drawn}.npz",
        encoders={
            name: folder / f"{name}-{key(resting, network(study), settings(study, name))}.safetensors"
            for name in (VARIANTS if full else ("mae",))
        },
        full=full,
        group=code,
    )


def steps(study: Simulated, measures: Measures, code: StateCode, seed: int, one: Subject) -> list[Step]:
    """What has to be done before `subject.steps`."""
    planned = rest_sessions(study, code, seed)
    folder = one.folder / f"resting-{key(planned)}"
    bins = network(study).bins
    found = [Step(one.rest, partial(_sample, folder, planned, bins, measures), "resting activity")]
    for name, file in one.encoders.items():
        found.append(Step(file, partial(_pretrain, folder, planned, study, name, file), f"pretraining: {name}"))
    found.append(Step(folder.with_suffix(".removed"), partial(_tidy, folder), "tidying up"))
    for protocol, files in one.sessions.items():
        for each, file in zip(stimulation_sessions(study, protocol, code, seed), files, strict=True):
            found.append(Step(file, partial(_stimulate, each), f"trials: {protocol}"))
    return found


def _resting(folder: Path, planned: list[SimulatedSessionSettings]) -> list[Session]:
    return [read_session(rest_session(folder, each)) for each in planned]


def _sample(folder: Path, planned: list[SimulatedSessionSettings], bins: int, measures: Measures, draft: Path) -> None:
    found = rest.sample(_resting(folder, planned), bins, measures.rest_pairs, measures.held_out_windows)
    rest.write(draft, found)


def _pretrain(
    folder: Path, planned: list[SimulatedSessionSettings], study: Simulated, name: str, file: Path, draft: Path
) -> None:
    """The best checkpoint; its run goes, but for the curve."""
    run = file.with_suffix(".run")
    train(_resting(folder, planned), run, network(study), settings(study, name), resume=True)
    os.replace(run / "metrics.jsonl", file.with_suffix(".jsonl"))
    os.replace(run / "best.safetensors", draft)
    shutil.rmtree(run)


def _tidy(folder: Path, draft: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    draft.touch()


def _stimulate(each: SimulatedSessionSettings, draft: Path) -> None:
    trial_file.write(draft, stimulation_session(each))


def rest_sessions(study: Simulated, code: StateCode, seed: int) -> list[SimulatedSessionSettings]:
    """Spread over the first days."""
    return _sessions("rest", code, seed, study.rest_sessions, range(study.rest_days), study.rest_s)


def stimulation_sessions(
    study: Simulated, protocol: Protocol, code: StateCode, seed: int
) -> list[SimulatedSessionSettings]:
    """The sessions to learn from, then the new ones; threshold days lie behind the resting ones, psychometric days
    behind those."""
    asked: Stimulation = getattr(study, protocol)
    first = study.rest_days + (study.threshold.days if protocol == "psychometric" else 0)
    days = range(first, first + asked.days)
    learning = _sessions(protocol, code, seed, asked.learning, days, seconds_for(asked.trials))
    return learning + _sessions(protocol, code, seed, asked.new, days, seconds_for(asked.new_trials), new=True)


def _sessions(
    protocol: Protocol, code: StateCode, seed: int, n: int, days: range, seconds: int, new: bool = False
) -> list[SimulatedSessionSettings]:
    """Evenly over the days, in their order."""
    first = FIRST_SESSIONS[protocol][int(new)]
    participants = [
        ParticipantSettings(seed=seed, state_code=code, day=days[k * len(days) // n], session=first + k)
        for k in range(n)
    ]
    return [SimulatedSessionSettings(one, protocol, seconds, longer=new) for one in participants]


def network(study: Simulated) -> MaeConfig:
    return replace(PRESETS[study.preset], sessions=study.rest_sessions, **study.network)


def settings(study: Simulated, name: str) -> PretrainSettings:
    """The preset's, with the study's budget."""
    asked = {"steps": study.steps, "validate_every": max(10, study.steps // 10), **study.training, **VARIANTS[name]}
    return replace(SETTINGS[study.preset], **asked)
