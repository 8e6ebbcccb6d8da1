"""How far perceived and missed trials lie apart, and where they mix. Pure.

Trials of one stimulus, seen at a rate p, have neighbours with the other answer in 2 p (1 - p) of the cases even where
embeddings know nothing at all: at 5 % or 95 % there is hardly anything to mix. So mixing is only ever told beside that
number, and separation is what is missing from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from training.report.latent import Against, Rows, Values, neighbours, space

FEWEST_OF_EACH = 5  # answers, for a number about both
SHUFFLES = 100
RESAMPLES = 1000
Labels = NDArray[np.bool_]


def both(perceived: Labels) -> bool:
    return min(int(perceived.sum()), int((~perceived).sum())) >= FEWEST_OF_EACH


def area(perceived: Labels, probability: Values, seed: int = 0) -> dict[str, Any]:
    """Area under the ROC curve, with its bootstrap interval over trials of each kind; None where one is missing."""
    if not both(perceived):
        return {"value": None, "interval": None}
    yes, no = probability[perceived], probability[~perceived]
    above = (yes[:, None] > no).astype(np.float32) + 0.5 * (yes[:, None] == no)
    rng = np.random.default_rng(seed)
    drawn_yes, drawn_no = (
        rng.multinomial(len(one), np.full(len(one), 1 / len(one)), RESAMPLES).astype(np.float32) for one in (yes, no)
    )
    samples = ((drawn_yes @ above) * drawn_no).sum(axis=1) / (len(yes) * len(no))
    low, high = np.percentile(samples, [2.5, 97.5])
    return {"value": float(above.mean()), "interval": [float(low), float(high)]}


def silhouette(points: Values, perceived: Labels, seed: int = 0) -> Against | None:
    """How much nearer trials lie to those of their own kind (Rousseeuw 1987): 1 apart, 0 mixed."""
    if not both(perceived):
        return None
    distance, rng = squareform(pdist(points)), np.random.default_rng(seed)
    shuffled = [rng.permutation(perceived) for _ in range(SHUFFLES)]
    found = _silhouettes(distance, np.stack([perceived, *shuffled], axis=1))
    return Against.of(found[0], found[1:])


def _silhouettes(distance: Values, label: Labels) -> Values:
    """Of each column of `label` (n, columns), all with two kinds; all at once."""
    yes, n_yes = distance @ label, label.sum(axis=0)
    no, n_no = distance.sum(axis=1, keepdims=True) - yes, (~label).sum(axis=0)
    own = np.where(label, yes / (n_yes - 1), no / (n_no - 1))
    other = np.where(label, no / n_no, yes / n_yes)
    return np.asarray(((other - own) / np.maximum(own, other)).mean(axis=0))


# Session by session --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Group:
    """Trials of one session at one electrode. `rows` are theirs among all; `perceived` (n,) their answers;
    `points` their embeddings' space."""

    session: str
    electrode: int
    rows: Rows
    perceived: Labels
    points: Values
    rate: float
    auc: dict[str, Any]
    silhouette: Against | None


def groups(embedding: NDArray[Any], trials: dict[str, NDArray[Any]], rows: Rows, fewest: int = 25) -> list[Group]:
    """Each session and electrode with enough trials among `rows`, from low to high rate. `trials` has `session`,
    `electrode`, `perceived`, and `mae`, what was foretold of trials that it was not fitted to."""
    found = []
    session, electrode = trials["session"][rows], trials["electrode"][rows]
    for name in np.unique(session):
        for one in np.unique(electrode[session == name]):
            mine = rows[(session == name) & (electrode == one)]
            perceived = trials["perceived"][mine]
            if len(mine) < fewest:
                continue
            points = space(embedding[mine])
            found.append(
                Group(
                    str(name),
                    int(one),
                    mine,
                    perceived,
                    points,
                    float(perceived.mean()),
                    area(perceived, trials["mae"][mine].astype(np.float64)),
                    silhouette(points, perceived),
                )
            )
    return sorted(found, key=lambda group: group.rate)


# Where they mix ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mixing:
    """Of the trials of one stimulus: at what rate they were perceived, and how many of their nearest have the other
    answer; `chance` if the embedding told nothing."""

    stimulus: str
    trials: int
    rate: float
    found: float
    chance: float


def mixing(points: Values, stimulus: NDArray[np.str_], perceived: Labels, fewest: int = 12) -> list[Mixing]:
    """Of each stimulus (n,) with enough trials, its neighbours among its own trials, at most 10 and a third of them."""
    found = []
    for one in np.unique(stimulus):
        rows = np.flatnonzero(stimulus == one)
        n, yes = len(rows), int(perceived[rows].sum())
        if n < fewest:
            continue
        other = perceived[rows][neighbours(points[rows], min(10, n // 3))] != perceived[rows][:, None]
        found.append(Mixing(str(one), n, yes / n, float(other.mean()), 2 * yes * (n - yes) / (n * (n - 1))))
    return found


RANGES = ((0.0, 0.2), (0.2, 0.8), (0.8, 1.0))


def mixing_by_rate(cells: list[Mixing]) -> dict[str, Any]:
    """Mean mixing in three ranges of rate, weighted by trials, and its share of chance: below 1 answers lie apart."""
    numbers = {}
    for low, high in RANGES:
        mine = [one for one in cells if low <= one.rate < high or one.rate == high == 1.0]
        if not mine:
            continue
        weight = np.array([one.trials for one in mine])
        found, chance = np.average([(one.found, one.chance) for one in mine], axis=0, weights=weight).tolist()
        numbers[f"{100 * low:.0f}-{100 * high:.0f} %"] = {
            "stimuli": len(mine),
            "trials": int(weight.sum()),
            "found": found,
            "chance": chance,
            "share_of_chance": found / chance if chance else None,
        }
    return numbers
