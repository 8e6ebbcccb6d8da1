"""What was found, in words that say no more than the intervals do, losses included."""

from __future__ import annotations

from typing import Any

from training.page import card
from training.report.palette import IDEAL, NAMES, ours
from training.report.parts import stated, table
from training.report.result import PROBES, Result, tested, words
from training.report.table1 import best_rival, columns_of, counted, score, share

Asked = tuple[str, str]


def main_question(result: Result) -> tuple[str, Asked, dict[str, Any]]:
    """Group, question and its numbers: near threshold, before the stimulus, which is what a trigger uses, in the first
    group that has it."""
    found = [(group, asked, one) for group, each in result.groups.items() for asked, one in columns_of(each).items()]
    rank = {("threshold", "prestimulus"): 0, ("threshold", "evoked"): 1, ("psychometric", "prestimulus"): 2}
    return min(found, key=lambda one: rank.get(one[1], 3))


def verdict(found: dict[str, Any] | None) -> str:
    """Of a paired difference: better, worse, or no difference shown."""
    if found is None or not found["interval"]:
        return "not compared"
    low, high = found["interval"]
    return "better" if low > 0 else "worse" if high < 0 else "no difference shown"


def headline(result: Result) -> str:
    """One sentence on the main question."""
    _, asked, one = main_question(result)
    where, rows = tested(one["rows"])
    name = next(iter(ours(rows)), None)
    if name is None:
        return "Decoding of percepts"
    low = (rows[name]["interval"] or [0.5])[0]
    what = "foretells" if asked[1] == "prestimulus" else "tells"
    if low <= 0.5:
        return f"The masked autoencoder's embedding is not shown to know whether a stimulation {_seen(asked)}"
    compared = one["compared"].get(where, {})
    told = {other: verdict(compared.get(f"{name} - {other}")) for other in ("raw_mua", "pca") if other in rows}
    rival = best_rival(rows)
    against = verdict(compared.get(f"{name} - {rival}")) if rival else "not compared"
    ahead = " and ".join(NAMES[other].split(" of")[0] for other, said in told.items() if said == "better")
    who = "The masked autoencoder" + " with statistics of the window" * (name == "mae_served")
    sentence = f"{who} {what} percepts" + (f" better than {ahead}" if ahead else ", no better than PCA")
    if against == "better":
        return f"{sentence}, and better than the best simple rival"
    if against == "worse":
        return f"{sentence}; a simple rival does better"
    return sentence if against == "not compared" else f"{sentence}; a simple rival does as well"


def _seen(asked: Asked) -> str:
    return "would be perceived" if asked[1] == "prestimulus" else "was perceived"


def sentences(result: Result) -> list[str]:
    """What was found near threshold (over all currents where there is nothing else): with its numbers for one group of
    participants, counted over groups for several."""
    found = _near(result)
    by_probe: dict[str, list[tuple[str, Asked, dict[str, Any]]]] = {}
    for one in found:
        by_probe.setdefault(one[1][1], []).append(one)
    return [_sentence(*each[0]) if len(each) == 1 else _counts(probe, each) for probe, each in by_probe.items()]


def _near(result: Result) -> list[tuple[str, Asked, dict[str, Any]]]:
    everything = [
        (group, asked, one)
        for group, protocols in result.groups.items()
        for asked, one in columns_of(protocols).items()
        if ours(tested(one["rows"])[1])
    ]
    return [one for one in everything if one[1][0] == "threshold"] or everything


RIVAL = "the best simple rival"
AGAINST = {"raw_mua": "raw MUA", "pca": "PCA", "supervised": "labels alone", "untrained": "untrained"}


def differences(one: dict[str, Any]) -> dict[str, dict[str, Any] | None]:
    """The encoder's row less each of AGAINST and the best simple rival, by their words."""
    where, rows = tested(one["rows"])
    name, compared = ours(rows)[0], one["compared"].get(where, {})
    others = {words: other for other, words in AGAINST.items()} | {RIVAL: best_rival(rows)}
    others["untrained"] = f"untrained{name.removeprefix('mae')}"  # read in the same way
    return {words: compared.get(f"{name} - {other}") for words, other in others.items()}


