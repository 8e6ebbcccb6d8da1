"""From the files of all participants to the numbers of `result.json` (`files` writes them)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluation import identity
from training.evaluation.outcomes import Layout, Outcome
from training.evaluation.rows import RIVALS, WITHOUT_CORTEX, WORDS, Row
from training.evaluation.scores import Question, Scored, compared, compared_few, question, together, together_compared
from training.evaluation.subject import Subject
from training.evaluation.trial_file import Seen

COMPARED = ("mae", "mae_place_slow", "mae_served")  # the paper's, the encoder's best, and what is served
CONTROLS = ("untrained", "time_shuffled", "no_cross_session", "electrodes_permuted")
PAIRS = (
    *((one, other) for one in COMPARED for other in (
        "raw_mua", "pca", "pca_rest", *RIVALS, "supervised", *WITHOUT_CORTEX,
    )),
    *(("mae", other) for other in CONTROLS),
    *(("mae_place_slow", f"{other}_place_slow") for other in CONTROLS),
    *(("mae_served", f"{other}_served") for other in CONTROLS),
    *((row.name, "mae") for row in map(Row.of, WORDS) if row.encoder == "mae" != row.name and row.beside is None),
    ("electrodes_removed", "mae"),
    ("electrodes_removed_place_slow", "mae_place_slow"),
    ("mae_and_stimulus", "stimulus"),
    ("electrodes_removed_served", "mae_served"),
    ("mae_served", "mae_place_slow"),
    ("mae_place_slow_and_stimulus", "stimulus"),
    ("mae_served_and_stimulus", "stimulus"),
    ("statistics_slow_and_stimulus", "stimulus"),
    ("mae_served_and_without_cortex", "without_cortex"),
)  # fmt: skip


class Measured:
    """One participant's questions, scored. `participant` holds what goes into result.json."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.questions: dict[tuple[str, str], Question] = {}
        self.participant: dict[str, Any] = {"full": subject.full, "group": subject.group, "questions": {}}
        for asked in subject.questions:
            seen, layout = subject.load(asked)
            outcomes = {row.name: read_outcome(subject.outcome_file(asked, row)) for row in subject.rows}
            found = question(seen, layout, outcomes)
            self.questions[asked] = found
            self.participant["questions"].setdefault(asked[0], {})[asked[1]] = _described(found, seen, layout, outcomes)
        there = [name for name in ("mae", "no_cross_session", "untrained") if name in subject.encoded_by]
        self.participant["rest"] = {name: self._resting(name) for name in there}
        mae = self._told("mae")
        for name in there[1:]:
            less = identity.session_identity_less(self._told(name), mae)
            self.participant["rest"][name]["session_identity_less_mae"] = less

    def _resting(self, name: str) -> dict[str, Any]:
        with np.load(self.subject.resting_file(name)) as stored:
            ratio = identity.participation_ratio(stored["held_out"])
        return {"session_identity": identity.session_identity(self._told(name)), "participation_ratio": ratio}

    def _told(self, name: str) -> identity.Told:
        with np.load(self.subject.resting_file(name)) as stored:
            return identity.Told(stored["told.right"], stored["told.session"])


def read_outcome(file: Path) -> Outcome:
    with np.load(file) as stored:
        return Outcome.from_arrays({name: stored[name] for name in stored})


def _described(found: Question, seen: Seen, layout: Layout, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    where = next(iter(found.test))
    by_chance = {}
    for name, one in outcomes.items():
        if one.by_chance is not None:
            observed = found.rows[where][name].numbers["balanced_accuracy"]
            by_chance[name] = {
                "mean": float(one.by_chance.mean()),
                "interval": [float(end) for end in np.percentile(one.by_chance, [2.5, 97.5])],
                "permutations": len(one.by_chance),
                "p": float((1 + np.sum(one.by_chance >= observed)) / (1 + len(one.by_chance))),
            }
    return {
        "trials": {
            "training": len(layout.training),
            "later": len(layout.later),
            "new": len(layout.new),
            "rejected": seen.trials.rejected,
            "sessions": len(np.unique(seen.trials.session)),
            "perceived": float(seen.trials.perceived.mean()),
        },
        "rows": {where: _numbers(rows) for where, rows in found.rows.items()},
        "few_labels": {n: _numbers(rows) for n, rows in found.few.items()},
        "compared": {
            where: _pairs((one, other, compared(found, where, one, other)) for one, other in PAIRS)
            for where in found.test
        },
        "compared_few": {
            n: _pairs((one, other, compared_few(found, n, one, other)) for one, other in PAIRS) for n in found.few
        },
        "permuted_labels": by_chance,
    }


def _numbers(rows: dict[str, Scored]) -> dict[str, Any]:
    """Without the reliability curves, which are long and have a file of their own."""
    return {name: {k: v for k, v in one.numbers.items() if k != "reliability"} for name, one in rows.items()}


def _pairs(found: Iterable[tuple[str, str, dict[str, Any] | None]]) -> dict[str, Any]:
    return {f"{one} - {other}": numbers for one, other, numbers in found if numbers is not None}


def over_participants(measured: list[Measured]) -> dict[str, Any]:
    """Each row that every one of these participants has, by protocol, probe and where it was tested."""
    found: dict[str, Any] = {}
    for asked in measured[0].subject.questions:
        each = [one.questions[asked] for one in measured]
        numbers: dict[str, Any] = {"rows": {}, "compared": {}, "few_labels": {}, "compared_few": {}}
        for where in each[0].rows:
            if not all(where in one.rows for one in each):
                continue
            rows = {name: [one.rows[where].get(name) for one in each] for name in each[0].rows[where]}
            whole = {name: scored for name, scored in rows.items() if all(scored)}
            ideal = whole.get("observer_window")
            numbers["rows"][where] = {name: together(scored, ideal) for name, scored in whole.items()}
            numbers["compared"][where] = {
                f"{one} - {other}": together_compared(whole[one], whole[other])
                for one, other in PAIRS
                if one in whole and other in whole
            }
        for labels in each[0].few:
            rows = {name: [one.few.get(labels, {}).get(name) for one in each] for name in each[0].few[labels]}
            whole = {name: scored for name, scored in rows.items() if all(scored)}
            numbers["few_labels"][labels] = {name: together(scored) for name, scored in whole.items()}
            numbers["compared_few"][labels] = {
                f"{one} - {other}": together_compared(whole[one], whole[other])
                for one, other in PAIRS
                if one in whole and other in whole
            }
        found.setdefault(asked[0], {})[asked[1]] = numbers
    return found
