"""report.html of a result folder, one file that needs nothing else, and each of its plots as SVG with its CSV."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path

import matplotlib
from threadpoolctl import threadpool_limits

from training.drawing import STYLE
from training.page import page
from training.report import (
    array_map,
    calibration,
    differences,
    forest,
    labels,
    rebuilding,
    resting_map,
    session_maps,
    stimulated_map,
    table1,
    thresholds,
    training_curves,
)
from training.report.drawn import Drawn, save
from training.report.parts import Part, text
from training.report.reading import how
from training.report.result import Result, words
from training.report.summary import cards, headline, main_question, overview, sentences

SECTIONS: tuple[Callable[[Result], Part], ...] = (
    forest.part, differences.part, labels.part, calibration.part, thresholds.part, resting_map.part,
    stimulated_map.part, session_maps.part, rebuilding.part, array_map.part, training_curves.part,
)  # fmt: skip
FIGURES = "figures"


def write_report(folder: Path) -> Path:
    """From nothing but the result folder; what was drawn there before is replaced.

    Raises:
        OperatorFault: it holds no result of an evaluation.
    """
    result = Result(folder)
    result.numbers  # noqa: B018  refused before anything is drawn
    (folder / FIGURES).mkdir(exist_ok=True)
    for old in (folder / FIGURES).iterdir():
        if old.suffix in (".svg", ".csv"):
            old.unlink()
    numbers, told = {}, []
    # one thread: those of small matrices only wait for each other (t-SNE takes ten times as long on a busy machine)
    with threadpool_limits(1), matplotlib.rc_context(STYLE | {"savefig.dpi": 120}):
        for part in [*table1.parts(result), *(make(result) for make in SECTIONS), how(result)]:
            numbers |= {one.name: one.numbers for one in part.drawn if one.numbers}
            told.append((part, _section(folder, part)))
    (folder / FIGURES / "numbers.json").write_text(json.dumps(numbers, indent=1, default=_plain))
    file = folder / "report.html"
    body = _head(result, [part for part, _ in told]) + "".join(section for _, section in told)
    file.write_text(page("Phosphene: evaluation", body))
    return file


def _plain(value: object) -> object:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _head(result: Result, parts: list[Part]) -> str:
    group, asked, _ = main_question(result)
    banner = "SIMULATED PARTICIPANTS" if result.simulated else f"RECORDED: {', '.join(result.numbers['participants'])}"
    said = "".join(f"<li>{text(sentence)}</li>" for sentence in sentences(result))
    contents = "".join(f'<a href="#{part.name}">{html.escape(part.title)}</a>' for part in parts)
    table = overview(result) if len(result.groups) > 1 else ""  # of one group the sentences say it all
    return (
        f'<span class="banner">{html.escape(banner)}</span><h1>{html.escape(headline(result))}</h1>'
        f'<p class="quiet">Balanced accuracy, {html.escape(f"{group}, {words(*asked)}")}</p>'
        f'<div class="cards">{"".join(cards(result))}</div>'
        f'<section class="wide"><h2>What was found</h2><ul>{said}</ul>{table}</section>'
        f"<nav>{contents}</nav>"
    )


def _section(folder: Path, part: Part) -> str:
    pictures = "".join(_picture(folder, drawn) for drawn in part.drawn)
    tables = "".join(part.tables)
    folded = "".join(f"<details><summary>{text(words)}</summary>{table}</details>" for words, table in part.folded)
    note = f'<p class="quiet">{text(part.note)}</p>' if part.note else ""
    missing = f'<p class="missing">{text(part.missing)}</p>' if part.missing else ""
    title = html.escape(part.title)
    beside = f'<div class="beside">{part.beside}</div>' if part.beside else ""
    return (
        f'<section class="part" id="{part.name}"><h2>{title}</h2>{note}{missing}'
        f'<div class="pictures">{pictures}{beside}</div>{tables}{folded}</section>'
    )


def _picture(folder: Path, drawn: Drawn) -> str:
    width = "whole" if drawn.figure.get_size_inches()[0] > 8 else "half"
    drawing = save(folder / FIGURES, drawn)
    files = " · ".join(f'<a href="{FIGURES}/{drawn.name}.{kind}">{kind.upper()}</a>' for kind in ("svg", "csv"))
    return f'<figure class="{width}">{drawing}<figcaption>{files}</figcaption></figure>'
