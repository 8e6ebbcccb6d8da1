"""Resting windows that the autoencoder has never seen, what it was shown of them, and what it made of the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.drawing import INK, LINE
from training.report.drawn import Drawn
from training.report.palette import DEEP
from training.report.parts import Part, stated, table
from training.report.result import Arrays, Result

RANGE_Z = 2.5
COLOURS = colormaps["RdBu_r"].with_extremes(bad="#C9CED6")  # hidden
WAYS = {
    "network": "the autoencoder",
    "neighbours": "mean of the visible channels, scaled",
    "line": "a line through time between visible tokens",
    "rest": "every channel's usual value",
}


def part(result: Result) -> Part:
    looks = result.looks(result.shown)
    title = "Reconstructions"
    if looks is None or "rebuilt" not in looks[1]:
        why = "only with every control, and of an encoder that was trained together with what rebuilds"
        return Part("reconstructions", title, "", missing=f"This result has no reconstructions ({why}).")
    arrays, numbers = looks
    told = numbers["rebuilt"]
    mse = told["mse"]
    best = min((name for name in mse if name != "network"), key=lambda name: mse[name])
    verdict = (
        f"It errs {100 * (1 - mse['network'] / mse[best]):.0f} % less than the best simpler way ({WAYS[best]})."
        if mse["network"] < mse[best]
        else f"A simpler way does better: {WAYS[best]}."
    )
    note = (
        f"Windows of rest that no encoder was trained on; participant {result.shown}. Three quarters of each are "
        "hidden (grey) and rebuilt. Most of multi-unit activity is noise that nothing can foretell, so that errors "
        f"stay near 1. {verdict}"
    )
    lines = [[words, stated(mse[name], digits=3), _interval(told, name)] for name, words in WAYS.items() if name in mse]
    lines.append(["correlation with the truth, the autoencoder", stated(told["correlation"]), ""])
    of = f"on {told['windows']} windows, {told['masked_bins']:,} hidden bins".replace(",", " ")
    drawn = [_windows(arrays), _errors(mse, told.get("interval", {}))]
    return Part("reconstructions", title, note, drawn, table((of, "error, z²", "95 %"), lines))


def _interval(told: dict[str, Any], name: str) -> str:
    ends = told.get("interval", {}).get(name)
    return stated(ends[0], digits=3) + " to " + stated(ends[1], digits=3) if ends else ""


def _windows(arrays: Arrays) -> Drawn:
    window, rebuilt = (arrays[key].astype(np.float32) for key in ("window", "rebuilt"))
    hidden = arrays["masked"].repeat(window.shape[2] // arrays["masked"].shape[2], axis=2)
    figure = Figure(figsize=(11.2, 2.2 * len(window) + 0.5), layout="constrained")
    panels = figure.subplots(len(window), 3, sharex=True, sharey=True, squeeze=False)
    for row, (z, gone, made) in enumerate(zip(window, hidden, rebuilt, strict=True)):
        shown = np.where(gone, np.nan, z)
        for axes, value in zip(panels[row], (z, shown, np.where(gone, made, z)), strict=True):
            image = _image(axes, value)
    for axes, title in zip(panels[0], ("recorded", "what it was shown", "hidden part rebuilt"), strict=True):
        axes.set_title(title, fontsize=10.5, loc="left", color=INK)
    for axes in panels[-1]:
        axes.set_xlabel("ms")
    panels[len(window) // 2, 0].set_ylabel("channel")
    figure.colorbar(image, ax=panels, label="z", shrink=0.6, pad=0.01)
    rows = [
        (
            n,
            channel + 1,
            bin,
            float(window[n, channel, bin]),
            int(hidden[n, channel, bin]),
            float(rebuilt[n, channel, bin]),
        )
        for n, channel, bin in np.ndindex(*window.shape)
    ]
    return Drawn("reconstructions", figure, ("window", "channel", "bin", "recorded_z", "hidden", "rebuilt_z"), rows)


def _image(axes: Axes, value: NDArray[np.float32]) -> Any:
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelsize=8)
    return axes.imshow(value, cmap=COLOURS, vmin=-RANGE_Z, vmax=RANGE_Z, aspect="auto", interpolation="nearest")


def _errors(mse: dict[str, float], interval: dict[str, Any]) -> Drawn:
    names = [name for name in WAYS if name in mse]
    figure = Figure(figsize=(5.4, 2.1), layout="constrained")
    axes = figure.add_subplot()
    for place, name in enumerate(names):
        if name in interval:
            axes.plot(interval[name], [place] * 2, color=DEEP, lw=3, alpha=0.4, solid_capstyle="round")
        axes.plot(
            mse[name], place, "o" if name == "network" else "s", color=DEEP if name == "network" else "#5B6169", ms=7
        )
    axes.set_yticks(range(len(names)), [WAYS[name] for name in names])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set(xlabel="mean squared error, z²", ylim=(len(names) - 0.5, -0.5))
    axes.grid(axis="x", color=LINE, lw=0.7)
    axes.spines["left"].set_visible(False)
    rows = [(name, mse[name], *interval.get(name, ("", ""))) for name in names]
    return Drawn("reconstruction-errors", figure, ("way", "mse", "low", "high"), rows, {"mse": mse})
