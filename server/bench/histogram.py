"""A histogram of latencies as SVG that needs nothing else: both axes logarithmic, because the tail is what counts."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 46, 44
PER_DECADE = 20
INK, QUIET, LINE = "#1b2430", "#5d6b7c", "#dfe4ea"
COLOURS = ("#1f6fb2", "#b7791f", "#5d6b7c")  # told apart without colour vision, too; the first is filled
MARKED = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


def histogram(series: Mapping[str, Sequence[float] | NDArray[np.float64]], title: str) -> str:
    """`series`: name -> milliseconds, at most three; the percentiles of the first are marked. One `<svg>` element.

    Raises:
        ValueError: nothing in the first series, or more than three.
    """
    values = {name: np.maximum(np.asarray(ms, float), 1e-3) for name, ms in series.items() if len(ms)}
    first = next(iter(series))
    if first not in values or len(series) > len(COLOURS):
        raise ValueError(f"found {len(series)} series, expected one to three, the first not empty")
    low = math.floor(min(math.log10(one.min()) for one in values.values()))
    high = math.ceil(max(math.log10(one.max()) for one in values.values()) + 1e-9)
    edges = np.logspace(low, high, (high - low) * PER_DECADE + 1)
    counts = {name: np.histogram(one, edges)[0] for name, one in values.items()}
    most = 10 ** math.ceil(math.log10(max(int(one.max()) for one in counts.values()) + 1))

    def x(ms: float) -> float:
        return LEFT + (math.log10(ms) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(count: float) -> float:  # half a window is the floor, so that a single one can be seen
        return HEIGHT - BOTTOM - math.log10(max(count, 0.5) / 0.5) / math.log10(most / 0.5) * (HEIGHT - TOP - BOTTOM)

    parts = [_text(LEFT, 16, title, INK, weight=600)]
    for decade in range(low, high + 1):
        at = x(10**decade)
        parts += [_line(at, TOP, at, HEIGHT - BOTTOM, LINE), _text(at, HEIGHT - 24, f"{10**decade:g}", QUIET, "middle")]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "milliseconds", QUIET, "middle"))
    count = 1
    while count <= most:
        parts += [_line(LEFT, y(count), WIDTH - RIGHT, y(count), LINE)]
        parts += [_text(LEFT - 6, y(count) + 4, f"{count:g}", QUIET, "end")]
        count *= 10
    for k, (name, numbers) in reversed(list(enumerate(counts.items()))):
        outline = [f"M{x(edges[0]):.1f},{y(0):.1f}"]
        for number, left, right in zip(numbers, edges[:-1], edges[1:], strict=True):
            outline.append(f"L{x(left):.1f},{y(number):.1f}L{x(right):.1f},{y(number):.1f}")
        outline.append(f"L{x(edges[-1]):.1f},{y(0):.1f}Z")
        fill = f'fill="{COLOURS[k]}" fill-opacity=".25"' if k == 0 else 'fill="none" stroke-dasharray="4 3"'
        parts.append(f'<path d="{"".join(outline)}" {fill} stroke="{COLOURS[k]}" stroke-width="1.4"/>')
        parts.append(_text(WIDTH - RIGHT, 16 + 14 * k, f"{'▬' if k == 0 else '┄'} {name}", COLOURS[k], "end"))
    shown = {name: float(np.percentile(values[first], percentile)) for name, percentile in MARKED.items()}
    for row, (name, ms) in enumerate(shown.items()):
        parts.append(_line(x(ms), TOP - 4, x(ms), HEIGHT - BOTTOM, INK, 'stroke-dasharray="1 3"'))
        parts.append(_text(x(ms) + 3, TOP + 8 + 13 * row, f"{name} {ms:.3g}", INK))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(title)}" font-family="system-ui, sans-serif" font-size="11">{"".join(parts)}</svg>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def _text(x: float, y: float, text: str, colour: str, anchor: str = "start", weight: int = 400) -> str:
    styled = f'fill="{colour}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {styled}>{html.escape(text)}</text>'
