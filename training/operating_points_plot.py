"""The operating points as a picture and a table: latency against balanced accuracy."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from training.drawing import INK, LINE, QUIET, STYLE, svg

COLOURS = ("#1f6fb2", "#b7791f", "#2f855a", "#8e5ea2", "#c53030", "#5d6b7c")
MARKS = {"float32": "o", "int8": "s"}
IDEAL = "#2f855a"


def plot(found: dict[str, Any], out: Path) -> None:
    """`out`/points.svg and points.csv."""
    with (out / "points.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(found["points"][0]))
        table.writeheader()
        table.writerows(found["points"])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2 * len(found["observers"]), 4.6), layout="constrained")
        every = figure.subplots(1, len(found["observers"]), sharex=True, sharey=True, squeeze=False)[0]
        for axes, observer in zip(every, found["observers"], strict=True):
            _participant(
                axes, observer, [one for one in found["points"] if one["participant"] == observer["participant"]]
            )
        every[0].set_ylabel("balanced accuracy, %")
        every[-1].legend(frameon=False, fontsize=8.5, loc="lower right")
        (out / "points.svg").write_text(svg(figure, "points"))


def _participant(axes: Any, observer: dict[str, Any], points: list[dict[str, Any]]) -> None:
    ideal = 100 * observer["balanced_accuracy"]
    axes.axhline(ideal, color=IDEAL, lw=1.4)
    axes.text(0.99, ideal + 0.2, "ideal observer of the window", color=IDEAL, fontsize=8.5,
              transform=axes.get_yaxis_transform(), ha="right", va="bottom")  # fmt: skip
    axes.axhline(50, color=QUIET, lw=1, ls=":")
    networks = list(dict.fromkeys(one["network"] for one in points))
    for one in points:
        colour = COLOURS[networks.index(one["network"]) % len(COLOURS)]
        low, high = (100 * end for end in one["interval"])
        axes.plot([one["p50_ms"]] * 2, [low, high], color=colour, alpha=0.3, lw=2)
        first = one["share"] == 1 and one["precision"] == "int8"
        axes.plot(one["p50_ms"], 100 * one["balanced_accuracy"], MARKS[one["precision"]], color=colour, ms=7,
                  mfc=colour if one["share"] == 1 else "none", label=one["network"] if first else None)  # fmt: skip
        if one["share"] < 1:
            axes.annotate(f"{one['share']:.0%}", (one["p50_ms"], 100 * one["balanced_accuracy"]), (4, -9),
                          textcoords="offset points", fontsize=7, color=QUIET)  # fmt: skip
    best, frontier = 0.0, []
    for one in sorted(points, key=lambda one: one["p50_ms"]):
        if one["balanced_accuracy"] > best:
            best = one["balanced_accuracy"]
            frontier.append((one["p50_ms"], 100 * best))
    axes.step(*zip(*frontier, strict=True), where="post", color=INK, lw=0.9, ls="--")
    axes.set(xscale="log", xlabel="inference, ms (half of all windows)", title=observer["participant"])
    axes.grid(color=LINE, lw=0.8)
    axes.set_axisbelow(True)
