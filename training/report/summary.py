"""What was found, in words that say no more than the intervals do, losses included."""

from __future__ import annotations

from typing import Any

from training.page import card
from training.report.palette import IDEAL, NAMES, ours
from training.report.parts import stated
from training.report.result import PROBES, Result, tested
from training.report.table1 import best_rival, columns_of, counted, share

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
    sentence = f"The masked autoencoder {what} percepts" + (
        f" better than {ahead}" if ahead else ", no better than PCA"
    )
    if against == "better":
        return f"{sentence}, and better than the best simple rival"
    if against == "worse":
        return f"{sentence}; a simple rival does better"
    return sentence if against == "not compared" else f"{sentence}; a simple rival does as well"


def _seen(asked: Asked) -> str:
    return "would be perceived" if asked[1] == "prestimulus" else "was perceived"


def sentences(result: Result) -> list[str]:
    """One for each group and question near threshold; psychometric ones where there are no others."""
    found = []
    for group, protocols in result.groups.items():
        columns = columns_of(protocols)
        near = {asked: one for asked, one in columns.items() if asked[0] == "threshold"} or columns
        found += [_sentence(group, asked, one) for asked, one in near.items()]
    return found


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
    points = stated(100 * found["balanced_accuracy"], [100 * end for end in found["interval"]], 1)
    words = {"better": "ahead", "worse": "behind", "no difference shown": "no difference shown"}[verdict(found)]
    return f"{name}{', the best simple rival,' if best else ''} {points} points ({words})"


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
