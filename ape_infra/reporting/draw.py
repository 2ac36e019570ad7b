"""The dashboards' main panels without Grafana: asked of Prometheus, drawn as inline SVG.

Asking is the caller's. A picture has no script and no font, and fetches nothing.
"""

from __future__ import annotations

import html
import itertools
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ape_infra.observability import dashboards
from ape_infra.observability.dashboards.model import EVERYTHING, TRACE, VARIABLES, Panel, Unit
from ape_infra.reporting.prometheus import Series

# Of Okabe and Ito: told apart with any kind of colour vision. Beyond them, lines are dashed.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#777777")
MAX_LINES = 2 * len(COLORS)
# About as many pixels as it takes on a page, so that its text is as large as the page's.
WIDTH, HEIGHT = 480, 190
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 10, 24
# What lies further apart than so many steps is not joined.
GAP_STEPS = 2.5
STYLE = """
svg{width:100%;font-size:11px}svg text{fill:#555}svg .grid{stroke:#e5e5e5}
svg .mark{stroke:#777;stroke-dasharray:2 3}
svg polyline{fill:none;stroke-width:1.5;stroke-linejoin:round}
svg .second,.key .second{stroke-dasharray:6 3;border-top-style:dashed}
.key{margin:0;font-size:13px;color:#555}.key span{margin-right:1em;white-space:nowrap}
.key i{display:inline-block;width:1.3em;vertical-align:.3em;margin-right:.3em;
border-top:.2em solid}
@media(prefers-color-scheme:dark){svg text,.key{fill:#aaa;color:#aaa}
svg .grid{stroke:#333}svg .mark{stroke:#777}}
"""
Points = Sequence[tuple[float, float]]
Ask = Callable[[str], Sequence[Series]]


class PanelData(NamedTuple):
    """A panel's lines, by their legend: points of (Unix time, value)."""

    dashboard: str
    panel: Panel
    lines: Mapping[str, Points]

    @property
    def most(self) -> float:
        """The highest value; 0 without any."""
        return max((v for points in self.lines.values() for _, v in points), default=0)


def plain(expr: str, seconds: int = 300, values: Mapping[str, str] | None = None) -> str:
    """`expr` with the dashboard's variables at `values`, or at everything.

    `seconds`: the time that the reader looks at; a step is a twentieth of it.
    """
    values = values or {}
    for name in (*VARIABLES, TRACE):
        expr = expr.replace(f'"${name}"', f'"{values.get(name, EVERYTHING)}"')
    expr = expr.replace("$__interval", f"{max(1, seconds // 20)}s")
    return expr.replace("$__range", f"{max(1, seconds)}s")


def legend(template: str, labels: Mapping[str, str], title: str) -> str:
    """As Grafana fills a legend in: {{label}}."""
    return re.sub(r"{{(\w+)}}", lambda m: labels.get(m[1], ""), template).strip() or title


def lines(panel: Panel, ask: Ask, seconds: int = 300) -> dict[str, Points]:
    """The lines of one panel; `ask` takes PromQL and answers over its own time."""
    return {
        legend(query.legend, series.labels, panel.title): series.points
        for query in panel.queries
        for series in ask(plain(query.expr, seconds))
    }


def main_panels(ask: Ask, seconds: int = 300) -> list[PanelData]:
    """Every main panel of every dashboard with its lines; none where Prometheus has none."""
    return [
        PanelData(dashboard.title, panel, lines(panel, ask, seconds))
        for dashboard in dashboards.ALL
        for panel in dashboard.panels
        if panel.main
    ]


