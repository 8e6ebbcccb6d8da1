"""The paper's Figure 3: psychometric trials by electrode and current, and by whether they were perceived."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.drawing import INK, LINE, QUIET
from training.report.drawn import Drawn
from training.report.latent import Values, current_by_electrode, evenly, neighbours, purity, space, spatial, tsne
from training.report.palette import DEEP, MISSED, PERCEIVED
from training.report.parts import Number, Part, kept, numbers_table
from training.report.percepts import area, silhouette
from training.report.result import Arrays, Result, tested_rows

TITLE = "Figure 3: stimulated trials in the embedding"


def part(result: Result) -> Part:
    who = result.shown
    trials, embedding = result.trials(who, "psychometric", "evoked"), result.embedding(who, "psychometric", "evoked")
    if trials is None or embedding is None:
        return Part("figure-3", TITLE, "", missing=f"{who} has no psychometric sessions.")
    rows = evenly(np.arange(len(embedding)))
    points = space(embedding[rows])
    some = {key: trials[key][rows] for key in ("session", "electrode", "current_ua", "perceived")}
    position = result.position(who)
    place = None if position is None else spatial(points, some["electrode"], position)
    note = (
        f"t-SNE of {len(rows)} psychometric trials, the window after the stimulus; participant {who}. Electrodes that "
        "lie beside each other on the array have similar colours; a larger dot is a larger current. The numbers are "
        "taken in the space that the picture is made from. Electrodes are shuffled within sessions."
    )
    current = current_by_electrode(points, some["electrode"], some["current_ua"])
    numbers = [*_numbers(points, some, place, current), *_foretold(trials)]
    drawn = [_drawn(points, some, position, numbers)]
    if place is not None and place["rho"] is not None:
        drawn.append(_distances(place))
    if current["by_electrode"]:
        drawn.append(_currents(current))
    missing = "" if position is not None else "The places of the electrodes are not known: nothing is said of them."
    return Part("figure-3", TITLE, note, drawn, tables=[numbers_table(numbers)], missing=missing)


def _numbers(points: Values, some: Arrays, place: dict[str, Any] | None, current: dict[str, Any]) -> list[Number]:
    electrode, perceived, n = some["electrode"], some["perceived"], f"{len(points)} trials"
    same = purity(neighbours(points), electrode, some["session"])
    found = [Number("neighbours of the same electrode", same.value, None, same.shuffled, same.interval, percent=True,
                    note=f"{n}, {len(np.unique(electrode))} electrodes")]  # fmt: skip
    if place is not None and place["rho"] is not None:
        rho, p = place["rho"], place["p"]
        of = f"{place['pairs']} pairs of electrodes, p = {p:.3f}"
        found.append(Number("distance in the embedding with distance on the array, ρ", rho["value"], None,
                            rho["shuffled"], rho["interval"], note=of))  # fmt: skip
    each = [one["r2"] for one in current["by_electrode"].values()]
    if each:
        of = f"median of {len(each)} electrodes, {min(each):.2f} to {max(each):.2f}".replace("-", "−")
        found.append(Number("ln(current) at one electrode, R² of a linear readout", current["median"], None,
                            current["median_shuffled"], note=of))  # fmt: skip
    cell = np.array([f"{e} {c:.3g}" for e, c in zip(electrode, some["current_ua"], strict=True)])
    answer = purity(neighbours(points), perceived, cell)
    found.append(Number("neighbours with the same answer", answer.value, None, answer.shuffled, answer.interval,
                        percent=True, note=f"{n}, shuffled within equal stimuli"))  # fmt: skip
    apart = silhouette(points, perceived)
    if apart is not None:
        found.append(Number("silhouette of perceived and missed", apart.value, None, apart.shuffled, apart.interval,
                            digits=3, note=n))  # fmt: skip
    return found


def _foretold(trials: Arrays) -> list[Number]:
    """How far the two kinds of answer can be told apart by the probe itself."""
    rows = tested_rows(trials)
    auc = area(trials["perceived"][rows], trials["mae"][rows].astype(np.float64))
    return [Number("area under the ROC curve of the probe", auc["value"], auc["interval"], 0.5,
                   note=f"{len(rows)} trials not learned from")]  # fmt: skip


def _colours(electrode: NDArray[np.int64], position: Values | None) -> dict[int, Any]:
    """By place along the array's diagonal where it is known, else by number."""
    used = np.unique(electrode)
    along = used.astype(float) if position is None else position[used - 1] @ [1.0, 0.35]
    rank = np.argsort(np.argsort(along)) / max(1, len(used) - 1)
    return dict(zip(used.tolist(), colormaps["viridis"](0.02 + 0.96 * rank), strict=True))


