"""How many labels each way of reading needs."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from training.drawing import INK, LINE, QUIET
from training.report.drawn import Drawn
from training.report.palette import IDEAL, NAMES, colour, marker
from training.report.parts import Part, table
from training.report.result import Result, tested, words
from training.report.table1 import Columns, columns_of, score

ROWS = (
    "raw_mua",
    "pca",
    "mae",
    "mae_place_slow",
    "mae_served",
    "log_variance",
    "statistics_slow",
    "supervised",
    "stimulus",
)
COLUMNS = ("question", "row", "labels", "balanced_accuracy", "low", "high")


def part(result: Result) -> Part:
    drawn, folded = [], []
    for k, (group, protocols) in enumerate(result.groups.items()):
        columns = {asked: one for asked, one in columns_of(protocols).items() if one["few_labels"]}
        if columns:
            drawn.append(_drawn(k, group, columns))
            folded += [(f"{group}: {words(*asked)}", _table(one["few_labels"])) for asked, one in columns.items()]
    note = (
        "Each point is fitted to so many consecutive trials (the mean over a few stretches) and tested on the same "
        "trials as the table. Bars are 95 % intervals over the tested trials; the dotted line is chance, the dashed "
        "one the ideal observer of the same window."
    )
    missing = "" if drawn else "No fits to few labels in this result."
    return Part("labels", "How many labels it takes", note, drawn, folded=folded, missing=missing)


def _drawn(place: int, group: str, columns: Columns) -> Drawn:
    figure = Figure(figsize=(11.2, 3.6), layout="constrained")
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    points: list[tuple[Any, ...]] = []
    shown: dict[str, Any] = {}
    for axes, (asked, one) in zip(panels, columns.items(), strict=True):
        few = {int(labels): rows for labels, rows in one["few_labels"].items()}
        for k, name in enumerate(ROWS):
            line = [(n, rows[name]) for n, rows in sorted(few.items()) if name in rows]
            if not line:
                continue
            at = [n * 1.03 ** (k - len(ROWS) / 2) for n, _ in line]  # beside each other, so that bars can be told apart
            height = [100 * found["balanced_accuracy"] for _, found in line]
            for x, (_, found) in zip(at, line, strict=True):
                axes.plot([x, x], [100 * end for end in found["interval"]], color=colour(name), lw=1.4, alpha=0.5)
            width = 2.0 if name.startswith("mae") else 1.3
            (shown[name],) = axes.plot(at, height, marker(name), ls="-", color=colour(name), ms=5, lw=width)
            points += [(words(*asked), name, n, found["balanced_accuracy"], *found["interval"]) for n, found in line]
        ideal = tested(one["rows"])[1].get(IDEAL)
        if ideal is not None:
            axes.axhline(100 * ideal["balanced_accuracy"], color=INK, lw=1, ls=(0, (5, 3)))
        axes.axhline(50, color=QUIET, lw=1, ls=":")
        axes.set(xscale="log", xlabel="labels")
        axes.set_title(words(*asked, between="\n"), fontsize=10, loc="left", color=INK)
        axes.set_xticks(sorted(few), [f"{n}" for n in sorted(few)])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(axis="y", color=LINE, lw=0.7)
    panels[0].set_ylabel("balanced accuracy, %")
    figure.legend(
        shown.values(), [NAMES[name] for name in shown], loc="outside right center", frameon=False, fontsize=9
    )
    figure.suptitle(group, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    return Drawn(f"labels-{place + 1}", figure, COLUMNS, points, {"group": group})


def _table(few: dict[str, Any]) -> str:
    counts = sorted(few, key=int)
    names = [name for name in NAMES if any(name in few[n] for n in counts)]
    lines = [[NAMES[name], *(score(few[n].get(name)) for n in counts)] for name in names]
    return table(["labels", *counts], lines, "scores")
