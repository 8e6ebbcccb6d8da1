"""What a section of the report is made of: words, pictures, tables of numbers with what chance gives beside them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from training.page import minus
from training.report.drawn import Drawn

Ends = Sequence[float | None] | None


@dataclass(frozen=True)
class Number:
    """One line beside a picture: what was found with its 95 % interval, and what shuffled labels give."""

    words: str
    value: float | None
    interval: Ends = None
    chance: float | None = None
    chance_interval: Ends = None
    digits: int = 2
    percent: bool = False
    note: str = ""  # of whom, out of how many

    def told(self) -> tuple[str, str]:
        return (
            stated(self.value, self.interval, self.digits, self.percent),
            stated(self.chance, self.chance_interval, self.digits, self.percent),
        )


@dataclass(frozen=True, eq=False)
class Part:
    """A section: its anchor, its title, a note in plain words, pictures, tables (HTML), and what is left out and why.
    `folded` tables are there to be opened."""

    name: str
    title: str
    note: str
    drawn: Sequence[Drawn] = ()
    beside: str = ""  # a narrow table beside the last picture
    tables: Sequence[str] = ()
    folded: Sequence[tuple[str, str]] = ()  # what it says when it is shut, the table
    missing: str = ""


def stated(value: float | None, interval: Ends = None, digits: int = 2, percent: bool = False) -> str:
    """`64.0 % [61.2, 66.8]`; an end that is open is ∞."""
    if value is None or value != value:
        return "–"
    scale, unit = (100, " %") if percent else (1, "")
    digits = 1 if percent and digits == 2 else digits
    found = _rounded(scale * value, digits) + unit
    if interval is not None:
        low, high = ("∞" if end is None else _rounded(scale * end, digits) for end in interval)
        found += f" [{'−∞' if low == '∞' else low}, {high}]"
    return found


def _rounded(value: float, digits: int) -> str:
    """Without a sign before nothing."""
    return minus(f"{round(value, digits) + 0.0:.{digits}f}")


def text(plain: str) -> str:
    """As HTML; a number and its unit stay on one line."""
    return html.escape(plain).replace(" %", "\N{NO-BREAK SPACE}%").replace(" [", "\N{NO-BREAK SPACE}[")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], widths: str = "") -> str:
    """Plain text in, one table out. A row of one cell is a heading over those that follow."""
    lines = [f"<tr>{''.join(f'<th>{text(cell)}</th>' for cell in head)}</tr>"]
    for row in rows:
        if len(row) == 1:
            lines.append(f'<tr class="over"><th colspan="{len(head)}">{text(row[0])}</th></tr>')
        else:
            lines.append(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>")
    return f'<div class="scroll"><table class="{widths}">{"".join(lines)}</table></div>'


def numbers_table(numbers: Sequence[Number]) -> str:
    """What stands beside a picture."""
    rows = [[one.words, *one.told(), one.note] for one in numbers]
    return table(("", "found [95 %]", "labels shuffled [95 %]", "of"), rows, "last-words")


def kept(numbers: Sequence[Number]) -> dict[str, Any]:
    """For numbers.json: by its words."""
    return {one.words: {key: value for key, value in asdict(one).items() if key != "words"} for one in numbers}
