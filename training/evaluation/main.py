"""`phosphene evaluate`: the table, its controls and its intervals, for recorded or simulated participants."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models.networks.masked_autoencoder import MaeConfig
from training.evaluation import files
from training.evaluation.costs import cost_s
from training.evaluation.plan import measure, show
from training.evaluation.recorded import recorded
from training.evaluation.report import Measured, over_participants
from training.evaluation.settings import Measures, Simulated
from training.evaluation.steps import Step, core_seconds
from training.evaluation.study import check, network, settings
from training.evaluation.work import Work, beside, do, do_chain, simulated
from training.pretrain import PretrainSettings, load_encoder
from training.report.write import write_report
from training.workers import in_order

POLL_S = 1.0


def evaluate_simulated(
    out: Path, study: Simulated, measures: Measures, cores: int, plan_only: bool = False
) -> dict[str, Any] | None:
    """The whole table on simulated participants; goes on where it was ended.

    Raises:
        OperatorFault: an unknown preset, or settings that it does not have.
    """
    check(study)
    works = simulated(study, measures, out / "cache")
    if plan_only:
        return _plan(works, network(study), settings(study, "mae"), cores)
    return _evaluate(out, works, measures, cores, {"simulated": asdict(study)})


def evaluate_recorded(
    out: Path,
    checkpoint: Path,
    data: list[Path],
    new: list[Path],
    rest: list[Path],
    measures: Measures,
    cores: int,
    controls: bool = False,
    same_dates: bool = False,
    plan_only: bool = False,
) -> dict[str, Any] | None:
    """The same table on a scientist's own recordings and checkpoint; see `recorded`."""
    work = recorded(checkpoint, data, new, rest, measures, out / "cache", controls, same_dates)
    _, about = load_encoder(checkpoint)
    if plan_only:
        training = PretrainSettings(**about["training"])
        return _plan([work], MaeConfig(**about["network"]), training, cores)
    kept = {name: about[name] for name in ("network", "training", "step", "held_out") if name in about}
    given = {"sessions": [path.name for path in data], "new": [path.name for path in new]}
    given |= {"rest": [path.name for path in rest] or "the spontaneous stretches of the training part"}
    return _evaluate(out, [work], measures, cores, {"checkpoint": kept, "recorded": given, "same_dates": same_dates})


def _plan(works: list[Work], network: MaeConfig, training: PretrainSettings, cores: int) -> None:
    show([work.steps() for work in works], measure(network, training), cores, Console())


def _evaluate(out: Path, works: list[Work], measures: Measures, cores: int, about: dict[str, Any]) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    _sweep(out / "cache")
    planned = [work.steps() for work in works]
    try:
        with _progress([step for steps in planned for step in steps], cores > 1):
            if len(works) == 1:
                for turn in beside(works[0]):
                    _all(in_order(do_chain, turn, cores))
            else:  # the longest first, so that no core is left with one at the end
                order = sorted(range(len(works)), key=lambda k: -sum(cost_s(step) for step in planned[k]))
                _all(in_order(do, [works[k] for k in order], cores))
    finally:
        _sweep(out / "cache")
    measured = [Measured(work.subject()) for work in works]
    result = about | {
        "made": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "core_seconds": core_seconds(step for steps in planned for step in steps),
        "measures": asdict(measures),
        "participants": {one.subject.name: one.participant for one in measured},
        "together": _together(measured),
    }
    files.write(out, result, measured)
    write_report(out)
    return result


def _all(turns: Iterator[None]) -> None:
    for _ in turns:
        pass


def _together(measured: list[Measured]) -> dict[str, Any]:
    """By state code, where participants are simulated; recorded ones stand by themselves."""
    groups: dict[str, list[Measured]] = {}
    for one in measured:
        groups.setdefault(one.subject.group, []).append(one)
    return {name: over_participants(group) for name, group in groups.items()}


def machine() -> dict[str, Any]:
    """On which, and with what, a result was made."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "numpy", "scikit-learn")},
    }


def _sweep(cache: Path) -> None:
    """What a kill left half written."""
    for draft in cache.glob("*/.draft-*"):
        draft.unlink()


@contextmanager
def _progress(steps: list[Step], shown: bool) -> Iterator[None]:
    """A bar that follows the files as they appear, whichever process makes them."""
    if not shown:
        yield
        return
    total = sum(cost_s(step) for step in steps)
    ended = threading.Event()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("evaluate", total=total)

        def follow() -> None:
            while not ended.wait(POLL_S):
                done = [step for step in steps if step.done]
                bar.update(
                    task,
                    completed=sum(cost_s(step) for step in done),
                    description=f"{len(done)} of {len(steps)} steps",
                )

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
