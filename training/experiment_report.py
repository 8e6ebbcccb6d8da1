"""The report of an experiment: one HTML file that needs nothing else, its figures drawn by experiment_figures.py."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streaming.participant.anatomy import Anatomy
from training.closed_loop import Walked
from training.experiment_figures import figures
from training.live_report import live_section
from training.page import card, minus, page, percent, section


def write_report(
    path: Path, result: dict[str, Any], walked: Sequence[Walked], anatomy: Anatomy, smoothing_s: float
) -> None:
    """Writes the file; `walked` gives what the figures need beyond the numbers: waits, and the first minute."""
    drawn = figures(result, walked, anatomy, smoothing_s)
    body = [
        '<span class="banner">SIMULATED PARTICIPANT</span>',
        f"<h1>{html.escape(headline(result))}</h1>",
        f'<p class="quiet">{html.escape(_how(result))}</p>',
        f'<div class="cards">{"".join(_cards(result))}</div>',
        '<div class="grid">',
        section("eight", "Hit rate by arm", _hit_note(result), drawn["hits"]),
        section("four", "Array", "Stimulated electrodes, with their thresholds.", drawn["array"]),
        section(
            "wide",
            "The loop closing",
            "The first session from the moment at which pulses may begin. "
            "The gate compares the running mean; the hidden state is never shown to it.",
            drawn["timeline"],
        ),
        section(
            "",
            "Does the probability hold?",
            "Trials in bins of equally many, all arms; bars are 95 % intervals. "
            f"Calibration error {result['reliability']['calibration_error']:.3f}.",
            drawn["reliability"],
        ),
        section("", "What waiting costs", "From the moment at which a pulse was lawful to the pulse.", drawn["waits"]),
        live_section(result["live"]) if "live" in result else "",
        _patterns(result),
        _method(result),
        "</div>",
    ]
    path.write_text(page("Phosphene: experiment on the simulated participant", "".join(body)))


# Words ---------------------------------------------------------------------------------------------------------------


def headline(result: dict[str, Any]) -> str:
    """What was found, in one sentence that does not say more than its interval."""
    found = result.get("compared", {}).get("favourable")
    if found is None or found["lift"]["value"] is None:
        return "Hit rates of " + ", ".join(result["arms"])
    ours, blind = result["arms"]["favourable"], result["arms"][result["compared_with"]]
    low, high = found["lift"]["interval"]
    rates = f"{percent(blind['rate'])} to {percent(ours['rate'])}"
    if low > 0:
        return f"Stimulating on favourable states raised the hit rate from {rates}"
    if high < 0:
        return f"Stimulating on states called favourable lowered the hit rate from {rates}"
    return (
        f"No difference between favourable and {result['compared_with']} moments could be shown: "
        f"{percent(ours['rate'])} and {percent(blind['rate'])} hits"
    )


def points(found: dict[str, Any] | None) -> tuple[str, str]:
    """A difference of rates in points, and its interval."""
    if not found or found["value"] is None:
        return "–", ""
    low, high = found["interval"]
    return minus(f"{100 * found['value']:+.1f} points"), minus(f"95 %: {100 * low:+.1f} to {100 * high:+.1f}")


def share_of(found: dict[str, Any] | None) -> tuple[str, str]:
    """A ratio, and its interval."""
    if not found or found["value"] is None:
        return "–", ""
    low, high = found["interval"]
    return minus(f"{found['value']:.2f}"), minus(f"95 %: {low:.2f} to {high:.2f}")


def _how(result: dict[str, Any]) -> str:
    told, arms = result["experiment"], result["arms"]
    counts = " and ".join(f"{arm['trials']} {name}" for name, arm in arms.items())
    sessions = f"{result['sessions']} session" + "s" * (result["sessions"] > 1)
    level = f"{told['level']}{', over LSL in real time' if 'live' in result else ''}"
    return (
        f"{counts} stimulations in {sessions}, {result['simulated_hours']:.1f} h of simulated cortex at level {level}, "
        f"decoded by {told['model']} ({told['precision']}); the schedule was drawn and written down before the first "
        f"trial (sha256 {told['sha256'][:16]}…)."
    )


def _cards(result: dict[str, Any]) -> list[str]:
    cards = []
    for name, found in result.get("compared", {}).items():
        value, interval = points(found["lift"])
        what = f"lift, {name} over {result['compared_with']}"
        cards.append(card(value, what, interval, _luckless(points(found["expected_lift"])[0])))
    if "live" in result and (found := result["live"]["latency"]["sample_to_trigger"]):
        tail = f"p99 {found['p99']:.1f}, p99.9 {found['p99.9']:.1f}, longest {found['max']:.1f}"
        cards.append(card(f"{found['p50']:.1f} ms", "newest sample to trigger, median", tail))
    ideal = result.get("ideal", {}).get("window")
    if ideal:
        value, interval = share_of(ideal["ratio_of_lifts"])
        expected = _luckless(share_of(ideal["ratio_of_expected_lifts"])[0])
        cards.append(card(value, "of the ideal observer's lift at the same rate", interval, expected))
    nobody = result.get("state_does_not_matter", {}).get("compared", {}).get("favourable")
    if nobody:
        value, interval = points(nobody["lift"])
        expected = _luckless(points(nobody["expected_lift"])[0])
        cards.append(card(value, "lift where the state does not matter", interval, expected))
    saved = result.get("compared", {}).get("favourable", {}).get("stimulations_saved")
    if saved and saved["value"] is not None:
        low, high = saved["interval"]
        interval = minus(f"95 %: {percent(low, 0)} to {percent(high, 0)}")
        cards.append(card(percent(saved["value"], 0), "fewer pulses and less charge per percept", interval))
    return cards


def _luckless(expected: str) -> str:
    """By the simulator's own probabilities at the same pulses."""
    return f"without the luck of answers {expected}"


