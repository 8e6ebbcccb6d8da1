"""What a student costs: teacher and student on the same trials of simulated participants, in balanced accuracy.

A participant's files are those of `study`: rest, a teacher, threshold trials; beside them lies a student, distilled on
the same rest. Each has a probe of its own, fitted to the same trials; and since a student's embedding is its teacher's,
the teacher's probe reads it too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.manifest import PROBES
from models.networks.masked_autoencoder import PRESETS, MaeConfig
from models.networks.slow_pooling import Embedder
from streaming.participant.settings import StateCode
from training.beside import embed
from training.checkpoints import load_encoder
from training.distill import digest, train_student
from training.distill_settings import DistillSettings
from training.evaluation import study
from training.evaluation.outcomes import Layout, Outcome
from training.evaluation.predictors import Foretold
from training.evaluation.scores import Question, question
from training.evaluation.settings import Measures, Simulated, Stimulation
from training.evaluation.simulated import SimulatedSessionSettings
from training.evaluation.steps import Step, key
from training.evaluation.subject import Subject
from training.readout import fit
from training.trials import Trials

TEACHER, STUDENT, READ_BY_TEACHERS = "teacher", "student", "student, teacher's probe"
PROTOCOL = "threshold"


@dataclass(frozen=True)
class Distilled:
    """`simulated`: participants, their trials and their teacher; `student`: preset, changed as `network` says."""

    simulated: Simulated
    student: str = "pico"
    network: dict[str, Any] = field(default_factory=dict)
    distillation: DistillSettings = field(default_factory=DistillSettings)

    @property
    def teacher(self) -> MaeConfig:
        return study.network(self.simulated)

    @property
    def config(self) -> MaeConfig:
        teacher, changes = self.teacher, {"sessions": self.simulated.rest_sessions} | self.network
        return replace(PRESETS[self.student], bins=teacher.bins, embedding=teacher.latent_width, **changes)


MANY = Stimulation(learning=8, trials=250, new=8, new_trials=260, days=5)


@dataclass(frozen=True)
class StudentWork:
    """One participant's. It travels to another process, so it is plain values."""

    asked: Distilled
    code: StateCode
    seed: int
    folder: Path

    def subject(self) -> Subject:
        return study.subject(self.asked.simulated, Measures(), self.code, self.seed, False, self.folder)

    @property
    def student(self) -> Path:
        teacher = self.subject().encoders["mae"].name
        return self.folder / f"student-{key(teacher, self.asked.config, self.asked.distillation)}.safetensors"

    def embedded(self, probe: str) -> Path:
        known = key([file.name for file in self.subject().sessions[PROTOCOL]], self.student.name)
        return self.folder / f"both-{probe}-{known}.npz"

    def steps(self) -> Sequence[Step]:
        one = self.subject()
        found = study.steps(self.asked.simulated, one.measures, self.code, self.seed, one)
        pretraining, tidying, *trials = (step for step in found if step.file != one.rest)
        planned = study.rest_sessions(self.asked.simulated, self.code, self.seed)
        folder = tidying.file.with_suffix("")
        learnt = Step(self.student, partial(_distil, self, folder, planned), "distillation")
        both = [Step(self.embedded(probe), partial(_embed, self, probe), f"embeddings: {probe}") for probe in PROBES]
        return [pretraining, learnt, tidying, *trials, *both]


def _distil(work: StudentWork, folder: Path, planned: list[SimulatedSessionSettings], draft: Path) -> None:
    """The best checkpoint; of its run only the curve is kept."""
    teacher, asked, run = work.subject().encoders["mae"], work.asked, work.student.with_suffix(".run")
    settings = replace(asked.distillation, teacher=digest(teacher))
    train_student(*load_encoder(teacher), study.resting(folder, planned), run, asked.config, settings, resume=True)
    os.replace(run / "metrics.jsonl", work.student.with_suffix(".jsonl"))
    os.replace(run / "best.safetensors", draft)
    shutil.rmtree(run)


def _embed(work: StudentWork, probe: str, draft: Path) -> None:
    seen, _ = work.subject().load((PROTOCOL, probe))
    files = {TEACHER: work.subject().encoders["mae"], STUDENT: work.student}
    with draft.open("wb") as stream:
        np.savez(stream, **{name: _mean(file, seen.trials) for name, file in files.items()})


def _mean(checkpoint: Path, trials: Trials) -> NDArray[np.float64]:
    """Embeddings (n, width) by the mean of the tokens, which is what distillation matches."""
    return embed(Embedder(load_encoder(checkpoint)[0]).eval(), trials)


def scored(work: StudentWork, probe: str) -> Question:
    """Both, and the ideal observers, on the same trials of new sessions and of the learning ones' last fifth."""
    seen, layout = work.subject().load((PROTOCOL, probe))
    with np.load(work.embedded(probe)) as stored:
        features = {name: stored[name] for name in (TEACHER, STUDENT)}
    return question(seen, layout, {name: Outcome(told) for name, told in foretold(features, layout).items()})


def foretold(features: dict[str, Any], layout: Layout) -> dict[str, Foretold]:
    """By name of the row, every trial: probes fitted to the training part."""
    rows, labels = layout.training, layout.perceived
    probes = {name: fit(values[rows], labels[rows]) for name, values in features.items()}
    pairs = {TEACHER: (TEACHER, TEACHER), STUDENT: (STUDENT, STUDENT), READ_BY_TEACHERS: (TEACHER, STUDENT)}
    return {
        row: Foretold(probes[whose].probability(features[read]), probes[whose].prevalence)
        for row, (whose, read) in pairs.items()
    }