def _counts(probe: str, found: list[tuple[str, Asked, dict[str, Any]]]) -> str:
    rows = [tested(one["rows"])[1] for *_, one in found]
    known = sum((each[ours(each)[0]]["interval"] or [0])[0] > 0.5 for each in rows)
    who = NAMES[ours(rows[0])[0]]
    text = f"{PROBES.get(probe, probe)} In {known} of {len(found)} groups {who} is shown to know something"
    text += " (level: no difference shown)"
    for other in (*AGAINST.values(), RIVAL):
        said = [verdict(differences(one)[other]) for *_, one in found]
        counted = [
            f"{words} in {said.count(kind)}"
            for kind, words in (("better", "ahead"), ("no difference shown", "level"), ("worse", "behind"))
            if kind in said
        ]
        text += f"; against {other}: {', '.join(counted)}" if counted else ""
    return text + "."


def overview(result: Result) -> str:
    """The same as a table: every group and window near threshold, points of difference with their intervals."""
    lines: list[list[str]] = []
    for asked in dict.fromkeys(asked for _, asked, _ in _near(result)):
        lines.append([words(*asked)])
        for group, one in [(group, one) for group, each, one in _near(result) if each == asked]:
            rows = tested(one["rows"])[1]
            name = ours(rows)[0]
            told = [_points(each) for each in differences(one).values()]
            lines.append([group, score(rows[name]), share(rows[name]), *told])
    head = ["points of balanced accuracy [95 %]", "score", "share", *(f"less {other}" for other in AGAINST.values())]
    return table([*head, "less its best simple rival"], lines, "found")


def _points(found: dict[str, Any] | None) -> str:
    if found is None or not found["interval"]:
        return "–"
    return stated(100 * found["balanced_accuracy"], [100 * end for end in found["interval"]], 1)


def _sentence(group: str, asked: Asked, one: dict[str, Any]) -> str:
    where, rows = tested(one["rows"])
    text = f"{group} ({counted(rows)}, {asked[0]}, {where}). {PROBES.get(asked[1], asked[1])} "
    name = next(iter(ours(rows)), None)
    if name is None:
        return text + "No encoder was asked."
    text += f"{NAMES[name]}: {_percent(rows[name])}"
    text += f"; the paper's mean of its tokens: {_percent(rows['mae'])}" if name != "mae" and "mae" in rows else ""
    ideal = rows.get(IDEAL)
    if ideal:
        told = share(rows[name])
        text += f"; the ideal observer of the same window: {_percent(ideal)}" + (f", a share of {told}" if told else "")
    text += ". "
    compared = one["compared"].get(where, {})
    rival = best_rival(rows)
    others = [other for other in ("raw_mua", "pca", "supervised", "untrained_place_slow", rival) if other in rows]
    said = [_against(NAMES[other], compared.get(f"{name} - {other}"), other == rival) for other in others]
    return text + ("Against " + "; ".join(each for each in said if each) + "." if any(said) else "")


def _percent(found: dict[str, Any]) -> str:
    return stated(found["balanced_accuracy"], found["interval"], percent=True)


def _against(name: str, found: dict[str, Any] | None, best: bool) -> str:
    if found is None or not found["interval"]:
        return ""
    said = {"better": "ahead", "worse": "behind"}.get(verdict(found), "no difference shown")
    return f"{name}{', the best simple rival,' if best else ''} {_points(found)} points ({said})"


def cards(result: Result) -> list[str]:
    """The main question's numbers, to look at first."""
    rows = tested(main_question(result)[2]["rows"])[1]
    name = next(iter(ours(rows)), None)
    if name is None:
        return []
    found = [_card(rows[name], f"{NAMES[name]}", "chance 50")]
    for other in ("pca", best_rival(rows)):
        if other in rows:
            found.append(_card(rows[other], NAMES[other] + (", the best simple rival" if other != "pca" else "")))
    if IDEAL in rows:
        told = rows[name].get("efficiency")
        found.append(_card(rows[IDEAL], "ideal observer of the same window"))
        if told and abs(told["value"]) < 10:
            interval = f"95 %: {stated(told['interval'][0])} to {stated(told['interval'][1])}"
            found.append(card(stated(told["value"]), "of what the ideal observer has above chance", interval))
    return found


def _card(found: dict[str, Any], words: str, more: str = "") -> str:
    low, high = ("–", "–") if not found["interval"] else (stated(100 * end, digits=1) for end in found["interval"])
    return card(stated(found["balanced_accuracy"], percent=True), words, f"95 %: {low} to {high}", more)
