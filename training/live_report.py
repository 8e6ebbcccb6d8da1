"""What the report of a live session says beside its trials: how late the service was, and what went on."""

from __future__ import annotations

import html
from typing import Any

ROWS = {
    "sample_to_trigger": "newest sample to the moment at which the trigger left, {pulses} pulses",
    "sample_to_prediction": "newest sample to prediction, {windows} windows",
    "inference": "inference alone",
    "trigger_to_train": "trigger to the first pulse, of which the simulated stimulator takes 1 ms",
    "noise_floor": "noise floor: a thread that only sleeps and wakes, in the same minutes",
}
COLUMNS = ("p50", "p99", "p99.9", "max")


def live_section(live: dict[str, Any]) -> str:
    """The section of the page, HTML."""
    found = live["latency"]
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = "".join(
        f"<tr><td>{words.format(**found)}</td>{''.join(f'<td>{found[name][one]:.2f}</td>' for one in COLUMNS)}</tr>"
        for name, words in ROWS.items()
        if found[name]
    )
    note = (
        "Milliseconds, as the trigger stream and the service's own frames tell them. "
        f"{found['skipped_windows']} windows were skipped for newer ones. The simulated participant makes its samples "
        "as it goes, on the same machine: how late it is itself is part of the first two rows."
    )
    table = f'<div class="scroll"><table><tr><th>ms</th>{head}</tr>{rows}</table></div>'
    items = "".join(f"<li>{one}</li>" for one in _went(live))
    return f'<section class="wide"><h2>In real time</h2><p class="quiet">{note}</p>{table}<ul>{items}</ul></section>'


def _went(live: dict[str, Any]) -> list[str]:
    found = live["interruptions"]
    broken = "; ".join(f"after {one['at_s']:.0f} s: {html.escape(one['because'])}" for one in found)
    return [
        f"Over {live['armed_minutes']:.1f} min; it ended because {html.escape(live['ended'])}. "
        + (f"Disarmed and armed again {len(found)} times ({broken})." if found else "Nothing disarmed it before."),
        "Participant, service and operator were three processes; nothing passed between them but LSL and HTTP. Trials "
        "are read from the service's journal, what was given from the participant's own log.",
        "A sham is announced to nobody, so nobody answers it. One electrode at one current: a service's plan has one "
        "pattern.",
        "The service compares the bundle's own running mean. Slope and offset of the calibration are in the thresholds "
        "that it was told, and in the probabilities on this page.",
    ]
