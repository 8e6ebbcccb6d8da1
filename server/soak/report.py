"""The report of a soak: one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections import Counter
from typing import Any

from server.bench.certificate import STYLE, table


def page(found: dict[str, Any]) -> str:
    """`found` as `soak` writes it."""
    about, wrong = found["machine"], [one for one in found["verdicts"] if not one["holds"]]
    headline = f"{len(wrong)} of {len(found['verdicts'])} do not hold" if wrong else "Everything holds"
    kinds = Counter(one["kind"] for one in found["faults"])
    verdicts = (
        (one["what"], one["found"], "✓ holds" if one["holds"] else "✗ does not hold") for one in found["verdicts"]
    )
    faults = ((f"{one['at_s']:.1f}", one["kind"], f"{one['s']:.1f}", _rest(one)) for one in found["faults"])
    deaths = (
        (f"{one['at_s']:.1f}", str(one["status"]), one["reason"] or "none", one["said"]) for one in found["deaths"]
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Phosphene: a soak of {about['date']}</title><style>{STYLE}</style><body>"
        f"<h1>{html.escape(headline)}</h1>"
        f'<p class="quiet">{found["minutes"]:g} minutes of {about["date"]}, seed {found["seed"]}: '
        f"{len(found['faults'])} faults of {len(kinds)} kinds, armed {found['armed']} times, "
        f"{len(found['deaths'])} ends of the service. {html.escape(about['processor'])}, {about['cores']} cores.</p>"
        f"<h2>What must hold</h2>{table(('', 'found', ''), verdicts)}"
        f"<h2>Faults, seconds from the first</h2>{table(('at', 'what', 'for', 'told'), faults)}"
        f"<h2>Ends of the service</h2>{table(('at', 'status', 'why', 'its last line'), deaths)}</body></html>\n"
    )


def _rest(one: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in one.items() if key not in ("at_s", "kind", "s"))
