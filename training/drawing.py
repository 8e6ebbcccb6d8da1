"""How the reports draw: colours that are told apart without colour vision too, and inline SVG that needs no font and no
network."""

from __future__ import annotations

import io
import re

from matplotlib.figure import Figure

INK, QUIET, LINE = "#1b2430", "#5d6b7c", "#dfe4ea"
BLUE, AMBER = "#1f6fb2", "#b7791f"
STYLE = {
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "text.color": INK,
    "svg.hashsalt": "phosphene",
}


def svg(figure: Figure, name: str) -> str:
    """The figure as one `<svg>` element; the same figure gives the same text."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = out.getvalue()
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r"<svg ", f'<svg role="img" aria-label="{name}" ', text, count=1)
    # ids are unique within a figure only; several stand in one page
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
