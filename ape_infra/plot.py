"""Line plots as inline SVG: no script, no font, nothing fetched."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Mapping, Sequence

# Of Okabe and Ito: told apart with any kind of colour vision.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#555555")
WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 28
MAX_LINES = 12
Points = Sequence[tuple[float, float]]


def ticks(most: float, wanted: int = 4) -> list[float]:
    """Round numbers from 0 to at least `most`."""
    if most <= 0:
        return [0.0, 1.0]
    raw = most / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw)
    return [i * step for i in range(math.ceil(most / step - 1e-9) + 1)]


def plot(series: Mapping[str, Points], unit: str) -> str:
    """One SVG with a line for each name, of points (Unix time, value); the y axis starts at 0."""
    named = {k: v for k, v in list(series.items())[:MAX_LINES] if v}
    if not named:
        return '<p class="none">No data.</p>'
    times = [t for points in named.values() for t, _ in points]
    begin, end = min(times), max(times)
    marks = ticks(max(v for points in named.values() for _, v in points))
    span, top = max(end - begin, 1e-9), marks[-1]
    inner_w, inner_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(at: float) -> float:
        return LEFT + inner_w * (at - begin) / span

    def y(value: float) -> float:
        return TOP + inner_h * (1 - value / top)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" xmlns="http://www.w3.org/2000/svg">',
    ]
    for mark in marks:
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(mark):.1f}" y2="{y(mark):.1f}" '
            f'class="grid"/><text x="{LEFT - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">'
            f"{mark:g}</text>"
        )
    for i in range(5):
        at = begin + span * i / 4
        anchor = ("start", "middle", "middle", "middle", "end")[i]
        label = time.strftime("%H:%M:%S", time.gmtime(at))
        parts.append(
            f'<text x="{x(at):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{label}</text>'
        )
    for number, points in enumerate(named.values()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in points)
        parts.append(f'<polyline points="{path}" stroke="{colour}"/>')
        if len(points) == 1:
            t, v = points[0]
            parts.append(f'<circle cx="{x(t):.1f}" cy="{y(v):.1f}" r="3" fill="{colour}"/>')
    parts.append("</svg>")
    keys = "".join(
        f'<span><i style="background:{COLOURS[n % len(COLOURS)]}"></i>{html.escape(name)}</span>'
        for n, name in enumerate(named)
    )
    return f'{"".join(parts)}<p class="key">{keys}<b>{html.escape(unit)}</b></p>'