def scale(unit: Unit, most: float) -> tuple[float, str]:
    """How often a value counts as it is shown, and as what: of values up to `most`."""
    match unit:
        case "percentunit":
            return 100, "%"
        case "percent":
            return 1, "%"
        case "s":
            return (1000, "ms") if most < 1 else (1, "s")
        case "bytes" | "Bps":
            step = min(4, int(math.log(most, 1024))) if most >= 1 else 0
            name = ("B", "KiB", "MiB", "GiB", "TiB")[step]
            return 1 / 1024**step, name + ("/s" if unit == "Bps" else "")
        case "reqps":
            return 1, "a second"
        case "tok/s":
            return 1, "tokens a second"
        case "currencyUSD":
            return 1, "dollars"
        case "short":
            return 1, ""


def ticks(most: float, wanted: int = 4) -> list[float]:
    """Round numbers from 0 to at least `most`."""
    if most < 1e-12:
        return [0.0, 1.0]
    raw = most / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw)
    return [i * step for i in range(math.ceil(most / step - 1e-9) + 1)]


def _joined(points: Points, longest: float) -> Iterator[Points]:
    """`points` in pieces without a gap of more than `longest` seconds."""
    begin = 0
    for end in range(1, len(points) + 1):
        if end == len(points) or points[end][0] - points[end - 1][0] > longest:
            yield points[begin:end]
            begin = end


def svg(drawn: PanelData, start: float, end: float, marks: Sequence[float] = ()) -> str:
    """The picture with its key, or nothing where the panel has no data. `marks`: times of events.

    The y axis starts at 0, and all pictures of a time have the same x axis. Of too many lines
    those are drawn that reach highest.
    """
    named = {name: points for name, points in drawn.lines.items() if points}
    if not named:
        return ""
    tall = sorted(named, key=lambda name: -max(v for _, v in named[name]))[:MAX_LINES]
    left_out = len(named) - len(tall)
    named = {name: points for name, points in named.items() if name in tall}
    factor, _ = scale(drawn.panel.unit, drawn.most)
    steps = [b[0] - a[0] for points in named.values() for a, b in itertools.pairwise(points)]
    longest = GAP_STEPS * min(steps, default=0)
    y_marks = ticks(drawn.most * factor)
    span, top = max(end - start, 1e-9), y_marks[-1]
    inner_w, inner_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(at: float) -> float:
        return LEFT + inner_w * (at - start) / span

    def y(shown: float) -> float:
        return TOP + inner_h * (1 - shown / top)

    title = html.escape(drawn.panel.title, quote=True)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}" '
        'xmlns="http://www.w3.org/2000/svg">'
    ]
    for mark in y_marks:
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(mark):.1f}" y2="{y(mark):.1f}" '
            f'class="grid"/><text x="{LEFT - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">'
            f"{mark:,.10g}</text>"
        )
    clock = "%H:%M:%S" if span < 86400 else "%m-%d %H:%M"
    for i, anchor in enumerate(("start", "middle", "middle", "middle", "end")):
        at = start + span * i / 4
        label = time.strftime(clock, time.gmtime(at))
        parts.append(
            f'<text x="{x(at):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{label}</text>'
        )
    for at in marks:
        if start <= at <= end:
            parts.append(
                f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{TOP}" y2="{TOP + inner_h}" '
                'class="mark"/>'
            )
    keys = []
    for number, (name, points) in enumerate(named.items()):
        second, index = divmod(number, len(COLORS))
        look = ' class="second"' if second else ""
        for piece in _joined(points, longest):
            where = [(f"{x(t):.1f}", f"{y(v * factor):.1f}") for t, v in piece]
            if len(where) == 1:
                cx, cy = where[0]
                parts.append(f'<circle cx="{cx}" cy="{cy}" r="2" fill="{COLORS[index]}"/>')
            else:
                path = " ".join(map(",".join, where))
                parts.append(f'<polyline points="{path}" stroke="{COLORS[index]}"{look}/>')
        colour = f"border-color:{COLORS[index]}"
        keys.append(f'<span><i style="{colour}"{look}></i>{html.escape(name)}</span>')
    if left_out:
        keys.append(f"<span>and {left_out} lower ones</span>")
    return f'{"".join(parts)}</svg><p class="key">{"".join(keys)}</p>'
