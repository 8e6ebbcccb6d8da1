"""The paper's Figure 2: held-out resting windows, by their mean activity and by the day of recording."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.drawing import INK
from training.report.drawn import Drawn
from training.report.latent import SHUFFLES, Against, Rows, evenly, explained, neighbours, purity, space, tsne
from training.report.parts import Number, Part, kept, numbers_table
from training.report.result import Arrays, Result

TITLE = "Figure 2: resting activity in the embedding"


def part(result: Result) -> Part:
    who = result.shown
    rest = result.rest(who)
    if rest is None or len(rest["held_out"]) < 30:
        return Part("figure-2", TITLE, "", missing="Too few resting windows that the encoder has never seen.")
    rows = evenly(np.arange(len(rest["held_out"])))
    points = space(rest["held_out"][rows])
    some = {key: rest[f"held_out_{key}"][rows] for key in ("session", "date", "mean_z")}
    numbers = [*_numbers(points, some), *_identity(result, who)]
    note = (
        f"t-SNE of {len(rows)} windows of sessions that no encoder was trained on; participant {who}. The "
        "picture keeps neighbours and nothing else, so the numbers are taken in the space that it was made from. Days "
        "and sessions that lie apart mean that the embedding still knows when it was recorded, which is no merit."
    )
    return Part("figure-2", TITLE, note, [_drawn(points, some, numbers)], tables=[numbers_table(numbers)])


def _numbers(points: NDArray[np.float64], some: Arrays) -> list[Number]:
    session, day = some["session"], some["date"]
    of = f"{len(points)} windows, {len(np.unique(session))} sessions, {len(np.unique(day))} days"
    mean_z = some["mean_z"].astype(np.float64)
    rng = np.random.default_rng(0)
    told = [explained(points, rng.permutation(mean_z)) for _ in range(20)]
    by_mean = Against.of(explained(points, mean_z), told)
    own = purity(neighbours(points), session)
    found = [
        _number("mean activity, R² of a linear readout", by_mean, of),
        _number("neighbours of the same session", own, of, percent=True),
    ]
    elsewhere = _same_day(neighbours(points, apart=session), session, day)
    if elsewhere is not None:
        found.append(_number("neighbours in other sessions that are of the same day", elsewhere, of, percent=True))
    return found


def _same_day(nearest: Rows, session: NDArray[Any], day: NDArray[Any]) -> Against | None:
    """Shuffled: which day a session is of. None where no day has two sessions, or there is one day only."""
    names, which = np.unique(session, return_inverse=True)
    of_session = np.array([day[session == one][0] for one in names])
    _, sessions = np.unique(of_session, return_counts=True)
    if len(sessions) < 2 or sessions.max() < 2:
        return None
    rng, known = np.random.default_rng(0), nearest >= 0

    def share(days: NDArray[Any]) -> float:
        label = days[which]
        return float(np.mean((label[nearest] == label[:, None])[known]))

    return Against.of(share(of_session), [share(rng.permutation(of_session)) for _ in range(SHUFFLES)])


def _number(words: str, found: Against, of: str, percent: bool = False) -> Number:
    return Number(words, found.value, None, found.shuffled, found.interval, percent=percent, note=of)


def _identity(result: Result, who: str) -> list[Number]:
    """Session identity as the evaluation read it, of each encoder that it asked."""
    names = {"mae": "this encoder", "no_cross_session": "without the cross-session loss", "untrained": "untrained"}
    found = []
    for name, one in result.numbers["participants"][who].get("rest", {}).items():
        told = one["session_identity"]
        if told is None:  # one session only
            continue
        words = f"session read from the embedding, {names.get(name, name)}"
        chance, of = told["chance"], f"{told['windows']} windows of training sessions"
        found.append(Number(words, told["accuracy"], told.get("interval"), chance, percent=True, note=of))
        if less := one.get("session_identity_less_mae"):
            found.append(Number(f"{words}, less this encoder", less["difference"], less["interval"], percent=True))
    return found


def _drawn(points: NDArray[np.float64], some: Arrays, numbers: list[Number]) -> Drawn:
    at = tsne(points)
    figure = Figure(figsize=(11.2, 4.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    edge = float(np.percentile(np.abs(some["mean_z"]), 98)) or 1.0
    drawn = left.scatter(*at.T, c=some["mean_z"], cmap="cividis", vmin=-edge, vmax=edge, s=11, lw=0)
    figure.colorbar(drawn, ax=left, label="mean activity of the window, z", shrink=0.8, pad=0.01)
    days = np.unique(some["date"])
    for day, colour in zip(days, colormaps["viridis"](np.linspace(0.05, 0.95, len(days))), strict=True):
        rows = some["date"] == day
        right.scatter(*at[rows].T, color=colour, s=11, lw=0, label=str(day))
    right.legend(
        loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8.5, markerscale=2, handletextpad=0
    )
    for axes, title in ((left, "by mean activity"), (right, "by day of recording")):
        axes.set_title(title, fontsize=10.5, loc="left", color=INK)
        axes.set(xticks=[], yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
    columns = zip(at[:, 0], at[:, 1], some["mean_z"], some["date"], some["session"], strict=True)
    rows_out = [(float(x), float(y), float(z), str(day), str(session)) for x, y, z, day, session in columns]
    return Drawn("figure-2", figure, ("x", "y", "mean_z", "date", "session"), rows_out, kept(numbers))
