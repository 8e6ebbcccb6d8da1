"""Every kind of row beside chance and the ideal observer: one picture for each group."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.drawing import INK, LINE, QUIET
from training.report.drawn import Drawn
from training.report.palette import IDEAL, NAMES, colour, marker
from training.report.parts import Part
from training.report.result import Result, tested, words
from training.report.table1 import Columns, columns_of

# what a sceptic asks for, from the strongest baseline to what needs no cortex
ROWS = (
    "raw_mua", "pca", "pca_rest", "mae", "mae_place_slow", "mae_served", "log_variance", "lagged_covariances_slow",
    "statistics_slow", "supervised", "untrained", "untrained_place_slow", "time_shuffled",
    "time_shuffled_place_slow", "no_cross_session", "no_cross_session_place_slow",
    "electrodes_permuted_place_slow", "electrodes_removed_place_slow", "electrodes_removed_served", "stimulus",
    "prior", "running_rate", "time_of_trial", "mae_place_slow_and_stimulus",
)  # fmt: skip
COLUMNS = ("question", "tested_on", "row", "balanced_accuracy", "low", "high")


def part(result: Result) -> Part:
    drawn = [_drawn(k, group, columns_of(protocols)) for k, (group, protocols) in enumerate(result.groups.items())]
    note = (
        "The dotted line is chance, the dashed one the ideal observer of the same window, with its interval in grey. A "
        "row whose bar crosses the dotted line is not shown to know anything. Controls that do as well as the encoder "
        "take its merit away: an untrained one, one trained on shuffled time, the stimulus alone, the last reports."
    )
    return Part("rows", "Scores, rivals and controls", note, drawn)


def _drawn(place: int, group: str, columns: Columns) -> Drawn:
    there = [name for name in ROWS if any(name in tested(one["rows"])[1] for one in columns.values())]
    figure = Figure(figsize=(11.2, 0.27 * len(there) + 1.1), layout="constrained")
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    points: list[tuple[Any, ...]] = []
    for axes, (asked, one) in zip(panels, columns.items(), strict=True):
        where, rows = tested(one["rows"])
        axes.set_title(words(*asked, between="\n"), fontsize=10, loc="left", color=INK)
        _panel(axes, rows, there)
        points += [
            (words(*asked), where, name, rows[name]["balanced_accuracy"], *(rows[name]["interval"] or ("", "")))
            for name in [*there, IDEAL]
            if name in rows
        ]
    figure.suptitle(group, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    return Drawn(f"scores-{place + 1}", figure, COLUMNS, points, {"group": group})


def _panel(axes: Axes, rows: dict[str, Any], there: list[str]) -> None:
    axes.axvline(50, color=QUIET, lw=1, ls=":")
    if (ideal := rows.get(IDEAL)) is not None:
        if ideal["interval"]:
            axes.axvspan(*(100 * end for end in ideal["interval"]), color=LINE, alpha=0.7, lw=0)
        axes.axvline(100 * ideal["balanced_accuracy"], color=INK, lw=1, ls=(0, (5, 3)))
    for place, name in enumerate(there):
        one = rows.get(name)
        if one is None or one["interval"] is None:
            continue
        low, high = (100 * end for end in one["interval"])
        axes.plot([low, high], [place, place], color=colour(name), lw=3, alpha=0.4, solid_capstyle="round")
        axes.plot(100 * one["balanced_accuracy"], place, marker(name), color=colour(name), ms=6)
    axes.set_yticks(range(len(there)), [NAMES[name] for name in there])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set(ylim=(len(there) - 0.4, -0.6), xlabel="balanced accuracy, %")
    axes.grid(axis="x", color=LINE, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
