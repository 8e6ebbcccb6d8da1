"""`phosphene evaluate-student`: is a student worth its teacher? One JSON, one table."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from models.errors import OperatorFault
from models.manifest import PROBES
from models.networks.flops import flops
from models.networks.masked_autoencoder import PRESETS
from training.checkpoints import load_encoder
from training.evaluation.main import machine
from training.evaluation.scores import NEW, Question, compared, together, together_compared
from training.evaluation.steps import core_seconds
from training.evaluation.student import READ_BY_TEACHERS, STUDENT, TEACHER, Distilled, StudentWork, scored
from training.evaluation.study import check
from training.evaluation.work import do
from training.workers import in_order

ROWS = (TEACHER, STUDENT, READ_BY_TEACHERS)
KEPT = ("balanced_accuracy", "interval", "efficiency", "auc", "brier", "trials", "perceived")


def evaluate_student(out: Path, asked: Distilled, cores: int) -> dict[str, Any]:
    """Makes what is missing under `out/cache`, and `out/student.json` of it.

    Raises:
        OperatorFault: an unknown preset, or settings that it does not have.
    """
    check(asked.simulated)
    if asked.student not in PRESETS:
        raise OperatorFault(f"no preset {asked.student!r}; there are: {', '.join(PRESETS)}")
    works = [
        StudentWork(asked, code, seed, out / "cache" / f"{code}-{seed}")
        for code, seed, _ in asked.simulated.participants()
    ]
    for _ in in_order(do, works, cores):
        pass
    found = {f"{one.code}-{one.seed}": {probe: scored(one, probe) for probe in PROBES} for one in works}
    teacher, student = flops(asked.teacher), flops(asked.config)
    result = {
        "made": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "core_seconds": core_seconds(step for work in works for step in work.steps()),
        "asked": asdict(asked),
        "teacher": {"network": asdict(asked.teacher), "flops": teacher},
        "student": {"network": asdict(asked.config), "flops": student},
        "compute": teacher / student,
        "participants": {
            name: {"teacher": _chosen(one), "student": _curve(one.student)}
            | {probe: _numbers(each) for probe, each in found[name].items()}
            for name, one in zip(found, works, strict=True)
        },
        "together": {probe: _together([each[probe] for each in found.values()]) for probe in PROBES},
    }
    draft = out / "student.json.draft"
    draft.write_text(json.dumps(result, indent=1))
    os.replace(draft, out / "student.json")
    return result


def _chosen(work: StudentWork) -> dict[str, float]:
    """Which checkpoint the teacher is."""
    _, about = load_encoder(work.subject().encoders["mae"])
    return {name: about[name] for name in ("step", "held_out")}


def _curve(student: Path) -> dict[str, float]:
    """The validation that chose the checkpoint."""
    lines = [json.loads(line) for line in student.with_suffix(".jsonl").read_text().splitlines()]
    best = min(lines, key=lambda line: line["held_out"])
    return {name: best[name] for name in ("step", "held_out", "held_out_cosine", "explained")}


def _numbers(found: Question) -> dict[str, Any]:
    rows = found.rows[NEW]
    names = [name for name in (*ROWS, "observer_window") if name in rows]
    return {
        "rows": {name: {kept: rows[name].numbers.get(kept) for kept in KEPT} for name in names},
        "less_teacher": {name: compared(found, NEW, name, TEACHER) for name in ROWS[1:]},
    }


def _together(found: list[Question]) -> dict[str, Any]:
    rows = [one.rows[NEW] for one in found]
    ideal = [each["observer_window"] for each in rows]
    return {
        "rows": {name: together([each[name] for each in rows], ideal) for name in ROWS},
        "less_teacher": {
            name: together_compared([each[name] for each in rows], [each[TEACHER] for each in rows])
            for name in ROWS[1:]
        },
    }


def show(result: dict[str, Any], console: Console) -> None:
    """Per cent with 95 % intervals over trials."""
    title = f"student at 1/{result['compute']:.0f} of its teacher's operations, new sessions"
    table = Table("balanced accuracy, %", *(f"{probe}{what}" for probe in PROBES for what in ("", ", less teacher")))
    table.title = title
    for name in ROWS:
        cells = []
        for probe in PROBES:
            found = result["together"][probe]
            cells += [_percent(found["rows"][name]), _percent(found["less_teacher"].get(name))]
        table.add_row(name, *cells)
    console.print(table)


def _percent(found: dict[str, Any] | None) -> str:
    if found is None:
        return "–"
    low, high = found["interval"]
    return f"{100 * found['balanced_accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
