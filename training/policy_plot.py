"""The table of `phosphene evaluate-policy` as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from training.drawing import INK, LINE, QUIET, STYLE
from training.experiment_figures import COLOURS


def plot(result: dict[str, Any], path: Path) -> None:
    """Hit rate of the trials that pass, and how often the trigger would have fired, over the threshold."""
    rows, every = result["thresholds"], result["all_trials"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 6.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.7, 1))
        if every["trials"]:
            low, high = (100 * edge for edge in every["interval"])
            above.axhspan(low, high, color=COLOURS["random"], alpha=0.18, lw=0)
            label = f"all trials (random arm), n = {every['trials']}"
            above.axhline(100 * every["rate"], color=COLOURS["random"], lw=1.6, label=label)
        first = True
        for row in rows:
            one = row["passing"]
            if not one["trials"]:
                continue
            edges = [100 * edge for edge in one["interval"]]
            above.plot([row["p_on"]] * 2, edges, color=COLOURS["favourable"], lw=3.5, alpha=0.45)
            label = "trials that pass, Wilson 95 %" if first else None
            above.plot(row["p_on"], 100 * one["rate"], "o", ms=8, color=COLOURS["favourable"], label=label)
            above.text(row["p_on"], edges[1] + 3.5, f"n {one['trials']}", ha="center", fontsize=8.5, color=QUIET)
            if row["stimulus_only"] is not None:
                label = "the same trials by electrode and current alone" if first else None
                above.plot(row["p_on"], 100 * row["stimulus_only"], "_", ms=15, mew=2, color=INK, label=label)
            first = False
        above.set(ylim=(0, 112), ylabel="perceived, %", title=f"What the trigger would have done ({result['model']})")
        above.set_yticks(range(0, 101, 20))
        if every["trials"]:
            above.legend(frameon=False, fontsize=9, loc="lower left")
        places = [row["p_on"] for row in rows]
        below.plot(places, [row["per_minute"] or 0.0 for row in rows], "o-", color=COLOURS["favourable"], ms=6)
        below.set(xlabel="threshold p_on", ylabel="would fire, per minute", ylim=(0, None))
        below.set_xticks(places)
        for axes in (above, below):
            axes.grid(axis="y", color=LINE, lw=0.8)
            axes.set_axisbelow(True)
        figure.savefig(path, dpi=130)
