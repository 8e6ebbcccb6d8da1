"""The paper's Figure 4: threshold trials session by session, and where perceived and missed ones mix."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.drawing import INK, LINE, QUIET
from training.report.drawn import Drawn
from training.report.latent import evenly, space, tsne
from training.report.palette import DEEP, MISSED, PERCEIVED
from training.report.parts import Number, Part, numbers_table, stated, table
from training.report.percepts import Group, Mixing, groups, mixing, mixing_by_rate
from training.report.result import Result, tested_rows

TITLE = "Figure 4: threshold trials, session by session"
PANELS = 10
PROBE = "evoked"


def part(result: Result) -> Part:
    who = result.shown
    trials, embedding = result.trials(who, "threshold", PROBE), result.embedding(who, "threshold", PROBE)
    if trials is None or embedding is None:
        return Part("figure-4", TITLE, "", missing=f"{who} has no threshold sessions.")
    found = groups(embedding, trials, tested_rows(trials))
    cells = _cells(result, who)
    if not found:
        return Part("figure-4", TITLE, "", missing="No session has enough trials at one electrode.")
    numbers = _numbers(found, cells)
    note = (
        f"t-SNE of each session's trials at one electrode, the window after the stimulus, trials that nothing "
        f"was fitted to; participant {who}. Orange: perceived, blue: missed. In each title stand the electrode "
        f"and the rate of percepts; {min(PANELS, len(found))} of {len(found)} are drawn, from low to high rates. At "
        "rates near 0 or 1 there is hardly anything to mix, whatever an embedding knows: it counts only against chance."
    )
    drawn = [_panels(found), _areas(found)] + ([_mixing(cells)] if cells else [])
    return Part(
        "figure-4", TITLE, note, drawn, tables=[numbers_table(numbers)], folded=[("Every session", _table(found))]
    )


def _cells(result: Result, who: str) -> list[Mixing]:
    """Stimuli of both protocols: psychometric ones reach the rates that threshold ones do not have."""
    cells: list[Mixing] = []
    for protocol in ("threshold", "psychometric"):
        trials, embedding = result.trials(who, protocol, PROBE), result.embedding(who, protocol, PROBE)
        if trials is None or embedding is None:
            continue
        rows = evenly(np.arange(len(embedding)), 2000)
        stimulus = np.array([
            f"{protocol} {e} {c:.3g}"
            for e, c in zip(trials["electrode"][rows], trials["current_ua"][rows], strict=True)
        ])  # fmt: skip
        cells += mixing(space(embedding[rows]), stimulus, trials["perceived"][rows])
    return cells


def _numbers(found: list[Group], cells: list[Mixing]) -> list[Number]:
    told = [one.auc["value"] for one in found if one.auc["value"] is not None]
    numbers = []
    if told:
        of = f"{len(told)} sessions and electrodes with both answers, {min(told):.2f} to {max(told):.2f}"
        numbers.append(
            Number("area under the curve in one session, median", float(np.median(told)), None, 0.5, note=of)
        )
    apart = [one.silhouette for one in found if one.silhouette is not None]
    if apart:
        value, shuffled = (float(np.median([getattr(one, key) for one in apart])) for key in ("value", "shuffled"))
        beyond = sum(one.value > one.interval[1] for one in apart)
        of = f"{beyond} of {len(apart)} beyond their own interval (by luck {0.025 * len(apart):.1f})"
        numbers.append(Number("silhouette of the two answers, median", value, None, shuffled, digits=3, note=of))
    for rates, one in mixing_by_rate(cells).items():
        of = f"{one['stimuli']} stimuli, {one['trials']} trials"
        numbers.append(Number(f"neighbours with the other answer, seen at {rates}", one["found"], None, one["chance"],
                              percent=True, note=of))  # fmt: skip
    return numbers


def _panels(found: list[Group]) -> Drawn:
    some = [found[k] for k in sorted(set(np.linspace(0, len(found) - 1, min(PANELS, len(found))).astype(int).tolist()))]
    across = min(5, len(some))
    down = -(-len(some) // across)
    figure = Figure(figsize=(11.2, 2.35 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)
    rows: list[tuple[str, int, float, float, bool]] = []
    for axes in panels.flat[len(some) :]:
        axes.set_visible(False)
    for axes, one in zip(panels.flat, some, strict=False):
        rows += _panel(axes, one)
    columns = ("session", "electrode", "x", "y", "perceived")
    return Drawn(
        "figure-4", figure, columns, rows, {"sessions": {f"{one.session} {one.electrode}": _of(one) for one in some}}
    )


def _panel(axes: Axes, one: Group) -> list[tuple[str, int, float, float, bool]]:
    at, perceived = tsne(one.points), one.perceived
    for kind, colour, marker in ((False, MISSED, "o"), (True, PERCEIVED, "^")):
        axes.scatter(*at[perceived == kind].T, color=colour, marker=marker, s=17, lw=0, alpha=0.85)
    axes.set_title(f"{one.electrode}: {100 * one.rate:.0f} %", fontsize=10, loc="left", color=INK)
    axes.set_title(f"area {stated(one.auc['value'])}", fontsize=8.5, loc="right", color=QUIET)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color=LINE)
    return [(one.session, one.electrode, float(x), float(y), bool(p)) for (x, y), p in zip(at, perceived, strict=True)]


def _of(one: Group) -> dict[str, object]:
    apart = one.silhouette.to_dict() if one.silhouette else None
    return {"trials": len(one.rows), "rate": one.rate, "auc": one.auc, "silhouette": apart}


def _areas(found: list[Group]) -> Drawn:
    """How well the probe tells the answers of a session apart, whatever its rate."""
    figure = Figure(figsize=(5.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0.5, color=QUIET, lw=1.2, ls=":")
    told = [one for one in found if one.auc["value"] is not None]
    for one in told:
        axes.plot([one.rate] * 2, one.auc["interval"], color=DEEP, lw=1.3, alpha=0.3)
        axes.plot(one.rate, one.auc["value"], "o", color=DEEP, ms=4.5)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="rate of percepts", ylabel="area under the curve")
    axes.grid(color=LINE, lw=0.6)
    rows = [(one.session, one.electrode, one.rate, one.auc["value"], *one.auc["interval"]) for one in told]
    return Drawn("figure-4-areas", figure, ("session", "electrode", "rate", "auc", "low", "high"), rows)


def _mixing(cells: list[Mixing]) -> Drawn:
    figure = Figure(figsize=(5.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    rate = np.linspace(0, 1, 101)
    axes.plot(rate, 2 * rate * (1 - rate), color=QUIET, lw=1.2, ls=":", label="by chance")
    size = 6 + 0.25 * np.array([one.trials for one in cells])
    axes.scatter([one.rate for one in cells], [one.found for one in cells], s=size, color=DEEP, alpha=0.55, lw=0,
                 label="a stimulus; size: trials")  # fmt: skip
    axes.axvspan(0.2, 0.8, color=LINE, alpha=0.5, lw=0, zorder=0)
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="rate of percepts", ylabel="neighbours with the other answer")
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    rows = [(one.stimulus, one.trials, one.rate, one.found, one.chance) for one in cells]
    return Drawn(
        "figure-4-mixing", figure, ("stimulus", "trials", "rate", "found", "chance"), rows, mixing_by_rate(cells)
    )


def _table(found: list[Group]) -> str:
    lines = []
    for one in found:
        apart = one.silhouette
        lines.append([
            one.session, str(one.electrode), str(len(one.rows)), stated(one.rate, percent=True),
            stated(one.auc["value"], one.auc["interval"]),
            stated(apart.value, digits=3) if apart else "–",
            stated(apart.shuffled, apart.interval, 3) if apart else "–",
        ])  # fmt: skip
    head = ("session", "electrode", "trials", "perceived", "area [95 %]", "silhouette", "answers shuffled [95 %]")
    return table(head, lines)
