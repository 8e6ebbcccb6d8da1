"""The files of a result, beside its numbers: what figures are drawn from.

result.json                             every number, with its interval, its date and its machine
trials/PARTICIPANT-PROTOCOL-PROBE.npz   each trial, and what every row foretold of it (pooled fit)
embeddings/PARTICIPANT-….npz            of trials (in the same order) and of resting windows
looks/PARTICIPANT.npz                   reconstructions of resting windows, saliency maps, places of the electrodes
training/PARTICIPANT-ENCODER.jsonl      losses of pretraining
label_efficiency.csv, reliability.csv
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluation.report import Measured, read_outcome
from training.evaluation.subject import Subject

KEPT = ("session", "onset_s", "electrode", "current_ua", "perceived")


def write(out: Path, result: dict[str, Any], measured: list[Measured]) -> None:
    for one in measured:
        _write_trials(out / "trials", one.subject)
        _write_embeddings(out / "embeddings", one.subject)
        if one.subject.full:
            (out / "looks").mkdir(parents=True, exist_ok=True)
            shutil.copy(one.subject.looks_file(), out / "looks" / f"{one.subject.name}.npz")
        for name, file in one.subject.encoders.items():
            if (curve := file.with_suffix(".jsonl")).exists():
                (out / "training").mkdir(parents=True, exist_ok=True)
                shutil.copy(curve, out / "training" / f"{one.subject.name}-{name}.jsonl")
    write_curves(out, measured)
    draft = out / "result.json.draft"
    draft.write_text(json.dumps(result, indent=1))
    os.replace(draft, out / "result.json")


def _write_trials(folder: Path, subject: Subject) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for asked in subject.questions:
        seen, layout = subject.load(asked)
        part = np.full(len(layout.session), "training", "U8")
        part[layout.later], part[layout.new] = "later", "new"
        told = {
            row.name: read_outcome(subject.outcome_file(asked, row)).pooled.probability.astype(np.float32)
            for row in subject.rows
        }
        told |= {f"observer_{name}": value.astype(np.float32) for name, value in seen.observers.items()}
        kept = {name: getattr(seen.trials, name) for name in KEPT}
        np.savez_compressed(folder / f"{subject.name}-{'-'.join(asked)}.npz", part=part, **kept, **told)


def _write_embeddings(folder: Path, subject: Subject) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for asked in subject.questions:
        with np.load(subject.embedded_file(asked, "mae")) as stored:
            mean = stored["mean"].astype(np.float16)
        np.savez_compressed(folder / f"{subject.name}-{'-'.join(asked)}.npz", embedding=mean)
    shutil.copy(subject.resting_file("mae"), folder / f"{subject.name}-rest.npz")


def write_curves(out: Path, measured: list[Measured]) -> None:
    few = [
        (one.subject.name, *asked, name, labels, numbers["balanced_accuracy"], *numbers["interval"])
        for one in measured
        for asked, found in one.questions.items()
        for labels, rows in found.few.items()
        for name, numbers in ((name, scored.numbers) for name, scored in rows.items())
    ]
    _csv(out / "label_efficiency.csv", "participant protocol probe row labels balanced_accuracy low high", few)
    bins = [
        (one.subject.name, *asked, where, name, bin["trials"], bin["said"], bin["found"], *bin["interval"])
        for one in measured
        for asked, found in one.questions.items()
        for where, rows in found.rows.items()
        for name, scored in rows.items()
        for bin in scored.numbers["reliability"]
    ]
    _csv(out / "reliability.csv", "participant protocol probe tested_on row trials said found low high", bins)


def _csv(file: Path, columns: str, rows: list[tuple[Any, ...]]) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns.split())
        writer.writerows(rows)
