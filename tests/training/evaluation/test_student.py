"""What a student costs: one small participant from rest to the table, and what is compared with what."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from models.errors import OperatorFault
from models.networks.flops import flops
from server.cli import run
from training.distill_settings import DistillSettings
from training.evaluation.outcomes import Layout
from training.evaluation.settings import QUICK, Stimulation
from training.evaluation.student import READ_BY_TEACHERS, STUDENT, TEACHER, Distilled, StudentWork, foretold
from training.evaluation.student_report import evaluate_student, show

ASKED = Distilled(
    replace(QUICK, seeds=(506,), control_seeds=(), steps=10, many=Stimulation(2, 40, 1, 60, 1)),
    distillation=DistillSettings(steps=20, batch=16, windows=200, validation_windows=50, validate_every=10),
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("student")
    evaluate_student(out, ASKED, 1)
    return out


def test_one_participant_from_rest_to_the_table(out: Path):
    result = json.loads((out / "student.json").read_text())
    assert result["compute"] == pytest.approx(flops(ASKED.teacher) / flops(ASKED.config))
    one = result["participants"]["mixed-506"]
    assert one["teacher"]["step"] == 10
    assert one["student"]["step"] in (10, 20)
    for probe in ("prestimulus", "evoked"):
        rows = one[probe]["rows"]
        assert rows.keys() == {TEACHER, STUDENT, READ_BY_TEACHERS, "observer_window"}
        assert len({row["trials"] for row in rows.values()}) == 1  # the same trials, all of a new session
        less = one[probe]["less_teacher"][STUDENT]
        expected = rows[STUDENT]["balanced_accuracy"] - rows[TEACHER]["balanced_accuracy"]
        assert less["balanced_accuracy"] == pytest.approx(expected)
        assert less["interval"][0] <= expected <= less["interval"][1]
        together = result["together"][probe]["less_teacher"][STUDENT]
        assert together["balanced_accuracy"] == pytest.approx(expected)  # of one participant
    console = Console(record=True, width=120, file=open("/dev/null", "w"))  # noqa: SIM115
    show(result, console)
    assert "student, teacher's probe" in console.export_text()


def test_what_is_done_is_not_done_again(out: Path):
    """Everything stands; a longer distillation is another student of the same teacher."""
    work = StudentWork(ASKED, "mixed", 506, out / "cache" / "mixed-506")
    assert all(step.done for step in work.steps())
    assert not any(one.is_dir() for one in work.folder.glob("resting-*"))  # gigabytes, at full size
    longer = replace(work, asked=replace(ASKED, distillation=replace(ASKED.distillation, steps=30)))
    kinds = [step.kind for step in longer.steps() if not step.done]
    assert kinds == ["distillation", "embeddings", "embeddings"]


def test_each_probe_reads_what_it_is_said_to_read():
    """A student whose embedding is its teacher's turned round: good for a probe of its own, the opposite to its
    teacher's."""
    rng = np.random.default_rng(0)
    perceived = rng.random(400) < 0.5
    teacher = np.where(perceived, 1.0, -1.0)[:, None] + 0.1 * rng.standard_normal((400, 3))
    layout = Layout.of(np.full(400, "s"), perceived, np.arange(400) >= 300)
    told = foretold({TEACHER: teacher, STUDENT: -teacher}, layout)
    right = {name: ((one.probability > one.threshold) == perceived)[layout.new].mean() for name, one in told.items()}
    assert right == {TEACHER: 1.0, STUDENT: 1.0, READ_BY_TEACHERS: 0.0}


def test_presets_that_are_not_there_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    with pytest.raises(OperatorFault, match="no preset 'huge'; there are: paper"):
        evaluate_student(tmp_path, replace(ASKED, student="huge"), 1)
    assert run(["evaluate-student", "--teacher", "huge", "--out", str(tmp_path)]) == 2
    assert run(["evaluate-student", "--participants", "x", "--out", str(tmp_path)]) == 2
    assert "expected seeds such as 501-505" in capsys.readouterr().err
