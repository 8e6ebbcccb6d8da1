"""What calibration found, for the person who must decide whether to activate it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from training.calibrate import Calibration
from training.calibrated_bundle import ROWS
from training.drift_reference import LEAST_S
from training.readout import percent


def show(found: Calibration, console: Console | None = None) -> None:
    console = console or Console()
    say = lambda line: console.print(line, highlight=False, soft_wrap=True)  # noqa: E731
    table = Table("balanced accuracy, % [95 % interval]", *found.probes)
    for row, words in ROWS.items():
        name = f"{words} ({found.parent.full_name})" if row == "parent" else words
        table.add_row(name, *(percent(one.metrics.get(row)) for one in found.probes.values()))
    console.print(table)
    for name, one in found.probes.items():
        say(f"{name}: {len(one.trials)} trials, {one.trials.perceived.sum()} perceived; scored on {one.how}")
        say(f"  {_verdict(found, name)}")
    for why in found.left_out.values():
        say(f"left out: {why}")
    if found.drift is None:
        say(f"drift: not measured with this bundle; it takes recordings of {LEAST_S / 60:g} minutes or more in all")
    if found.seen_before:
        say(f"{found.parent.full_name} was itself fitted to some of these trials: its score here flatters it")
    version = found.bundle.name
    say(f"written: {found.bundle}; activate it with: POST /v1/models/{found.bundle.parent.name}@{version}/activate")


def _verdict(found: Calibration, name: str) -> str:
    metrics = found.probes[name].metrics
    if metrics["probe"]["interval"][0] <= 0.5:
        verdict = "not above chance on these trials: do not rely on it"
    elif metrics["gain_over_stimulus_only"]["interval"][0] <= 0:
        verdict = "above chance, but not surely above knowing electrode and current"
    else:
        verdict = "above chance, and above knowing electrode and current"
    if "gain_over_parent" in metrics and metrics["gain_over_parent"]["balanced_accuracy"] < 0:
        verdict += f"; {found.parent.full_name} did better on them"
    return verdict
