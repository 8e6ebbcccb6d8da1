"""A picture of the report: what was drawn, the numbers that make it evidence, and the rows that it was drawn from."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from training.drawing import svg


@dataclass(frozen=True, eq=False)
class Drawn:
    """`name` is that of its files. `rows` under `columns` hold every point and line of the figure."""

    name: str
    figure: Figure
    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    numbers: dict[str, Any] = field(default_factory=dict)


def save(folder: Path, drawn: Drawn) -> str:
    """Leaves NAME.svg and NAME.csv in `folder`; the SVG once more, for the page."""
    text = svg(drawn.figure, drawn.name)
    (folder / f"{drawn.name}.svg").write_text(text)
    with (folder / f"{drawn.name}.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(drawn.columns)
        writer.writerows([_cell(value) for value in row] for row in drawn.rows)
    return text


def _cell(value: Any) -> Any:
    """Six digits are more than any figure shows."""
    return f"{value:.6g}" if isinstance(value, float) else value
