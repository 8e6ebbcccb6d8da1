"""The page of a report: one HTML file that needs nothing else."""

from __future__ import annotations

import html

STYLE = """
:root { --ink: #1b2430; --quiet: #5d6b7c; --line: #dfe4ea; --ground: #f6f7f9; --blue: #1f6fb2; --amber: #b7791f; }
* { box-sizing: border-box; margin: 0; }
body { background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums;
  max-width: 1120px; margin: 0 auto; padding: 28px 24px 56px; }
h1 { font-size: 27px; line-height: 1.25; font-weight: 650; max-width: 46ch; margin: 12px 0 8px;
  letter-spacing: -.01em; }
h2 { font-size: 16px; font-weight: 650; margin-bottom: 2px; }
p { max-width: 92ch; } .quiet { color: var(--quiet); font-size: 13.5px; }
.banner { display: inline-block; border: 1.5px dashed var(--blue); color: var(--blue); border-radius: 4px;
  padding: 2px 10px; font-size: 12px; font-weight: 700; letter-spacing: .1em; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 12px; margin: 22px 0; }
.card, section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; }
.card b { display: block; font-size: 29px; font-weight: 600; line-height: 1.2; letter-spacing: -.02em;
  white-space: nowrap; }
.card span { color: var(--quiet); font-size: 13px; } .card small { display: block; font-size: 13px; }
.grid { display: grid; grid-template-columns: repeat(12, 1fr); gap: 12px; }
section { grid-column: span 6; min-width: 0; } .wide { grid-column: 1 / -1; } .four { grid-column: span 4; }
.eight { grid-column: span 8; }
section svg { width: 100%; height: auto; display: block; margin-top: 8px; }
table { border-collapse: collapse; width: 100%; margin-top: 10px; font-size: 14px; }
th { font-weight: 600; color: var(--quiet); font-size: 12.5px; }
td, th { padding: 5px 8px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
code { font: 12.5px ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
ul { padding-left: 18px; } li { margin: 4px 0; max-width: 90ch; }
.part { margin-top: 16px; padding: 20px 22px; }
.part h2 { font-size: 19px; letter-spacing: -.01em; margin-bottom: 4px; }
nav { columns: 3; column-gap: 28px; margin: 18px 2px 6px; font-size: 14px; }
nav a { display: block; padding: 2px 0; } a { color: var(--blue); text-decoration: none; }
a:hover { text-decoration: underline; }
.pictures { display: flex; flex-wrap: wrap; gap: 8px 24px; align-items: flex-end; }
figure.whole { flex: 1 1 100%; } figure.half { flex: 0 1 calc(50% - 12px); min-width: 320px; }
.beside { flex: 1 1 calc(50% - 12px); min-width: 320px; align-self: flex-start; }
figcaption { font-size: 12px; color: var(--quiet); text-align: right; }
section th { vertical-align: bottom; } .part th, .found th { white-space: normal; }
tr.over th { text-align: left; padding-top: 12px; }
td:first-child { color: var(--ink); } tr:last-child td { border-bottom: 0; }
.found { font-size: 13px; } .found td, .found th { padding: 5px 6px; }
.scores td:nth-child(2n+3) { color: var(--quiet); }
.last-words td:last-child, .last-words th:last-child { text-align: left; white-space: normal;
  color: var(--quiet); }
details { margin-top: 10px; } summary { cursor: pointer; color: var(--blue); font-size: 14px; }
.missing { color: var(--quiet); border-left: 3px solid var(--line); padding-left: 10px; margin-top: 8px; }
.scroll { overflow-x: auto; }
dl { display: grid; grid-template-columns: 160px 1fr; gap: 4px 16px; margin: 12px 0; font-size: 14px; }
dt { font-weight: 600; } dd { max-width: 92ch; }
@media (max-width: 800px) { section, .four, .eight { grid-column: 1 / -1; } .scroll { overflow-x: auto; } }
"""


def page(title: str, body: str) -> str:
    """The whole file."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style><body>{body}</body></html>\n"
    )


def section(kind: str, title: str, note: str, drawn: str) -> str:
    """`kind` is its width: "" for half the page, "four", "eight" or "wide"; `drawn` is HTML, the rest plain text."""
    text = f"<h2>{html.escape(title)}</h2><p class='quiet'>{html.escape(note)}</p>{drawn}"
    return f'<section class="{kind}">{text}</section>'


def card(value: str, what: str, interval: str, more: str = "") -> str:
    """A number to look at first; all plain text."""
    small = "".join(f"<small>{html.escape(text)}</small>" for text in (interval, more) if text)
    return f'<div class="card"><b>{html.escape(value)}</b><span>{html.escape(what)}</span>{small}</div>'


def percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def minus(text: str) -> str:
    return text.replace("-", "−")
