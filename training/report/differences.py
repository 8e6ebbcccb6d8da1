"""The encoder against each of its rivals, trial by trial: paired differences with intervals, and McNemar's test."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from scipy.stats import binomtest

from training.drawing import INK, LINE
from training.report.drawn import Drawn
from training.report.palette import NAMES, OURS, colour, marker
from training.report.parts import Part, stated, table
from training.report.result import Result, tested, words
from training.report.table1 import columns_of, members

AGAINST = (
    "raw_mua", "pca", "pca_rest", "log_variance", "lagged_covariances_slow", "statistics_slow", "supervised",
    "untrained", "untrained_place_slow", "untrained_served", "time_shuffled", "time_shuffled_place_slow",
    "time_shuffled_served", "no_cross_session", "no_cross_session_place_slow", "no_cross_session_served", "stimulus",
    "running_rate", "without_cortex",
)  # fmt: skip
COLUMNS = ("question", "row", "against", "difference", "low", "high", "only_first", "only_second", "p")


def part(result: Result) -> Part:
    drawn, folded = [], []
    for k, (group, protocols) in enumerate(result.groups.items()):
        columns = columns_of(protocols)
        found = {asked: _compared(result, group, asked, one) for asked, one in columns.items()}
        if any(found.values()):
            drawn.append(_drawn(k, group, found))
            folded.append((f"McNemar and differences: {group}", _table(found)))
    note = (
        "Points of balanced accuracy by which a reading of the encoder is ahead (right of 0) or behind, scored on the "
        "same trials and resamples. McNemar counts the trials that only one of the two calls right and asks whether "
        "they are equally many; it weighs trials, not answers, so that with rare answers it can differ from the "
        "balanced score. The p-values are not corrected, and each table asks dozens of questions."
    )
    return Part("compared", "Against each rival, on the same trials", note, drawn, folded=folded)


def mcnemar(result: Result, group: str, asked: tuple[str, str], pair: str) -> dict[str, Any] | None:
    """Trials that only one of them calls right, added up over the participants; the exact test of both kinds."""
    protocol, probe = asked
    told = []
    for name in members(result, group, asked):
        compared = result.numbers["participants"][name]["questions"][protocol][probe]["compared"]
        told.append(tested(compared)[1].get(pair, {}).get("mcnemar"))
    if not told or None in told:
        return None
    first, second = (sum(one[key] for one in told) for key in ("only_first", "only_second"))
    p = float(binomtest(first, first + second).pvalue) if first + second else 1.0
    return {"only_first": first, "only_second": second, "p": p}


Found = list[tuple[str, str, dict[str, Any], dict[str, Any] | None]]


def _compared(result: Result, group: str, asked: tuple[str, str], numbers: dict[str, Any]) -> Found:
    where = tested(numbers["rows"])[0]
    pairs = numbers["compared"].get(where, {})
    return [
        (one, other, pairs[f"{one} - {other}"], mcnemar(result, group, asked, f"{one} - {other}"))
        for other in AGAINST
        for one in OURS
        if f"{one} - {other}" in pairs
    ]


def _drawn(place: int, group: str, found: dict[tuple[str, str], Found]) -> Drawn:
    others = list(dict.fromkeys(other for each in found.values() for _, other, _, _ in each))
    others.sort(key=AGAINST.index)
    figure = Figure(figsize=(11.2, 0.36 * len(others) + 1.2), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    points: list[tuple[Any, ...]] = []
    for axes, (asked, each) in zip(panels, found.items(), strict=True):
        axes.axvline(0, color=INK, lw=1)
        for one, other, numbers, test in each:
            height = others.index(other) + 0.22 * (OURS.index(one) - 1)
            low, high = (100 * end for end in numbers["interval"])
            axes.plot([low, high], [height] * 2, color=colour(one), lw=2.6, alpha=0.45, solid_capstyle="round")
            axes.plot(100 * numbers["balanced_accuracy"], height, marker(one), color=colour(one), ms=5.5)
            counted = (test["only_first"], test["only_second"], test["p"]) if test else ("", "", "")
            points.append((words(*asked), one, other, numbers["balanced_accuracy"], *numbers["interval"], *counted))
        axes.set_title(words(*asked, between="\n"), fontsize=10, loc="left", color=INK)
        axes.set_yticks(range(len(others)), [NAMES[name] for name in others])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set(ylim=(len(others) - 0.4, -0.6), xlabel="points")
        axes.grid(axis="x", color=LINE, lw=0.7)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
    handles = [
        panels[0].plot([], [], marker(name), color=colour(name), label=NAMES[name])[0]
        for name in OURS
        if any(one == name for each in found.values() for one, *_ in each)
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=3, frameon=False, fontsize=9.5)
    figure.suptitle(f"{group}: readings of the encoder less …", x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    return Drawn(f"differences-{place + 1}", figure, COLUMNS, points, {"group": group})


def _table(found: dict[tuple[str, str], Found]) -> str:
    lines = []
    for asked, each in found.items():
        lines.append([words(*asked)])
        for one, other, numbers, test in each:
            interval = [100 * end for end in numbers["interval"]]
            difference = stated(100 * numbers["balanced_accuracy"], interval, 1)
            counted = (str(test["only_first"]), str(test["only_second"]), p_of(test["p"])) if test else ("–",) * 3
            lines.append([f"{NAMES[one]}  −  {NAMES[other]}", difference, *counted])
    return table(("", "points [95 %]", "only the first right", "only the second right", "McNemar's p"), lines, "scores")


def p_of(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
