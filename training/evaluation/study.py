"""A simulated participant's files: resting sessions, encoders, trials. Everything but the encoders is quickly made.

Resting sessions take a gigabyte; they are there while encoders are trained on them and are removed afterwards.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import OperatorFault
from models.networks.masked_autoencoder import PRESETS, MaeConfig
from streaming.participant.participant import Participant
from streaming.participant.settings import ParticipantSettings, StateCode
from streaming.participant.trials import Protocol
from training.batches import split
from training.data import Session, read_session
from training.evaluation import rest, trial_file
from training.evaluation.costs import Size
from training.evaluation.settings import CODES, Measures, Simulated, Stimulation
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
COMPILED_FROM = 300  # steps: compiling takes a minute, and then a step takes two thirds of the time
FIRST_SESSIONS = {"rest": (100,), "threshold": (200, 300), "psychometric": (400, 500)}  # numbers: to learn from, new


def subject(study: Simulated, measures: Measures, code: StateCode, seed: int, full: bool, folder: Path) -> Subject:
    """Where everything of this participant lies, or will."""
    planned = rest_sessions(study, code, seed)
    drawn = key(planned, measures.rest_windows, measures.held_out_windows, network(study).bins)
    asked = study.stimulation(full)
    stimulated = {protocol: stimulation_sessions(study, protocol, code, seed, full) for protocol in asked}
    return Subject(
        name=f"{code}-{seed}",
        group=f"{code}, every control" if full else code,
        folder=folder,
        sessions={
            protocol: [folder / f"{one.name}-{key(one)}.npz" for one in each] for protocol, each in stimulated.items()
        },
        sizes={protocol: _size(each) for protocol, each in asked.items()},
        new=frozenset(
            one.name
            for protocol, each in stimulated.items()
            for one in each
            if one.participant.session >= FIRST_SESSIONS[protocol][1]
        ),
        rest=folder / f"rest-{drawn}.npz",
        encoders={
            name: folder / f"{name}-{key(planned, _told(network(study)), settings(study, name))}.safetensors"
            for name in (VARIANTS if full else ("mae",))
        },
        full=full,
        measures=measures,
        positions=np.array(Participant(ParticipantSettings(seed=seed, state_code=code)).anatomy.map.positions),
    )


def steps(study: Simulated, measures: Measures, code: StateCode, seed: int, one: Subject) -> list[Step]:
    """What has to be done before `subject.steps`."""
    planned = rest_sessions(study, code, seed)
    folder = one.folder / f"resting-{key(planned)}"
    bins = network(study).bins
    seconds = {"simulated": float(study.rest_s * study.rest_sessions)}
    found = [Step(one.rest, partial(_sample, folder, planned, bins, measures), "resting activity", seconds)]
    for name, file in one.encoders.items():
        work = partial(_pretrain, folder, planned, study, name, file)
        found.append(Step(file, work, f"pretraining: {name}", {"trained": float(study.steps)}))
    found.append(Step(folder.with_suffix(".removed"), partial(_tidy, folder), "tidying up"))
    for protocol, files in one.sessions.items():
        for each, file in zip(stimulation_sessions(study, protocol, code, seed, one.full), files, strict=True):
            seconds = {"simulated": each.seconds * (2.0 if each.longer else 1.0)}  # observers take as long
            found.append(Step(file, partial(_stimulate, each), f"trials: {protocol}", seconds))
    return found


def _size(asked: Stimulation) -> Size:
    learning = asked.learning * asked.trials
    return Size(learning, asked.learning, learning + asked.new * asked.new_trials)


def resting(folder: Path, planned: list[SimulatedSessionSettings]) -> list[Session]:
    return [read_session(rest_session(folder, each)) for each in planned]


def _sample(folder: Path, planned: list[SimulatedSessionSettings], bins: int, measures: Measures, draft: Path) -> None:
    sessions = resting(folder, planned)
    found = rest.sample(sessions, *split(sessions, bins), bins, measures.rest_windows, measures.held_out_windows)
    rest.write(draft, found)


def _pretrain(
    folder: Path, planned: list[SimulatedSessionSettings], study: Simulated, name: str, file: Path, draft: Path
) -> None:
    """The best checkpoint; its run goes, but for the curve."""
    run = file.with_suffix(".run")
    train(resting(folder, planned), run, network(study), settings(study, name), resume=True)
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
    study: Simulated, protocol: Protocol, code: StateCode, seed: int, full: bool
) -> list[SimulatedSessionSettings]:
    """The sessions to learn from, then the new ones; threshold days lie behind the resting ones, psychometric days
    behind those. The observer who sees 2 s more looks at new sessions where all controls are wanted."""
    asked = study.stimulation(full)[protocol]
    first = study.rest_days + (study.threshold.days if protocol == "psychometric" else 0)
    days = range(first, first + asked.days)
    learning = _sessions(protocol, code, seed, asked.learning, days, seconds_for(asked.trials))
    seconds = seconds_for(asked.new_trials)
    return learning + _sessions(protocol, code, seed, asked.new, days, seconds, new=True, longer=full)


def _sessions(
    protocol: Protocol,
    code: StateCode,
    seed: int,
    n: int,
    days: range,
    seconds: int,
    new: bool = False,
    longer: bool = False,
) -> list[SimulatedSessionSettings]:
    """Evenly over the days, in their order."""
    first = FIRST_SESSIONS[protocol][int(new)]
    participants = [
        ParticipantSettings(seed=seed, state_code=code, day=days[k * len(days) // n], session=first + k)
        for k in range(n)
    ]
    return [SimulatedSessionSettings(one, protocol, seconds, longer) for one in participants]


def check(study: Simulated) -> None:
    """
    Raises:
        OperatorFault: a preset, state code or setting that there is not, or too few days of rest to hold four out.
    """
    if study.preset not in PRESETS:
        raise OperatorFault(f"no preset {study.preset!r}; there are: {', '.join(PRESETS)}")
    if unknown := set(study.codes) - set(CODES):
        raise OperatorFault(f"found state code {', '.join(sorted(unknown))}, expected some of {', '.join(CODES)}")
    everyone = (*study.seeds, *study.control_seeds)
    if not everyone or min(everyone) < 0:
        raise OperatorFault(f"found participants {everyone}, expected seeds from 0 on")
    try:
        network(study), settings(study, "mae")
    except (TypeError, ValueError) as error:
        raise OperatorFault(f"preset {study.preset}: {error}") from error


def network(study: Simulated) -> MaeConfig:
    return replace(PRESETS[study.preset], sessions=study.rest_sessions, **study.network)


def _told(config: MaeConfig) -> dict[str, Any]:
    """For a hash: what is not asked for leaves the names of older files as they were."""
    found = asdict(config)
    return found if config.embedding else {name: one for name, one in found.items() if name != "embedding"}


def settings(study: Simulated, name: str) -> PretrainSettings:
    """The preset's, with the study's budget; compiled where that is worth the wait and a compiler is there."""
    compiled = study.steps >= COMPILED_FROM and shutil.which("g++") is not None
    asked = {
        "steps": study.steps,
        "compile": compiled,
        "validate_every": max(10, study.steps // 10),
        **study.training,
        **VARIANTS[name],
    }
    return replace(SETTINGS[study.preset], **asked)
