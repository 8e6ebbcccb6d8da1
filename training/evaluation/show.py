"""Table 1 on the console: balanced accuracies in percent with their intervals, and what they are to be held against.

A table for each group of participants and protocol, 80 columns wide, so that no name breaks.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from training.evaluation.rows import OBSERVERS, WORDS

PROBES = {"prestimulus": "before the stimulus", "evoked": "after the stimulus"}


def show(result: dict[str, Any], console: Console) -> None:
    """A column for each window, tested on new sessions where there are any."""
    for group, protocols in result["together"].items():
        for protocol, probes in protocols.items():
            console.print(_table(group, protocol, probes))
    console.print("balanced accuracy, % [95 % interval]  share of what the ideal observer has above chance (50)")


def _table(group: str, protocol: str, probes: dict[str, Any]) -> Table:
    tested = {probe: next(iter(numbers["rows"].items())) for probe, numbers in probes.items()}
    where = " and ".join(dict.fromkeys(name for name, _ in tested.values()))
    title = f"\n{group}: {protocol} trials, {where}"
    table = Table(box=None, title=title, title_justify="left", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("read from", no_wrap=True)
    for probe in tested:
        table.add_column(PROBES.get(probe, probe), no_wrap=True)
    for name, words in (WORDS | {f"observer_{name}": words for name, words in OBSERVERS.items()}).items():
        found = [rows.get(name) for _, rows in tested.values()]
        if any(found):
            table.add_row(words, *map(_cell, found))
    return table


def _cell(found: dict[str, Any] | None) -> str:
    if found is None or found["interval"] is None:
        return "–"
    low, high = found["interval"]
    text = f"{100 * found['balanced_accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    share = found.get("efficiency")
    told = share and abs(share["value"]) < 10  # an ideal observer at chance makes no share
    return f"{text:<17} {share['value']:5.2f}" if told else text
