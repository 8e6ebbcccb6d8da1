"""Does the probability tell, and does it hold? ROC curves with their areas, and how often what was said came true."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from training.drawing import INK, LINE, QUIET
from training.report.drawn import Drawn
from training.report.palette import IDEAL, KINDS, NAMES, colour, marker
from training.report.parts import Part, stated, table
from training.report.percepts import area
from training.report.result import Arrays, Result, tested, tested_rows, words

ROWS = ("raw_mua", "pca", "mae", "mae_place_slow", "mae_served", "statistics_slow", IDEAL)
SAID = ("mae", "mae_place_slow", "mae_served")
MOST = 150  # points of a curve
Asked = tuple[str, str]


def part(result: Result) -> Part:
    who = result.shown
    found = {asked: trials for asked in result.questions(who) if (trials := result.trials(who, *asked)) is not None}
    note = (
        f"Participant {who}, trials that nothing was fitted to. First picture: an area of 0.5 (dotted) "
        "is chance. Second: trials in bins of equally many; points on the diagonal mean that a said probability "
        "comes true as often as it says. Bars are 95 % intervals."
    )
    if not found:
        return Part("calibration", "ROC and reliability", note, missing="The folder holds no trials.")
    numbers = result.numbers["participants"][who]["questions"]
    folded = [(f"Area, Brier score and calibration: {words(*asked)}", _table(numbers, asked)) for asked in found]
    roc = _roc(found)
    drawn = [roc, _reliability(result, who, list(found))]
    heads = [words(*asked) for asked in found]
    nothing = {"value": None, "interval": None}
    areas = [
        [NAMES[name], *(stated(**(each.get(asked) or nothing)) for asked in heads)]
        for name, each in roc.numbers.items()
    ]
    tables = [table(["area under the curve [95 %]; chance 0.50", *heads], areas)]
    return Part("calibration", "ROC and reliability", note, [one for one in drawn if one], tables=tables, folded=folded)


def _panels(n: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(11.2, 3.0), layout="constrained")
    return figure, figure.subplots(1, n, squeeze=False)[0]


def _roc(found: dict[Asked, Arrays]) -> Drawn:
    figure, panels = _panels(len(found))
    points: list[tuple[Any, ...]] = []
    numbers: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for axes, (asked, trials) in zip(panels, found.items(), strict=True):
        rows = tested_rows(trials)
        perceived = trials["perceived"][rows]
        axes.plot([0, 1], [0, 1], color=QUIET, lw=1, ls=":")
        for name in ROWS:
            if name not in trials or not 0 < perceived.sum() < len(perceived):
                continue
            probability = trials[name][rows].astype(np.float64)
            auc = area(perceived, probability)
            numbers.setdefault(name, {})[words(*asked)] = auc
            false, true = _curve(perceived, probability)
            ls = (0, (5, 3)) if name == IDEAL else "-"
            (shown[name],) = axes.plot(false, true, color=colour(name), lw=1.6, ls=ls)
            points += [(words(*asked), name, float(x), float(y)) for x, y in zip(false, true, strict=True)]
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="missed, called perceived")
        axes.set_title(words(*asked, between="\n"), fontsize=10, loc="left", color=INK)
        axes.grid(color=LINE, lw=0.6)
    panels[0].set_ylabel("perceived, called so")
    figure.legend(shown.values(), map(_short, shown), loc="outside right center", frameon=False, fontsize=9)
    return Drawn("roc", figure, ("question", "row", "false_positive", "true_positive"), points, numbers)


def _short(name: str) -> str:
    return {IDEAL: "ideal observer", "pca": "PCA", "statistics_slow": "statistics, slow"}.get(name, NAMES[name])


def _curve(perceived: NDArray[np.bool_], probability: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    false, true, _ = roc_curve(perceived, probability)
    some = np.unique(np.linspace(0, len(false) - 1, min(MOST, len(false))).astype(int))
    return false[some], true[some]


def _reliability(result: Result, who: str, asked: list[Asked]) -> Drawn | None:
    bins = result.reliability(who)
    if not bins:
        return None
    figure, panels = _panels(len(asked))
    points: list[tuple[Any, ...]] = []
    for axes, one in zip(panels, asked, strict=True):
        protocol, probe = one
        where = tested(result.numbers["participants"][who]["questions"][protocol][probe]["rows"])[0]
        axes.plot([0, 1], [0, 1], color=QUIET, lw=1, ls=":")
        for name in SAID:
            mine = [
                tuple(float(row[key]) for key in ("said", "found", "low", "high", "trials"))
                for row in bins
                if (row["protocol"], row["probe"], row["tested_on"], row["row"]) == (protocol, probe, where, name)
            ]
            for said, _, low, high, _ in mine:
                axes.plot([said, said], [low, high], color=colour(name), lw=1.6, alpha=0.4)
            if mine:
                said, came = [row[0] for row in mine], [row[1] for row in mine]
                axes.plot(said, came, marker(name), color=colour(name), ms=5)
            points += [(words(*one), name, *row) for row in mine]
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability said")
        axes.set_title(words(*one, between="\n"), fontsize=10, loc="left", color=INK)
        axes.grid(color=LINE, lw=0.6)
    panels[0].set_ylabel("perceived")
    handles = {name: panels[0].plot([], [], marker(name), color=colour(name))[0] for name in SAID}
    figure.legend(handles.values(), map(_short, handles), loc="outside right center", frameon=False, fontsize=9)
    return Drawn("reliability", figure, ("question", "row", "said", "found", "low", "high", "trials"), points)


def _table(numbers: dict[str, Any], asked: Asked) -> str:
    protocol, probe = asked
    rows = tested(numbers[protocol][probe]["rows"])[1]
    lines = []
    for name in (name for names in KINDS.values() for name in names if name in rows):
        one = rows[name]
        inside = one["within_cells"]["balanced_accuracy"]
        lines.append([
            NAMES[name], stated(one["auc"]), stated(one["brier"]["score"], digits=3),
            stated(one["brier"]["skill"], percent=True), stated(one["calibration_error"], digits=3),
            stated(inside, percent=True),
        ])  # fmt: skip
    usual = next(iter(rows.values()))["brier"]["reference"]
    head = ("", "area", f"Brier (usual rate {usual:.3f})", "saved", "calibration error", "within equal stimuli")
    return table(head, [list(line) for line in dict.fromkeys(map(tuple, lines))], "scores")
