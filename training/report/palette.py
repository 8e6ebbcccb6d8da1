"""One colour, marker and name for each row wherever it is drawn: Okabe and Ito's (2008) set, told apart without colour
vision; markers say it once more."""

from __future__ import annotations

from training.drawing import INK, QUIET
from training.evaluation.rows import OBSERVERS, RIVALS, WITHOUT_CORTEX, WORDS, Row

SKY, DEEP, ORANGE, VERMILION, GREEN, PURPLE = "#56B4E9", "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7"
PERCEIVED, MISSED = ORANGE, "#1F3A6B"  # as in the paper: orange and dark blue
IDEAL = "observer_window"
NAMES = WORDS | {f"observer_{name}": words for name, words in OBSERVERS.items()}
OURS = ("mae_served", "mae_place_slow", "mae")  # what is served first, the encoder by itself, the paper's pooling last
BASELINES = ("raw_mua", "pca", "pca_rest")
# headings of the long table, and the rows under each
KINDS: dict[str, tuple[str, ...]] = {
    "The paper's rows": (*BASELINES, "mae"),
    "Other readings of the same encoder": tuple(
        name for name in WORDS if name.startswith("mae_") and Row.of(name).beside is None
    ),
    "Simple rivals, as many labels": RIVALS,
    "Labels alone": ("supervised",),
    "Controls of the encoder": tuple(
        name for name in WORDS if name.startswith(("untrained", "time_shuffled", "no_cross", "electrodes_"))
    ),
    "Without the cortex": WITHOUT_CORTEX,
    "Cortex beside what is known without it": tuple(name for name in WORDS if Row.of(name).beside is not None),
    "Ideal observers, who know the simulated participant": tuple(f"observer_{name}" for name in OBSERVERS),
}
_MARKS = {
    "mae_place_slow": (DEEP, "o"), "mae_served": (ORANGE, "h"), "mae": (SKY, "s"),
    "raw_mua": ("#8A8F98", "v"), "pca": ("#5B6169", "^"),
    "pca_rest": ("#8A8F98", "<"), "statistics_slow": (VERMILION, "D"), "supervised": (PURPLE, "P"),
    "stimulus": (GREEN, "X"), IDEAL: (INK, "*"),
}  # fmt: skip
_KIND_COLOURS = dict(zip(KINDS, ("#5B6169", DEEP, VERMILION, PURPLE, "#9467A8", GREEN, "#00785A", INK), strict=True))


def colour(row: str) -> str:
    if row in _MARKS:
        return _MARKS[row][0]
    return next((_KIND_COLOURS[kind] for kind, rows in KINDS.items() if row in rows), QUIET)


def marker(row: str) -> str:
    return _MARKS[row][1] if row in _MARKS else "o"


def ours(rows: dict[str, object]) -> list[str]:
    """Of the encoder's three rows those that are there."""
    return [name for name in OURS if name in rows]
