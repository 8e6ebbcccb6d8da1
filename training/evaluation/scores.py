"""What came of it: each row of a question scored, compared, and put together over participants. Pure.

Balanced accuracies are fractions. Every row of a question is scored on the same trials and the same resamples, so that
differences are paired. Bootstrap samples are kept beside the numbers (`Scored.samples`) until participants are put
together: the mean over participants is taken within each sample.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.outcomes import Layout, Outcome
from training.evaluation.splits import Rows
from training.evaluation.statistics import (
    Resamples,
    area_under_curve,
    balanced,
    brier,
    calibration_error,
    difference,
    efficiency,
    interval,
    mcnemar,
    over_participants,
    reliability,
    within_cells,
)
from training.evaluation.trial_file import Seen
from training.trials import Trials

Labels = NDArray[np.bool_]
Told = tuple[NDArray[np.float64], NDArray[np.float64] | float]  # probability, above what a percept is called


@dataclass(frozen=True, eq=False)
class Scored:
    """`right` (n,): how right each trial of the test was called; `samples`: its balanced accuracy in each resample."""

    numbers: dict[str, Any]
    right: NDArray[np.float64]
    samples: NDArray[np.float64]


@dataclass(eq=False)
class Question:
    """One question of one participant: `rows` by where they were tested, then by name; `few`: labels -> name."""

    test: dict[str, Resamples]
    perceived: dict[str, Labels]
    rows: dict[str, dict[str, Scored]] = field(default_factory=dict)
    few: dict[int, dict[str, Scored]] = field(default_factory=dict)


NEW, LATER, EACH, LEFT_OUT = "new sessions", "later trials", "each session", "left-out sessions"


def question(seen: Seen, layout: Layout, outcomes: dict[str, Outcome]) -> Question:
    """Everything scored. `new sessions` are there where the layout has them; `few` are of them, or else of the later
    trials."""
    trials, cell = seen.trials, _cells(seen.trials)
    tests: dict[str, Rows] = {LATER: layout.later}
    if len(layout.new):
        tests = {NEW: layout.new} | tests
    learning = np.sort(np.concatenate([layout.training, layout.later]))
    by_each = any(one.left_out is not None for one in outcomes.values())
    everywhere = tests | ({EACH: layout.later, LEFT_OUT: learning} if by_each else {})
    found = Question(
        {name: Resamples.drawn(trials.session[rows]) for name, rows in everywhere.items()},
        {name: trials.perceived[rows] for name, rows in everywhere.items()},
    )
    usual = float(trials.perceived[layout.training].mean())
    told: dict[str, dict[str, Told]] = {name: {} for name in everywhere}
    for name, one in outcomes.items():
        for where, rows in tests.items():
            told[where][name] = one.pooled.probability[rows], one.pooled.threshold
        for where, both in ((EACH, one.per_session), (LEFT_OUT, one.left_out)):
            if both is not None:
                told[where][name] = tuple(part[everywhere[where]] for part in both)  # type: ignore[assignment]
    for name, probability in seen.observers.items():
        for where, rows in everywhere.items():
            if np.isfinite(probability[rows]).all():
                told[where][f"observer_{name}"] = probability[rows], usual
    for where, rows in everywhere.items():
        found.rows[where] = {  # a row that was foretold of no trial, for want of trials to learn from, is not there
            name: _scored(trials.perceived[rows], *one, found.test[where], cell[rows])
            for name, one in told[where].items()
            if np.isfinite(one[0]).any()
        }
        _add_efficiency(found.rows[where], found.perceived[where], found.test[where])
    where = next(iter(tests))
    for name, one in outcomes.items():
        for labels, (probability, threshold) in one.few.items():
            scored = _few(found.perceived[where], probability, threshold, found.test[where])
            found.few.setdefault(labels, {})[name] = scored
    return found


def _cells(trials: Trials) -> NDArray[np.str_]:
    """Electrode and current; a staircase's current is that of its session."""
    return np.array([f"{e} {c:.3g}" for e, c in zip(trials.electrode, trials.current_ua, strict=True)])


