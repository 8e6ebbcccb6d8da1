"""phosphene evaluate: the whole table, its controls and its intervals."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from models.errors import OperatorFault


def evaluate(
    checkpoint: Annotated[Path | None, typer.Argument(help="Of `phosphene pretrain`; none with --simulated.")] = None,
    data: Annotated[list[Path] | None, typer.Argument(help="Sessions with trials, or folders of them.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the result; an ended evaluation goes on there.")] = Path(
        "runs/evaluation"
    ),
    new: Annotated[list[Path] | None, typer.Option(help="Sessions that are only tested on; again for more.")] = None,
    rest: Annotated[list[Path] | None, typer.Option(help="Resting sessions; again for more.")] = None,
    controls: Annotated[bool, typer.Option("--controls", help="Also train the controls' encoders, on --rest.")] = False,
    same_dates: Annotated[
        bool, typer.Option("--same-dates", help="Allow test dates inside the encoder's training range.")
    ] = False,
    simulated: Annotated[bool, typer.Option("--simulated", help="Of simulated participants, pretraining too.")] = False,
    participants: Annotated[str, typer.Option(help="Seeds of simulated ones, FIRST-LAST or with commas.")] = "501-505",
    with_controls: Annotated[
        str, typer.Option(help="Seeds of those who get every control; none with an empty word.")
    ] = "506",
    codes: Annotated[str, typer.Option(help="Their state codes, with commas.")] = "mixed,power,linear",
    preset: Annotated[str | None, typer.Option(help="Their encoder.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of pretraining, each encoder's.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One small simulated participant, in a minute or two.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Draw the report in --out again, from the files that lie there.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what will be computed and how long it takes.")] = False,
    cores: Annotated[int | None, typer.Option(min=1, help="How many to use; all by default.")] = None,
) -> None:
    """Is the encoder worth it? Balanced accuracies with intervals, beside every rival, control and ideal observer."""
    from rich.console import Console

    from training.evaluation import main
    from training.evaluation.settings import QUICK_MEASURES, Measures, Simulated
    from training.evaluation.settings import quick as small
    from training.evaluation.show import show

    if report_only:
        print(main.write_report(out), file=sys.stderr)
        return
    n = cores or os.cpu_count() or 1
    if not simulated:
        if checkpoint is None or not data:
            raise OperatorFault("name a checkpoint and sessions with trials, or --simulated")
        result = main.evaluate_recorded(
            out, checkpoint, data, new or [], rest or [], Measures(), n, controls, same_dates, plan_only=plan
        )
    else:
        if checkpoint is not None or new or rest or controls or same_dates:
            raise OperatorFault("--simulated makes its own sessions and encoders; leave out recordings and checkpoints")
        asked = {"seeds": _seeds(participants), "control_seeds": _seeds(with_controls)}
        study = Simulated(**asked, codes=tuple(code.strip() for code in codes.split(",")))
        if preset is not None:
            study = replace(study, preset=preset, network={})
        if steps is not None:
            study = replace(study, steps=steps)
        measures = QUICK_MEASURES if quick else Measures()
        result = main.evaluate_simulated(out, small(study) if quick else study, measures, n, plan_only=plan)
    if result is not None:
        show(result, Console())
        print(f"{out / 'result.json'}\n{out / 'report.html'}", file=sys.stderr)


def evaluate_student(
    out: Annotated[Path, typer.Option(help="Folder of the result; an ended evaluation goes on there.")] = Path(
        "runs/student"
    ),
    participants: Annotated[str, typer.Option(help="Seeds of simulated ones, FIRST-LAST or with commas.")] = "511-512",
    codes: Annotated[str, typer.Option(help="Their state codes, with commas.")] = "mixed,power",
    teacher: Annotated[str | None, typer.Option(help="Its preset; tiny of one token a channel by default.")] = None,
    teacher_steps: Annotated[int | None, typer.Option(min=1, help="Of its pretraining.")] = None,
    student: Annotated[str, typer.Option(help="Its preset.")] = "pico",
    steps: Annotated[int | None, typer.Option(min=1, help="Of distillation.")] = None,
    windows: Annotated[int | None, typer.Option(min=1, help="That the teacher reads for its student.")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="How many to use; all by default.")] = None,
) -> None:
    """What does a student cost? It and its teacher on the same trials of simulated participants."""
    from rich.console import Console

    from training.distill_settings import DistillSettings
    from training.evaluation.settings import Simulated
    from training.evaluation.student import MANY, Distilled
    from training.evaluation.student_report import evaluate_student, show

    simulated = Simulated(_seeds(participants), (), tuple(code.strip() for code in codes.split(",")), many=MANY)
    if teacher is not None:
        simulated = replace(simulated, preset=teacher, network={})
    if teacher_steps is not None:
        simulated = replace(simulated, steps=teacher_steps)
    chosen = {"steps": steps, "windows": windows}
    settings = replace(DistillSettings(), **{name: value for name, value in chosen.items() if value is not None})
    result = evaluate_student(out, Distilled(simulated, student, distillation=settings), cores or os.cpu_count() or 1)
    show(result, Console())
    print(f"{out / 'student.json'}", file=sys.stderr)


def _seeds(text: str) -> tuple[int, ...]:
    if not text.strip():
        return ()
    try:
        first, dash, last = text.partition("-")
        found = range(int(first), int(last) + 1) if dash else map(int, text.split(","))
        return tuple(dict.fromkeys(found))
    except ValueError:
        raise OperatorFault(f"participants {text}: expected seeds such as 501-505 or 501,507") from None


COMMANDS = (evaluate, evaluate_student)