def _hit_note(result: dict[str, Any]) -> str:
    shams = [arm["shams"] for arm in result["arms"].values()]
    hits, trials, unanswered = (sum(one[key] for one in shams) for key in ("hits", "trials", "unanswered"))
    answered = f"In {trials} shams the participant said yes {hits} times."
    return "Dots with Wilson's 95 % interval; a tick is what the simulator itself expected at these very moments. " + (
        f"{unanswered} shams, which nobody answered." if unanswered else answered
    )


def _patterns(result: dict[str, Any]) -> str:
    arms = result["arms"]
    head = "".join(f"<th>{html.escape(name)}</th><th>95 %</th>" for name in arms)
    rows = []
    first = next(iter(arms.values()))
    for place, pattern in enumerate(first["by_pattern"]):
        name = f"electrode {pattern['electrode']} at {pattern['current_ua']:g} µA"
        threshold = result["experiment"]["threshold_ua"].get(str(pattern["electrode"]))
        cells = f"<td>{name}</td><td>{threshold:.1f} µA</td>"
        for arm in arms.values():
            one = arm["by_pattern"][place] if place < len(arm["by_pattern"]) else None
            cells += (
                f"<td>{one['hits']} of {one['trials']}</td><td>{interval_of(one)}</td>" if one else "<td></td><td></td>"
            )
        rows.append(f"<tr>{cells}</tr>")
    note = (
        "Every arm has the same electrodes and currents, equally often; the staircase set the current near threshold."
    )
    return (
        f'<section class="wide"><h2>By electrode and current</h2><p class="quiet">{note}</p><div class="scroll"><table>'
        f"<tr><th>stimulus</th><th>threshold</th>{head}</tr>{''.join(rows)}</table></div></section>"
    )


def interval_of(one: dict[str, Any]) -> str:
    return f"{100 * one['interval'][0]:.0f}–{100 * one['interval'][1]:.0f} %"


def _method(result: dict[str, Any]) -> str:
    told, law = result["experiment"], result["lawful"]
    thresholds, calibration = told["thresholds"], told["calibration"]
    dwell_hops = (told["served_thresholds"] or thresholds)["dwell_hops"]
    items = [
        f"Gate: running mean of the log odds over {thresholds['smoothing_s']:g} s, favourable from "
        f"{thresholds['p_on']:.3f} until below {thresholds['p_off']:.3f}, for {dwell_hops} predictions. "
        f"Calibration and threshold are from {calibration['trials']} trials of earlier sessions (area under the curve "
        f"of one window {calibration['auc_window']:.3f}, of the running mean {calibration['auc_mean']:.3f}).",
        f"Random moments: each waits as long as a favourable trial did, drawn blindly. Shams count in refractory and "
        f"rate like pulses ({percent(told['settings']['sham'], 0)} of the blocks).",
        f"Nearest to the limits: {law['shortest_interval_s']:.2f} s between pulses (at least {law['refractory_s']:g}), "
        f"{law['most_in_a_minute']} in a minute (at most {law['pulses_per_minute']}), "
        f"{law['most_charge_per_electrode_and_session_uc']:.1f} µC through one electrode in a session (at most "
        f"{law['charge_per_electrode_day_uc']:g} a day).",
        *_ideal_items(result),
        "What it shows: that decoder, gate, limits and schedule together do what they claim on cortex made by rule, "
        "where a percept depends on a hidden state by construction. What it cannot show: that a person's does.",
        f"Measured {result['measured']['date']} in {result['measured']['minutes']:.0f} min, "
        f"{result['measured']['times_real_time']:.1f} times real time; {html.escape(result['measured']['machine'])}.",
    ]
    names = {"bundle": "bundle_sha256", "limits": "limits_sha256", "plan": "sha256"}
    hashes = "<br>".join(f"{name} <code>{told[key]}</code>" for name, key in names.items())
    hashes = f"<p class='quiet'>{hashes}</p>"
    listed = "".join(f"<li>{item}</li>" for item in items)
    return f'<section class="wide"><h2>How, and what it is worth</h2><ul>{listed}</ul>{hashes}</section>'


def _ideal_items(result: dict[str, Any]) -> list[str]:
    found = result.get("ideal") or {}
    if not found:
        return []
    window, smoothed = found["window"], found["smoothed"]
    ratio, expected = share_of(window["ratio_of_lifts"]), share_of(window["ratio_of_expected_lifts"])
    alike = share_of(smoothed["ratio_of_lifts"])
    return [
        "The yardstick knows the participant by heart and sees the same window, behind the same gate, its threshold "
        f"set so that it waits as long ({window['mean_wait_s']:.2f} s): {percent(window['rate'])} hits. Ours reaches "
        f"{ratio[0]} of its lift ({ratio[1]}); by the simulator's own probabilities at the same pulses, without the "
        f"luck of the answers, {expected[0]} ({expected[1]}). Smoothed as ours is, which is more than the window "
        f"allows, the yardstick hits {percent(smoothed['rate'])}; of that lift ours reaches {alike[0]} ({alike[1]}).",
    ]
