"""The figures of an experiment's report, as inline SVG that needs no font and no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from streaming.participant.anatomy import GRID, Anatomy
from streaming.scoring import wilson
from training.closed_loop import Row, Walked, mean_odds
from training.drawing import AMBER, BLUE, INK, LINE, QUIET, STYLE, svg

COLOURS = {"favourable": BLUE, "unfavourable": "#8e5ea2", "random": AMBER, "open_loop": "#7a8794"}
IDEAL, NOBODY, SHAM = "#2f855a", "#97a3b0", "#c53030"


def figures(result: dict[str, Any], walked: Sequence[Walked], anatomy: Anatomy, smoothing_s: float) -> dict[str, str]:
    """Name → SVG."""
    rows = [row for one in walked for row in one.rows]
    with matplotlib.rc_context(STYLE):
        return {
            "hits": svg(_hits(result), "hits"),
            "array": svg(_array(result, anatomy), "array"),
            "timeline": svg(_timeline(result, walked[0], smoothing_s), "timeline"),
            "reliability": svg(_reliability(result), "reliability"),
            "waits": svg(_waits(result, rows), "waits"),
        }


def _colour(arm: str) -> str:
    return COLOURS.get(arm, QUIET)


def _hits(result: dict[str, Any]) -> Figure:
    """One row for each arm, the yardstick, the participant whose state does not matter, and the shams."""
    lines: list[tuple[str, dict[str, Any], str, float | None]] = []
    for name, arm in result["arms"].items():
        lines.append((name, arm, _colour(name), arm["expected_rate"]))
    if "window" in (result.get("ideal") or {}):
        lines.append(("ideal observer, same rate", result["ideal"]["window"], IDEAL, None))
    for name, arm in result.get("state_does_not_matter", {}).get("arms", {}).items():
        lines.append((f"{name}, state does not matter", arm, NOBODY, None))
    shams = [arm["shams"] for arm in result["arms"].values()]
    hits, trials = sum(one["hits"] for one in shams), sum(one["trials"] for one in shams)
    if trials:
        both = {"rate": hits / trials, "interval": wilson(hits, trials), "trials": trials}
        lines.append(("shams, all arms", both, SHAM, None))
    figure = Figure(figsize=(7.4, 0.62 * len(lines) + 0.75), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, one, colour, expected) in enumerate(lines):
        if one["rate"] is None:
            continue
        low, high = (100 * edge for edge in one["interval"])
        axes.plot([low, high], [place, place], color=colour, lw=3.5, alpha=0.45, solid_capstyle="round")
        axes.plot(100 * one["rate"], place, "o", color=colour, ms=9, clip_on=False)
        if expected is not None:
            axes.plot([100 * expected] * 2, [place - 0.26, place + 0.26], color=INK, lw=1.2)
        axes.text(high + 1.5, place, f"{100 * one['rate']:.1f} %", va="center", fontweight="bold", color=colour)
        axes.text(134, place, f"n = {one['trials']}", va="center", ha="right", color=QUIET, fontsize=9)
    axes.set_yticks(range(len(lines)), [name for name, *_ in lines])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set(xlim=(0, 134), xticks=range(0, 101, 20), ylim=(len(lines) - 0.45, -0.55), xlabel="perceived, %")
    axes.grid(axis="x", color=LINE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    return figure


def _array(result: dict[str, Any], anatomy: Anatomy) -> Figure:
    figure = Figure(figsize=(3.7, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for column, row in anatomy.column_row:
        axes.add_patch(Rectangle((column - 0.42, row - 0.42), 0.84, 0.84, fc="#eef1f4", ec="none"))
    for electrode, threshold in result["experiment"]["threshold_ua"].items():
        column, row = anatomy.column_row[int(electrode) - 1]
        axes.add_patch(Rectangle((column - 0.42, row - 0.42), 0.84, 0.84, fc=COLOURS["favourable"], ec="none"))
        axes.text(column, row, electrode, ha="center", va="center", color="white", fontsize=9, fontweight="bold")
        inside = dict(facecolor="white", edgecolor="none", alpha=0.85, pad=1.2)
        axes.text(column, row + 0.78, f"{threshold:.0f} µA", ha="center", va="center", fontsize=8.5, bbox=inside)
    axes.set(xlim=(-0.7, GRID - 0.3), ylim=(GRID - 0.1, -0.7), aspect="equal")
    axes.axis("off")
    return figure


def _timeline(result: dict[str, Any], first: Walked, smoothing_s: float) -> Figure:
    """Probability, its running mean and the hidden state of the first session, with its pulses."""
    figure = Figure(figsize=(11.2, 3.5), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.1, 1))
    told = result["experiment"]["thresholds"]
    seen = [(at, p) for at, p, _ in first.excerpt]
    times = np.array([at for at, _ in seen])
    raw = np.array([np.nan if p is None else p for _, p in seen])
    means = np.array([np.nan if m is None else 1 / (1 + np.exp(-m)) for _, m in mean_odds(seen, smoothing_s)])
    axes.plot(times, raw, color=COLOURS["favourable"], lw=0.5, alpha=0.28, label="each window")
    axes.plot(times, means, color=COLOURS["favourable"], lw=1.6, label="running mean")
    axes.axhline(told["p_on"], color=INK, lw=0.9, ls=(0, (4, 3)))
    axes.text(times[-1] if len(times) else 0, told["p_on"], " threshold", va="center", fontsize=9)
    below.plot(times, [state for *_, state in first.excerpt], color=QUIET, lw=1.1)
    end = times[-1] if len(times) else 0.0
    marked: set[str] = set()
    for row in first.rows:
        at = row.onset_sample / 30_000.0
        if at > end:
            break
        colour = _colour(row.arm)
        for one in (axes, below):
            one.axvline(at, color=colour, lw=0.9, alpha=0.75, ls=":" if row.sham else "-")
        kind = row.arm + (", sham" if row.sham else "")
        axes.plot(
            at, 1.07, "o", ms=7, mec=colour, mfc=colour if row.perceived else "white", mew=1.5, clip_on=False,
            label=kind if kind not in marked and not row.sham else None,
        )  # fmt: skip
        marked.add(kind)
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.27), ncols=6, frameon=False, fontsize=9, handlelength=1.6)
    axes.text(1, 1.2, "filled: perceived   open: missed   dotted: sham", transform=axes.transAxes, ha="right",
              fontsize=9, color=QUIET)  # fmt: skip
    start = 10.0 if end > 12 else 0.0
    axes.set(ylim=(0, 1.0), ylabel="probability", xlim=(start, end or 1.0))
    axes.set_yticks([0, 0.5, 1])
    below.set(ylabel="state, sd", xlabel="seconds of the session")
    below.grid(axis="y", color=LINE, lw=0.8)
    return figure


def _reliability(result: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(5.4, 3.9), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=LINE, lw=1.4)
    for one in result["reliability"]["bins"]:
        axes.plot([one["probability"]] * 2, one["interval"], color=COLOURS["favourable"], lw=3, alpha=0.4)
        axes.plot(one["probability"], one["rate"], "o", color=COLOURS["favourable"], ms=7)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability at the decision", ylabel="perceived")
    axes.grid(color=LINE, lw=0.6)
    axes.set_axisbelow(True)
    return figure


def _waits(result: dict[str, Any], rows: Sequence[Row]) -> Figure:
    """The share of trials that have waited longer, on a logarithmic axis of shares."""
    figure = Figure(figsize=(5.4, 3.9), layout="constrained")
    axes = figure.add_subplot()
    for arm in result["arms"]:
        waits = np.sort([row.waited_s for row in rows if row.arm == arm])
        left = 100 * (1 - np.arange(len(waits)) / len(waits))
        mean = result["arms"][arm]["wait_s"]["mean"]
        axes.step(waits, left, where="pre", color=_colour(arm), lw=1.8, label=f"{arm}: {mean:.1f} s in the mean")
    longest = max(float(np.percentile([row.waited_s for row in rows], 99.5)), 1.0)
    axes.set(xlim=(0, longest), ylim=(0, 100), xlabel="seconds", ylabel="still waiting, %")
    axes.grid(color=LINE, lw=0.6)
    axes.legend(frameon=False, fontsize=9.5)
    return figure