def _drawn(points: Values, some: Arrays, position: Values | None, numbers: list[Number]) -> Drawn:
    at, electrode = tsne(points), some["electrode"]
    colours = _colours(electrode, position)
    figure = Figure(figsize=(11.2, 4.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    current = np.nan_to_num(some["current_ua"], nan=1.0)
    size = 5 + 34 * np.log1p(current) / np.log1p(current.max())
    left.scatter(*at.T, c=[colours[int(one)] for one in electrode], s=size, lw=0, alpha=0.8)
    for one in colours:
        middle = np.median(at[electrode == one], axis=0)
        box = dict(facecolor="white", edgecolor="none", alpha=0.75, pad=0.8)
        left.text(*middle, str(one), ha="center", va="center", fontsize=8.5, fontweight="bold", bbox=box)
    _legend_of_sizes(left, current)
    for kind, colour, marker, name in ((False, MISSED, "o", "missed"), (True, PERCEIVED, "^", "perceived")):
        rows = some["perceived"] == kind
        right.scatter(*at[rows].T, color=colour, marker=marker, s=13, lw=0, alpha=0.8, label=name)
    right.legend(loc="upper right", frameon=False, fontsize=9, markerscale=1.8, handletextpad=0.1)
    for axes, title in ((left, "by electrode, size: current"), (right, "by answer")):
        axes.set_title(title, fontsize=10.5, loc="left", color=INK)
        axes.set(xticks=[], yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
    columns = zip(at[:, 0], at[:, 1], electrode, some["current_ua"], some["perceived"], some["session"], strict=True)
    rows = [(float(x), float(y), int(e), float(c), bool(p), str(s)) for x, y, e, c, p, s in columns]
    names = ("x", "y", "electrode", "current_ua", "perceived", "session")
    return Drawn("figure-3", figure, names, rows, kept(numbers))


def _legend_of_sizes(axes: Axes, current: NDArray[np.float64]) -> None:
    for value in np.unique(np.round(np.percentile(current, [5, 50, 95]))):
        size = 5 + 34 * np.log1p(value) / np.log1p(current.max())
        axes.scatter([], [], s=size, color=QUIET, lw=0, label=f"{value:.0f} µA")
    axes.legend(loc="upper right", frameon=False, fontsize=8.5, handletextpad=0.1)


def _distances(place: dict[str, Any]) -> Drawn:
    """Spatial organisation without a picture's tricks: every pair of electrodes."""
    figure = Figure(figsize=(5.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    away = np.array(place["distances"])
    axes.plot(*away.T, "o", color=DEEP, ms=4.5, alpha=0.7)
    axes.set(xlabel="distance on the array, in electrodes", ylabel="distance of their centroids")
    axes.grid(color=LINE, lw=0.6)
    rows = [(float(x), float(y)) for x, y in away]
    numbers = {key: place[key] for key in ("electrodes", "pairs", "rho", "p")}
    return Drawn("figure-3-distances", figure, ("on_the_array", "in_the_embedding"), rows, numbers)


def _currents(current: dict[str, Any]) -> Drawn:
    """How much of ln(current) is read at each electrode, and with currents shuffled."""
    each = current["by_electrode"]
    figure = Figure(figsize=(5.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(range(len(each)), [one["r2"] for one in each.values()], "o", color=DEEP, ms=6, label="found")
    shuffled = [one["shuffled"] for one in each.values()]
    axes.plot(range(len(each)), shuffled, "x", color=QUIET, ms=5, label="currents shuffled")
    axes.axhline(0, color=QUIET, lw=1, ls=":")
    axes.set_xticks(range(len(each)), [str(one) for one in each])
    axes.set(xlabel="electrode", ylabel="R² of ln(current)", ylim=(min(-0.25, *shuffled, 0), 1))
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    axes.grid(axis="y", color=LINE, lw=0.6)
    rows = [(electrode, one["trials"], one["r2"], one["shuffled"]) for electrode, one in each.items()]
    return Drawn("figure-3-currents", figure, ("electrode", "trials", "r2", "shuffled"), rows)
