"""The report of `phosphene certify`: one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.bench.histogram import histogram
from server.bench.path import STAGES

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b2430; max-width: 860px; margin: 32px auto; padding: 0 20px; }
h1 { font-size: 24px; margin-bottom: 4px; } h2 { font-size: 16px; margin: 26px 0 6px; } .quiet { color: #5d6b7c; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td, th { padding: 4px 8px; border-bottom: 1px solid #dfe4ea; text-align: right; }
th { color: #5d6b7c; font-weight: 600; }
td:first-child, th:first-child { text-align: left; } svg { width: 100%; height: auto; }
"""
PERCENTILES = ("p50", "p99", "p99.9", "max")
Row = tuple[str, ...]


def page(found: dict[str, Any], ms: dict[str, NDArray[np.float64]]) -> str:
    """`found` as certify writes it, and the milliseconds themselves by name."""
    date, seen = found["machine"]["date"], found["measured"]
    deadlines = [one for one in found["verdicts"] if "within" in one["what"]]
    held = [one["what"].rpartition("within ")[2] for one in deadlines if one["holds"]]
    headline = f"{held[0]} from sample to client" if held else "None of the deadlines is held"
    shown = {name: ms[name] for name in ("sample to frame", "inference", "noise floor")}
    drawn = histogram(shown, f"{seen['windows']} windows in {seen['seconds']:g} s")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Phosphene: certificate of {date}</title><style>{STYLE}</style><body><h1>{html.escape(headline)}</h1>"
        f'<p class="quiet">Held by {100 * found["holds_share"]:g} % of frames or more. Phosphene, {date}, '
        f"{seen['seconds']:g} s. What was seen, on a machine as busy as it was; not a promise.</p>"
        f"<h2>What it holds</h2>{table(('', 'found', ''), _verdicts(found))}"
        f"<h2>Where the time goes, milliseconds</h2>{table(('', *PERCENTILES), _stages(seen))}"
        f"{drawn}"
        f"<h2>What no computer can make faster</h2><p>{_delay(found['service'], seen)}</p>"
        f"<h2>About</h2>{table(('', ''), _about(found))}</body></html>\n"
    )


def _verdicts(found: dict[str, Any]) -> Iterable[Row]:
    for one in found["verdicts"]:
        yield one["what"], one["found"], "✓ holds" if one["holds"] else "✗ does not hold"


def _stages(seen: dict[str, Any]) -> Iterable[Row]:
    rows = {"newest sample → frame at a client": seen["sample_to_frame"]}
    rows |= {"the same less its inference": seen["sample_to_frame_less_inference"]}
    rows |= {f"of it: {name}": seen["stages"][name] for name in STAGES}
    for name, one in (rows | {"this machine's noise floor": seen["noise_floor_ms"]}).items():
        yield name, *(f"{one[key]:.3g}" for key in PERCENTILES)


def _delay(service: dict[str, Any], seen: dict[str, Any]) -> str:
    delay, hop, frame = service["signal_delay_ms"], seen["hop_ms"], seen["sample_to_frame"]["p50"]
    return (
        f"Filters and half a bin delay the envelope by {delay:.1f} ms. A window is decoded every {hop:.3g} ms, so that "
        f"a state waits up to {hop:.3g} ms for the next. From a change in the cortex to a frame at a client that knows "
        f"of it: {delay + hop / 2 + frame:.1f} ms, half of the time; and it takes 128 ms until a window holds nothing "
        "of the time before."
    )


def _about(found: dict[str, Any]) -> Iterable[Row]:
    machine, service, seen = found["machine"], found["service"], found["measured"]
    yield "Stream", f"{service['stream']}, {service['channels']} channels at {service['rate_hz']:g} Hz"
    yield "Bundle", f"{service['model']}, {service['precision']} on {service['provider']}"
    cores, memory = machine["cores"], machine["memory_gb"]
    yield "Machine", f"{machine['processor']}, {cores} cores, {memory} GB, {machine['system']}"
    yield "Versions", ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    yield "Clients", f"{seen['subscribers']}, and a scrape of /metrics every 5 s"
    yield "Service", f"{seen['cores']:.2f} cores, {seen['memory_mib']['after']:.0f} MiB"
    yield "Flags", ", ".join(f"{flag} {n}" for flag, n in sorted(seen["flags"].items())) or "none"


def table(head: Row, rows: Iterable[Row]) -> str:
    """All plain text."""
    heads = "".join(f"<th>{html.escape(text)}</th>" for text in head) if any(head) else ""
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return f"<table><tr>{heads}</tr>{body}</table>"