def _scored(
    perceived: Labels, probability: NDArray[np.float64], threshold: Any, resamples: Resamples, cell: NDArray[np.str_]
) -> Scored:
    known = np.isfinite(probability)
    called = probability > threshold
    right = np.where(known, called == perceived, np.nan)
    if not known.all():  # sessions too short to learn from by themselves: said, and left out
        resamples = resamples.only(known)
    samples = resamples.balanced_accuracy(perceived[known], right[known])
    bins = reliability(perceived[known], probability[known])
    numbers = {
        "trials": int(known.sum()),
        "perceived": int(perceived[known].sum()),
        "balanced_accuracy": balanced(perceived[known], right[known]),
        "interval": interval(samples),
        "auc": area_under_curve(perceived[known], probability[known]),
        "brier": brier(perceived[known], probability[known]),
        "calibration_error": calibration_error(bins),
        "reliability": [asdict(one) for one in bins],
        "within_cells": within_cells(perceived[known], called[known], probability[known], cell[known]),
    }
    return Scored(numbers, right, samples)


def _few(
    perceived: Labels, probability: NDArray[np.float64], threshold: NDArray[np.float64], resamples: Resamples
) -> Scored:
    """Mean over draws: a trial is as right as the share of draws that call it right."""
    each = (probability > threshold[:, None]) == perceived
    right = each.mean(axis=0)
    samples = resamples.balanced_accuracy(perceived, right)
    by_draw = [balanced(perceived, one) for one in each]
    numbers = {
        "balanced_accuracy": balanced(perceived, right),
        "interval": interval(samples),
        "by_draw": by_draw,
        "draws": len(by_draw),
    }
    return Scored(numbers, right, samples)


def _add_efficiency(rows: dict[str, Scored], perceived: Labels, resamples: Resamples) -> None:
    if (ideal := rows.get("observer_window")) is None:
        return
    for one in rows.values():
        if np.isfinite(one.right).all():
            one.numbers["efficiency"] = efficiency(perceived, one.right, ideal.right, resamples)


# Comparisons ---------------------------------------------------------------------------------------------------------


def compared(found: Question, where: str, name: str, other: str) -> dict[str, Any] | None:
    """Row `name` less row `other` on the same trials; None where one of them is missing or has gaps."""
    rows = found.rows[where]
    if name not in rows or other not in rows:
        return None
    return _compared(found.perceived[where], rows[name], rows[other], found.test[where])


def compared_few(found: Question, labels: int, name: str, other: str) -> dict[str, Any] | None:
    rows = found.few.get(labels, {})
    if name not in rows or other not in rows:
        return None
    where = next(iter(found.test))
    return _compared(found.perceived[where], rows[name], rows[other], found.test[where])


def _compared(perceived: Labels, one: Scored, other: Scored, resamples: Resamples) -> dict[str, Any] | None:
    if not (np.isfinite(one.right).all() and np.isfinite(other.right).all()):
        return None
    numbers = difference(perceived, one.right, other.right, resamples)
    if set(np.unique(one.right)) | set(np.unique(other.right)) <= {0.0, 1.0}:
        numbers["mcnemar"] = mcnemar(one.right > 0, other.right > 0)
    return numbers


# Participants together -----------------------------------------------------------------------------------------------


def together(rows: list[Scored], ideal: list[Scored] | None = None) -> dict[str, Any]:
    """Mean balanced accuracy over participants: the interval is that of these participants' trials; `participants` has
    Student's, for the next one. `efficiency` is the ratio of means."""
    numbers: dict[str, Any] = {
        "balanced_accuracy": float(np.mean([one.numbers["balanced_accuracy"] for one in rows])),
        "interval": interval(np.mean([one.samples for one in rows], axis=0)),
        "over_participants": over_participants([one.numbers["balanced_accuracy"] for one in rows]),
        "trials": sum(int(np.isfinite(one.right).sum()) for one in rows),
    }
    if ideal:
        ours, best = (np.mean([one.samples for one in them], axis=0) - 0.5 for them in (rows, ideal))
        of_ideal = float(np.mean([one.numbers["balanced_accuracy"] for one in ideal]))
        numbers["efficiency"] = {
            "value": (numbers["balanced_accuracy"] - 0.5) / (of_ideal - 0.5),
            "interval": interval(ours / np.where(best > 0, best, np.nan)),
        }
    return numbers


def together_compared(rows: list[Scored], others: list[Scored]) -> dict[str, Any]:
    """Mean difference over participants, each scored on the same resamples of its own trials."""
    each = [a.numbers["balanced_accuracy"] - b.numbers["balanced_accuracy"] for a, b in zip(rows, others, strict=True)]
    samples = np.mean([a.samples - b.samples for a, b in zip(rows, others, strict=True)], axis=0)
    return {
        "balanced_accuracy": float(np.mean(each)),
        "interval": interval(samples),
        "over_participants": over_participants(each),
    }
