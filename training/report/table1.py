"""Table 1 of the paper, with everything that it has to be held against: a section for each group of participants."""

from __future__ import annotations

from typing import Any

from training.evaluation.rows import RIVALS
from training.report.palette import BASELINES, IDEAL, KINDS, NAMES, OURS, ours
from training.report.parts import Part, stated, table
from training.report.result import Result, tested, words

Columns = dict[tuple[str, str], dict[str, Any]]  # question -> its numbers


def parts(result: Result) -> list[Part]:
    return [_part(result, group, columns_of(protocols)) for group, protocols in result.groups.items()]


def columns_of(protocols: dict[str, Any]) -> Columns:
    return {(protocol, probe): numbers for protocol, probes in protocols.items() for probe, numbers in probes.items()}


def best_rival(rows: dict[str, Any]) -> str | None:
    """The simple rival that did best on the very test: the choice is in its favour."""
    there = [name for name in RIVALS if name in rows]
    return max(there, key=lambda name: rows[name]["balanced_accuracy"]) if there else None


def members(result: Result, group: str, asked: tuple[str, str]) -> list[str]:
    """The participants that were put together."""
    protocol, probe = asked
    return [
        name
        for name, one in result.numbers["participants"].items()
        if one.get("group") == group and probe in one["questions"].get(protocol, {})
    ]


def counted(rows: dict[str, Any]) -> str:
    """How many participants these rows are of."""
    n = next(iter(rows.values()))["over_participants"]["participants"]
    return f"{n} participant{'s' * (n != 1)}"


def _part(result: Result, group: str, columns: Columns) -> Part:
    who = members(result, group, next(iter(columns)))
    where = ", ".join(dict.fromkeys(tested(one["rows"])[0] for one in columns.values()))
    n = counted(tested(next(iter(columns.values()))["rows"])[1])
    note = (
        "Balanced accuracy in % with its 95 % interval over trials; beside it the share of what the ideal observer "
        f"of the same window has above chance. Tested on {where}; {n}. Chance is 50."
    )
    core = [*BASELINES, *OURS[::-1], *_rivals(columns), "supervised", "stimulus", IDEAL]
    splits = [(f"Split in other ways: {words(*asked)}", _splits(one["rows"], core)) for asked, one in columns.items()]
    folded = [("Every row", _table(columns, KINDS)), *splits]
    if len(who) > 1:
        folded.insert(1, ("What to expect of the next participant", _next(columns, core)))
    name = "table-" + "".join(one if one.isalnum() else "-" for one in group)
    return Part(name, f"Table 1: {group}", note, tables=[_table(columns, {"": core}, _chance(result, who, columns))],
                folded=folded)  # fmt: skip


def _rivals(columns: Columns) -> list[str]:
    """The best of each column."""
    best = [best_rival(tested(one["rows"])[1]) for one in columns.values()]
    return list(dict.fromkeys(name for name in best if name))


def _head(columns: Columns) -> list[str]:
    return ["read from", *(cell for asked in columns for cell in (words(*asked), "share"))]


def _table(columns: Columns, kinds: dict[str, Any], last: list[str] | None = None) -> str:
    lines = []
    for kind, rows in kinds.items():
        mine = []
        for name in rows:
            found = [tested(one["rows"])[1].get(name) for one in columns.values()]
            if any(found):
                mine.append([NAMES[name], *(cell for one in found for cell in (score(one), share(one)))])
        if mine:
            lines += [[kind]] * bool(kind) + mine
    return table(_head(columns), [*lines, last] if last else lines, "scores")


def score(found: dict[str, Any] | None) -> str:
    """`58.3 [57.1, 59.6]`"""
    if not found:
        return "–"
    interval = found["interval"]
    return stated(100 * found["balanced_accuracy"], interval and [100 * end for end in interval], 1)


def share(found: dict[str, Any] | None) -> str:
    """Of the ideal observer's; nothing where that is at chance itself."""
    told = found and found.get("efficiency")
    return stated(told["value"]) if told and abs(told["value"]) < 10 else ""


def _chance(result: Result, who: list[str], columns: Columns) -> list[str] | None:
    """What permuted labels give with the encoder's row, where one participant has them."""
    cells = []
    for protocol, probe in columns:
        found = result.numbers["participants"][who[0]]["questions"][protocol][probe]["permuted_labels"] if who else {}
        name = next(iter(ours(found)), None)
        one = found[name] if name and len(who) == 1 else None
        cells += [stated(100 * one["mean"], [100 * end for end in one["interval"]], 1) if one else "50.0", ""]
    return ["chance: labels permuted" if any("[" in cell for cell in cells) else "chance", *cells]


def _splits(rows: dict[str, Any], names: list[str]) -> str:
    head = ["read from", *rows]
    lines = [[NAMES[name], *(score(each.get(name)) for each in rows.values())] for name in names]
    return table(head, [line for line in lines if set(line[1:]) != {"–"}], "scores")


def _next(columns: Columns, names: list[str]) -> str:
    lines = []
    for name in names:
        found = [tested(one["rows"])[1].get(name) for one in columns.values()]
        each = [one["over_participants"] if one else {"mean": None, "interval": None} for one in found]
        cells = [
            stated(one["mean"] and 100 * one["mean"], one["interval"] and [100 * end for end in one["interval"]], 1)
            for one in each
        ]
        if any(found):
            lines.append([NAMES[name], *cells])
    return table(["read from", *(words(*asked) for asked in columns)], lines, "scores")
