"""What a predictor foretells in each split: everything that is scored, and all that a figure needs of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.evaluation.predictors import Foretold, Linear, Predictor
from training.evaluation.splits import Rows, by_session, stretches, temporal
from training.readout import FOLDS

NEARLY_ALL = 0.9  # of the training part: so few labels are all of them, and need no fit of their own
FEWEST_OF_EACH = 4  # answers of either kind to learn from


@dataclass(frozen=True, eq=False)
class Layout:
    """Which trials are what. `learning` sessions give their first 80 % to learn from; `new` are never learned from."""

    session: NDArray[np.str_]  # (n,)
    perceived: NDArray[np.bool_]
    training: Rows
    later: Rows  # the last 20 % of the learning sessions
    new: Rows  # all of the new sessions; empty where there are none

    @classmethod
    def of(cls, session: NDArray[np.str_], perceived: NDArray[np.bool_], new: NDArray[np.bool_]) -> Layout:
        """`new` (n,) says which trials belong to new sessions."""
        learning = np.flatnonzero(~new)
        training, later = temporal(session[learning])
        return cls(session, perceived, learning[training], learning[later], np.flatnonzero(new))

    @property
    def test(self) -> Rows:
        """The new sessions, or the later trials where there are none."""
        return self.new if len(self.new) else self.later

    def enough(self, rows: Rows) -> bool:
        """Whether both answers occur among these trials, and still do with any fold of cross-validation away."""
        yes = self.perceived[rows]
        if min(yes.sum(), (~yes).sum()) < FEWEST_OF_EACH:
            return False
        folds = np.array_split(np.arange(len(rows)), FOLDS)
        return all(0 < np.delete(yes, fold).mean() < 1 for fold in folds)


@dataclass(eq=False)
class Outcome:
    """Probability and threshold of every trial, (n,) each, NaN where it was not foretold; `few`: labels ->
    probabilities (draws, test trials) and thresholds (draws,); `by_chance`: balanced accuracies on the test trials of
    fits to permuted labels."""

    pooled: Foretold
    per_session: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    left_out: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    few: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)
    by_chance: NDArray[np.float64] | None = None

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Flat, for a .npz file."""
        found = {"pooled": self.pooled.probability, "pooled_threshold": np.array(self.pooled.threshold)}
        for name in ("per_session", "left_out"):
            if (both := getattr(self, name)) is not None:
                found |= {name: both[0], f"{name}_threshold": both[1]}
        if self.by_chance is not None:
            found["by_chance"] = self.by_chance
        for labels, (probability, threshold) in self.few.items():
            found |= {f"few_{labels}": probability, f"few_{labels}_threshold": threshold}
        return found

    @classmethod
    def from_arrays(cls, stored: dict[str, NDArray[np.float64]]) -> Outcome:
        outcome = cls(Foretold(stored["pooled"], float(stored["pooled_threshold"])))
        outcome.by_chance = stored.get("by_chance")
        for name in stored:
            if name.startswith("few_") and not name.endswith("_threshold"):
                outcome.few[int(name.removeprefix("few_"))] = stored[name], stored[f"{name}_threshold"]
            elif name in ("per_session", "left_out"):
                setattr(outcome, name, (stored[name], stored[f"{name}_threshold"]))
        return outcome


def outcome(
    predict: Predictor,
    layout: Layout,
    labels: tuple[int, ...] = (),
    draws: int = 0,
    by_each_session: bool = True,
    permutations: int = 0,
) -> Outcome:
    """Pooled; `by_each_session` also fitted within each learning session, and with each of them left out; fitted to
    stretches of so few `labels`; and to permuted labels, where the predictor is linear."""
    found = Outcome(predict(layout.training))
    if permutations and isinstance(predict, Linear):
        found.by_chance = predict.by_chance(layout.training, layout.test, permutations)
    if by_each_session:
        found.per_session = _per_session(predict, layout)
        found.left_out = _left_out(predict, layout)
    for few in labels:
        if len(layout.training) * NEARLY_ALL <= few <= len(layout.training):
            found.few[few] = found.pooled.probability[layout.test][None], np.array([found.pooled.threshold])
            continue
        told = [predict(run) for run in stretches(layout.training, few, draws) if layout.enough(run)]
        if told:
            probability = np.stack([one.probability[layout.test] for one in told])
            found.few[few] = probability, np.array([one.threshold for one in told])
    return found


def _per_session(predict: Predictor, layout: Layout) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    probability, threshold = np.full((2, len(layout.session)), np.nan)
    for rows in _learning(layout):
        training, test = np.intersect1d(rows, layout.training), np.intersect1d(rows, layout.later)
        if layout.enough(training):
            told = predict(training)
            probability[test], threshold[test] = told.probability[test], told.threshold
    return probability, threshold


def _left_out(predict: Predictor, layout: Layout) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    probability, threshold = np.full((2, len(layout.session)), np.nan)
    sessions = _learning(layout)
    everything = np.concatenate(sessions)
    for rows in sessions:
        others = np.setdiff1d(everything, rows)
        if layout.enough(others):
            told = predict(others)
            probability[rows], threshold[rows] = told.probability[rows], told.threshold
    return probability, threshold


def _learning(layout: Layout) -> list[Rows]:
    learning = np.sort(np.concatenate([layout.training, layout.later]))
    return [learning[rows] for rows in by_session(layout.session[learning])]
