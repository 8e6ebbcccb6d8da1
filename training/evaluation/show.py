"""Table 1 on the console: balanced accuracies in percent with their intervals, and what they are to be held against."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from training.evaluation.rows import OBSERVERS, WORDS


def show(result: dict[str, Any], console: Console) -> None:
    """A table for each group of participants, a column for each question, tested on new sessions where it has any."""
    for group, protocols in result["together"].items():
        columns = {
            f"{protocol}, {probe}": numbers
            for protocol, probes in protocols.items()
            for probe, numbers in probes.items()
        }
        table = Table("balanced accuracy, %", *columns, title=group)
        for name, words in (WORDS | {f"observer_{name}": words for name, words in OBSERVERS.items()}).items():
            found = [next(iter(numbers["rows"].values())).get(name) for numbers in columns.values()]
            if any(found):
                table.add_row(words, *map(_cell, found))
        console.print(table)


def _cell(found: dict[str, Any] | None) -> str:
    if found is None or found["interval"] is None:
        return "–"
    low, high = found["interval"]
    text = f"{100 * found['balanced_accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    share = found.get("efficiency")
    return f"{text} · {share['value']:.2f}" if share else text
