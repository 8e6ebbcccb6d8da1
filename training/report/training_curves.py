"""How pretraining went: the loss on sessions held out, of every encoder."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.drawing import INK, LINE, QUIET
from training.report.drawn import Drawn
from training.report.palette import DEEP, ORANGE, VERMILION
from training.report.parts import Part, stated, table
from training.report.result import Result

TITLE = "Pretraining"
STYLES = {"mae": (DEEP, "o"), "time_shuffled": (VERMILION, "D"), "no_cross_session": (ORANGE, "s")}
WORDS = {"mae": "the encoder", "time_shuffled": "trained on shuffled time", "no_cross_session": "no cross-session loss"}


def part(result: Result) -> Part:
    everyone = {name: result.curves(name) for name in result.numbers["participants"]}
    if not any(everyone.values()):
        return Part("pretraining", TITLE, "", missing="Encoders came trained; their curves are with their runs.")
    rows = [
        (who, name, int(line["step"]), line.get("training", float("nan")), line.get("held_out", float("nan")))
        for who, curves in everyone.items()
        for name, lines in curves.items()
        for line in lines
    ]
    note = (
        "Error on hidden parts of windows, in z², where 1 is what always saying the usual value gives. Full lines: "
        "sessions held out, of the last four dates; dotted: training batches. The checkpoint with the least is kept."
    )
    mine = everyone[result.shown]
    if mine.get("mae") and mine["mae"] == mine.get("no_cross_session"):
        note += " This preset has no cross-session loss: the control without it is the same encoder once more."
    return Part(
        "pretraining", TITLE, note, [_drawn(result.shown, everyone, rows)], folded=[("Least losses", _table(everyone))]
    )


def _drawn(shown: str, everyone: dict[str, Any], rows: list[tuple[Any, ...]]) -> Drawn:
    figure = Figure(figsize=(11.2, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name, lines in everyone[shown].items():
        colour, marker = STYLES.get(name, (QUIET, "o"))
        _line(left, lines, "held_out", color=colour, marker=marker, ms=4, lw=1.7, label=WORDS.get(name, name))
        _line(left, lines, "training", color=colour, lw=1, ls=":")
    for who, curves in everyone.items():
        if lines := curves.get("mae"):
            colour = DEEP if who == shown else QUIET
            _line(right, lines, "held_out", color=colour, lw=1.7 if who == shown else 1, alpha=0.9)
            right.text(
                lines[-1]["step"],
                lines[-1].get("held_out", float("nan")),
                f" {who}",
                fontsize=7.5,
                va="center",
                color=colour,
            )
    left.legend(frameon=False, fontsize=9)
    left.set_ylabel("error on hidden bins, z²")
    for axes, title in ((left, f"{shown}, every encoder"), (right, "the encoder of each participant")):
        axes.set_title(title, fontsize=10.5, loc="left", color=INK)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(color=LINE, lw=0.6)
    return Drawn("pretraining", figure, ("participant", "encoder", "step", "training", "held_out"), rows)


def _line(axes: Axes, lines: list[dict[str, float]], key: str, **how: Any) -> None:
    there = [line for line in lines if key in line]
    axes.plot([line["step"] for line in there], [line[key] for line in there], **how)


def _table(everyone: dict[str, Any]) -> str:
    lines = []
    for who, curves in everyone.items():
        for name, each in curves.items():
            best = min((line for line in each if "held_out" in line), key=lambda line: line["held_out"], default=None)
            if best:
                lines.append([who, WORDS.get(name, name), stated(best["held_out"], digits=4), str(best["step"])])
    return table(("participant", "encoder", "least error on held-out sessions", "at step"), lines)
