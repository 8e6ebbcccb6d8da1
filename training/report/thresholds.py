"""How the rate of percepts rises with the current at each electrode, and whether a favourable moment needs less."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from streaming.scoring import wilson
from training.drawing import INK, LINE, QUIET
from training.report.drawn import Drawn
from training.report.palette import DEEP, ORANGE, OURS, VERMILION
from training.report.parts import Part, stated, table
from training.report.psychometric import Psychometric, Shift, fit, shift
from training.report.result import Arrays, Result

ACROSS = 6
COLUMNS = ("electrode", "kind", "current_ua", "perceived", "low", "high", "trials")


def part(result: Result) -> Part:
    who = result.shown
    trials = result.trials(who, "psychometric", "evoked")
    title = "Psychometric curves"
    if trials is None:
        why = f"{who} has no psychometric sessions: at no electrode were three or more currents given."
        return Part("psychometric", title, "", missing=why)
    fits = {int(one): _fit(trials, one) for one in np.unique(trials["electrode"])}
    note = (
        f"Participant {who}, all trials. Dots are rates with Wilson's 95 % interval; the threshold (line, band: its "
        "95 % interval) is the current at which half of what is neither guessed nor lapsed is perceived, the slope is "
        "in log odds per unit of ln(current); both by maximum likelihood, intervals by parametric bootstrap."
    )
    moved = _moved(result, who, fits)
    tables = [_table(fits)]
    if moved is not None:
        ratio = stated(moved.ratio, moved.interval)
        told = "less" if moved.interval and moved.interval[1] < 1 else "no less, as far as these trials can show"
        note += (
            f" Last picture: trials in which the encoder, before the stimulus, held a percept likelier than usual need "
            f"{told}: the ratio of the two thresholds is {ratio}; 1 would be no difference."
        )
    drawn = [_curves(fits)] + ([_shifted(moved)] if moved is not None else [])
    return Part("psychometric", title, note, drawn, _halves(moved) if moved is not None else "", tables)


def _fit(trials: Arrays, electrode: int) -> Psychometric:
    rows = trials["electrode"] == electrode
    return fit(trials["current_ua"][rows], trials["perceived"][rows])


def _curves(fits: dict[int, Psychometric]) -> Drawn:
    down = -(-len(fits) // ACROSS)
    figure = Figure(figsize=(11.2, 1.75 * down + 0.4), layout="constrained")
    panels = figure.subplots(down, min(ACROSS, len(fits)), sharex=True, sharey=True, squeeze=False)
    points: list[tuple[Any, ...]] = []
    for axes, (electrode, found) in zip(panels.flat, fits.items(), strict=False):
        if found.threshold_ua is not None:
            low, high = (at or edge for at, edge in zip(found.threshold_interval, (0.3, 300), strict=True))
            axes.axvspan(low, high, color=LINE, lw=0)
            axes.axvline(found.threshold_ua, color=QUIET, lw=1)
        points += _draw(axes, found, DEEP, electrode)
        axes.set_title(f"electrode {electrode}", fontsize=9.5, loc="left", color=INK)
        axes.set(xscale="log", ylim=(-0.03, 1.03))
        axes.set_xticks([1, 10, 100], ["1", "10", "100"])
        axes.xaxis.set_minor_locator(NullLocator())
    for axes in panels.flat[len(fits) :]:
        axes.set_visible(False)
    for axes in panels[-2, len(fits) % ACROSS or ACROSS :] if down > 1 else ():  # what stands over an empty place
        axes.tick_params(labelbottom=True)
    low, high = (end(float(end(one.current_ua)) for one in fits.values()) for end in (min, max))
    panels[0, 0].set_xlim(low / 1.3, high * 1.3)
    figure.supxlabel("current, µA", fontsize=10, color=QUIET)
    figure.supylabel("perceived", fontsize=10, color=QUIET)
    numbers = {f"electrode {electrode}": _numbers(one) for electrode, one in fits.items()}
    return Drawn("psychometric", figure, COLUMNS, points, numbers)


def _draw(axes: Axes, found: Psychometric, colour: str, name: Any, marker: str = "o") -> list[tuple[Any, ...]]:
    points: list[tuple[Any, ...]] = []
    for current, n, yes in zip(found.current_ua, found.trials, found.perceived, strict=True):
        low, high = wilson(int(yes), int(n))
        axes.plot([current] * 2, [low, high], color=colour, lw=1.4, alpha=0.4)
        axes.plot(current, yes / n, marker, color=colour, ms=3.8)
        points.append((name, "rate", float(current), yes / n, low, high, int(n)))
    at = np.geomspace(found.current_ua[0], found.current_ua[-1], 60)
    if (curve := found.probability(at)) is not None:
        axes.plot(at, curve, color=colour, lw=1.5)
        points += [(name, "curve", float(x), float(y), "", "", "") for x, y in zip(at, curve, strict=True)]
    return points


def _numbers(found: Psychometric) -> dict[str, Any]:
    return {
        "threshold_ua": found.threshold_ua,
        "threshold_interval": found.threshold_interval,
        "slope": found.slope,
        "slope_interval": found.slope_interval,
        "trials": int(found.trials.sum()),
        "why": found.why,
    }


def _table(fits: dict[int, Psychometric]) -> str:
    lines = [
        [
            str(electrode),
            str(int(one.trials.sum())),
            stated(one.threshold_ua, one.threshold_interval if one.threshold_ua else None, 1),
            stated(one.slope, one.slope_interval if one.slope else None),
            one.why,
        ]
        for electrode, one in fits.items()
    ]
    return table(("electrode", "trials", "threshold, µA [95 %]", "slope [95 %]", "what is open"), lines, "last-words")


def _moved(result: Result, who: str, fits: dict[int, Psychometric]) -> Shift | None:
    """Halves of the tested trials by what was foretold before the stimulus; None where nothing was, or no threshold."""
    trials = result.trials(who, "psychometric", "prestimulus")
    name = next((one for one in OURS if trials is not None and one in trials), None)
    if trials is None or name is None:
        return None
    threshold = np.array([fits[int(one)].threshold_ua or np.nan for one in trials["electrode"]])
    rows = np.flatnonzero((trials["part"] != "training") & np.isfinite(threshold))
    if len(rows) < 40:
        return None
    said = trials[name][rows]
    multiple = np.exp(np.round(np.log(trials["current_ua"][rows] / threshold[rows]) / 0.5) * 0.5)  # in steps of 0.5
    found = shift(multiple, trials["perceived"][rows], said > np.median(said))
    return found if found.ratio is not None else None


def _halves(found: Shift) -> str:
    lines = [
        [name, stated(one.threshold_ua, one.threshold_interval), stated(one.slope, one.slope_interval)]
        for name, one in (("held likelier", found.favourable), ("held less likely", found.others))
    ]
    lines.append(["their ratio (1: no difference)", stated(found.ratio, found.interval), ""])
    return table(("", "threshold, multiple [95 %]", "slope [95 %]"), lines)


def _shifted(found: Shift) -> Drawn:
    figure = Figure(figsize=(5.4, 3.0), layout="constrained")
    axes = figure.add_subplot()
    points = []
    for half, colour, name, marker in (
        (found.favourable, VERMILION, "held likelier", "D"),
        (found.others, DEEP, "held less likely", "o"),
    ):
        points += _draw(axes, half, colour, name, marker)
        axes.plot([], [], marker=marker, color=colour, label=name)
    axes.axhline(0.5, color=ORANGE, lw=0.8, ls=":")
    axes.set(xscale="log", ylim=(-0.03, 1.03), xlabel="current, as a multiple of the electrode's threshold",
             ylabel="perceived")  # fmt: skip
    axes.set_xticks([0.1, 0.3, 1, 3, 10], ["0.1", "0.3", "1", "3", "10"])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(min(points[k][2] for k in range(len(points))) / 1.2, max(one[2] for one in points) * 1.2)
    axes.legend(frameon=False, fontsize=9)
    axes.grid(color=LINE, lw=0.6)
    numbers = {"ratio": found.ratio, "interval": found.interval}
    return Drawn("psychometric-state", figure, COLUMNS, points, numbers)
