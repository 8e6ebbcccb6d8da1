"""What of an evaluation is committed: every number that a document quotes, in a file that one can still open.

    python -m training.evaluation.abridged RUN docs/results/evaluation-DATE.json

Rounded to four digits. Of all participants together everything. Of those with every control all that was found on new
sessions. Of the others their scores there, and how far what is served is from what the paper compares with. And the
numbers that stand beside the report's figures.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

WHERE = "new sessions"
OURS = ("mae_place_slow", "mae_served")
PAPERS = tuple(f"{one} - {rival}" for one in OURS for rival in ("raw_mua", "pca"))
SCORES = ("balanced_accuracy", "interval", "efficiency")
NOTE = "Of `phosphene evaluate`, abridged by training/evaluation/abridged.py, which says what of it is here."


def abridged(result: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
    """`result` of result.json, `figures` of figures/numbers.json."""
    participants = {name: _participant(one) for name, one in result["participants"].items()}
    return _rounded({**result, "participants": participants, "figures": figures, "note": NOTE})


def _participant(one: dict[str, Any]) -> dict[str, Any]:
    kept = _all if one["full"] else _scores
    questions = {
        protocol: {probe: kept(asked) for probe, asked in probes.items()}
        for protocol, probes in one["questions"].items()
    }
    return {**one, "questions": questions}


def _all(asked: dict[str, Any]) -> dict[str, Any]:
    found = {name: {WHERE: asked[name].get(WHERE, {})} for name in ("rows", "compared")}
    return {**_both(asked), **found, "permuted_labels": asked["permuted_labels"]}


def _scores(asked: dict[str, Any]) -> dict[str, Any]:
    rows = {name: {key: row[key] for key in SCORES if key in row} for name, row in asked["rows"].get(WHERE, {}).items()}
    return {**_both(asked), "rows": {WHERE: rows}, "compared": {WHERE: _papers(asked["compared"].get(WHERE, {}))}}


def _both(asked: dict[str, Any]) -> dict[str, Any]:
    few = {labels: _papers(pairs) for labels, pairs in asked["compared_few"].items()}
    return {"trials": asked["trials"], "compared_few": few}


def _papers(found: dict[str, Any]) -> dict[str, Any]:
    return {pair: found[pair] for pair in PAPERS if pair in found}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value


def _write(file: Path, told: dict[str, Any]) -> None:
    """A line for each group and participant, so that a difference can be read."""
    lines = []
    for name, value in told.items():
        if name in ("together", "participants", "figures"):
            inner = ",\n".join(f" {json.dumps(key)}: {_short(one)}" for key, one in value.items())
            lines.append(f"{json.dumps(name)}: {{\n{inner}\n}}")
        else:
            lines.append(f"{json.dumps(name)}: {_short(value)}")
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _short(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def main(run: Path, out: Path) -> None:
    result, figures = (json.loads((run / name).read_text()) for name in ("result.json", "figures/numbers.json"))
    _write(out, abridged(result, figures))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
