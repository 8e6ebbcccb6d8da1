"""Which electrodes decisions rest on, as a map of the array, and whether the map is right."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from training.drawing import INK, QUIET
from training.report.drawn import Drawn
from training.report.palette import NAMES
from training.report.parts import Part, stated, table
from training.report.result import Arrays, Result, words

COLOURS = colormaps["cividis"].with_extremes(bad="#F0F2F5")  # no electrode there
TITLE = "Which electrodes it rests on"


def part(result: Result) -> Part:
    looks = result.looks(result.shown)
    if looks is None:
        return Part("saliency", TITLE, "", missing="This result has no saliency maps (only with every control).")
    arrays, numbers = looks
    names = [name.removeprefix("saliency.") for name in arrays if name.startswith("saliency.")]
    if "position" not in arrays:
        return Part("saliency", TITLE, "", tables=[_table(names, numbers)],
                    missing="The places of the electrodes are not known, so that there is no map.")  # fmt: skip
    note = (
        f"Mean size of gradient × input over trials that the probe was not fitted to, as a share of the largest; "
        f"participant {result.shown}. A map is easily drawn and hard to believe, so it is tested on other trials: if "
        "it is right, losing the electrodes that it names costs more than losing others. Outlined: those named."
    )
    return Part("saliency", TITLE, note, [_drawn(names, arrays, numbers)], tables=[_table(names, numbers)])


def _grid(position: NDArray[np.float64]) -> NDArray[np.int64]:
    """Column and row of each electrode, whatever the unit of its place."""
    return np.stack([np.unique(np.round(one, 6), return_inverse=True)[1] for one in position.T], axis=1)


def title_of(name: str) -> str:
    protocol, probe, row = name.split(".")
    return f"{NAMES[row]}\n{words(protocol, probe)}"


def _drawn(names: list[str], arrays: Arrays, numbers: dict[str, Any]) -> Drawn:
    places = _grid(arrays["position"])
    figure = Figure(figsize=(11.2, 3.5), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    rows: list[tuple[Any, ...]] = []
    for axes, name in zip(panels, names, strict=True):
        value, occluded = arrays[f"saliency.{name}"], arrays[f"occluded.{name}"]
        share = value / (value.max() or 1.0)
        filled = np.full(places.max(axis=0)[::-1] + 1, np.nan)
        filled[places[:, 1], places[:, 0]] = share
        image = axes.imshow(filled, cmap=COLOURS, vmin=0, vmax=1, interpolation="nearest")
        named = numbers[f"saliency.{name}"]["removed"] if value.any() else 0
        for k in np.argsort(-value, kind="stable")[:named]:
            column, row = places[k]
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="#D55E00", lw=1.6))
            axes.text(column, row, str(k + 1), ha="center", va="center", fontsize=7,
                      color=INK if share[k] > 0.55 else "white")  # fmt: skip
        if not value.any():
            axes.text(*places.mean(axis=0), "the probe found nothing", ha="center", color="white", fontsize=9)
        axes.set_title(title_of(name), fontsize=9.5, loc="left", color=INK)
        axes.set(xticks=[], yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
        columns = zip(range(1, len(value) + 1), *places.T.tolist(), value, occluded, strict=True)
        rows += [(name, k, column, row, float(v), float(o)) for k, column, row, v, o in columns]
    bar = figure.colorbar(image, ax=panels, shrink=0.75, pad=0.01)
    bar.set_label("share of the largest", color=QUIET)
    head = ("map", "electrode", "column", "row", "gradient_times_input", "occlusion")
    return Drawn("saliency", figure, head, rows, {name: numbers[f"saliency.{name}"] for name in names})


def _table(names: list[str], numbers: dict[str, Any]) -> str:
    told = [numbers[f"saliency.{name}"] for name in names]
    n = told[0]["removed"] if told else 0
    lost = {
        "none": "all electrodes",
        "most": f"without the {n} that the map names",
        "random": f"without {n} at random",
        "least": f"without the {n} that it holds least of",
    }
    lines = [["area under the curve [95 %] on the tested trials"]]
    for which, said in lost.items():
        each = [one["auc_without"][which] for one in told]
        lines.append([said, *(stated(one["value"], one["interval"]) for one in each)])
    lines.append(["correlation of its scores with those of all electrodes"])
    for which in ("most", "random", "least"):
        lines.append([lost[which], *(stated(one["alike_without"][which]) for one in told)])
    lines.append(["the map itself"])
    lines.append(["agreement with occlusion, ρ over electrodes", *(stated(one["agreement"]) for one in told)])
    lines.append([f"share of the {n} that it names", *(stated(one["share_of_top"], percent=True) for one in told)])
    lines.append(["trials: map, occlusion, test", *(
        f"{one['trials']}, {one['occluded_trials']}, {one['tested_trials']}" for one in told
    )])  # fmt: skip
    return table(["", *(title_of(name).replace("\n", ", ") for name in names)], lines)
