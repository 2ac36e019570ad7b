"""The dashboards' main panels without Grafana: queried from Prometheus, drawn as inline SVG.

The caller supplies the queries' results. A picture has no script and no font, and loads nothing.
"""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ape_infra.observability import dashboards
from ape_infra.observability.dashboards.model import EVERYTHING, TRACE, VARIABLES, Panel, Unit
from ape_infra.observability.text import render
from ape_infra.reporting.prometheus import Series

# Of Okabe and Ito: distinguishable with any kind of color vision. Further lines are dashed.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#777777")
MAX_LINES = 2 * len(COLORS)
# Points that are further apart than this number of steps are not joined.
GAP_STEPS = 2.5
Points = Sequence[tuple[float, float]]
# Takes PromQL, returns its series over the time of the report.
Ask = Callable[[str], Sequence[Series]]


class PanelData(NamedTuple):
    """A panel and its lines: legend -> points of (Unix time, value)."""

    dashboard: str
    panel: Panel
    lines: Mapping[str, Points]

    @property
    def most(self) -> float:
        """The highest value; 0 without values."""
        return max((v for points in self.lines.values() for _, v in points), default=0)


def plain(expr: str, seconds: int = 300, values: Mapping[str, str] | None = None) -> str:
    """Replace the dashboard's variables in `expr` by `values`, or by a pattern that selects all.

    `seconds`: the time range that the dashboard shows; an interval is a twentieth of it.
    """
    known = {**dict.fromkeys((*VARIABLES, TRACE), EVERYTHING), **(values or {})}
    expr = re.sub(r"\$(\w+)", lambda m: known.get(m[1], m[0]), expr)
    expr = expr.replace("$__interval", f"{max(1, seconds // 20)}s")
    return expr.replace("$__range", f"{max(1, seconds)}s")


def legend(template: str, labels: Mapping[str, str], title: str) -> str:
    """Fill in the labels of a legend, `{{label}}`, as Grafana does."""
    return re.sub(r"{{(\w+)}}", lambda m: labels.get(m[1], ""), template).strip() or title


def lines(panel: Panel, ask: Ask, seconds: int = 300) -> dict[str, Points]:
    """Return the lines of a panel."""
    return {
        legend(query.legend, series.labels, panel.title): series.points
        for query in panel.queries
        for series in ask(plain(query.expr, seconds))
    }


def main_panels(ask: Ask, seconds: int = 300) -> list[PanelData]:
    """Return every main panel of every dashboard, with the lines that Prometheus has for it."""
    return [
        PanelData(dashboard.title, panel, lines(panel, ask, seconds))
        for dashboard in dashboards.ALL
        for panel in dashboard.panels
        if panel.main
    ]


def scale(unit: Unit, most: float) -> tuple[float, str]:
    """Return the factor and the name of the unit in which to show values up to `most`."""
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
            return 1, "per second"
        case "tok/s":
            return 1, "tokens per second"
        case "currencyUSD":
            return 1, "dollars"
        case "short":
            return 1, ""


def ticks(most: float, wanted: int = 4) -> list[float]:
    """Return round numbers from 0 to at least `most`."""
    if most < 1e-12:
        return [0.0, 1.0]
    raw = most / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw)
    return [i * step for i in range(math.ceil(most / step - 1e-9) + 1)]


def _pieces(points: Points, max_gap: float) -> Iterator[Points]:
    """Split `points` at gaps of more than `max_gap` seconds."""
    begin = 0
    for end in range(1, len(points) + 1):
        if end == len(points) or points[end][0] - points[end - 1][0] > max_gap:
            yield points[begin:end]
            begin = end


class Axes(NamedTuple):
    """Maps times (Unix) and values to pixels. `highest` is the value at the top."""

    start: float
    end: float
    highest: float
    # About as many pixels as a picture takes on a page, so that its text is as large as the page's.
    width: int = 480
    height: int = 190
    left: int = 48
    right: int = 480 - 8
    top: int = 10
    bottom: int = 190 - 24

    @property
    def seconds(self) -> float:
        return max(self.end - self.start, 1e-9)

    def x(self, at: float) -> str:
        return f"{self.left + (self.right - self.left) * (at - self.start) / self.seconds:.1f}"

    def y(self, value: float) -> str:
        """Of a value in the unit that is shown."""
        return f"{self.top + (self.bottom - self.top) * (1 - value / self.highest):.1f}"

    def times(self) -> list[tuple[float, str, str]]:
        """Return five equidistant times: (Unix time, anchor of the text, text)."""
        form = "%H:%M:%S" if self.seconds < 86400 else "%m-%d %H:%M"
        found = []
        for i, anchor in enumerate(("start", "middle", "middle", "middle", "end")):
            at = self.start + self.seconds * i / 4
            found.append((at, anchor, time.strftime(form, time.gmtime(at))))
        return found


class Line(NamedTuple):
    """A line of a picture, in pieces without gaps."""

    name: str
    color: str
    dashed: bool
    pieces: list[list[tuple[float, float]]]


def _lines(drawn: Mapping[str, Points], factor: float) -> list[Line]:
    """Return the lines to draw, their values multiplied by `factor`."""
    steps = [b[0] - a[0] for points in drawn.values() for a, b in itertools.pairwise(points)]
    max_gap = GAP_STEPS * min(steps, default=0)
    found = []
    for number, (name, points) in enumerate(drawn.items()):
        rounds, color = divmod(number, len(COLORS))
        pieces = [[(at, v * factor) for at, v in piece] for piece in _pieces(points, max_gap)]
        found.append(Line(name, COLORS[color], rounds > 0, pieces))
    return found


def svg(data: PanelData, start: float, end: float, marks: Sequence[float] = ()) -> str:
    """Return the picture with its key; empty if the panel has no data. `marks`: times of events.

    The y axis starts at 0, and all pictures of a report have the same x axis. Of more than
    MAX_LINES lines, those with the highest values are drawn.
    """
    named = {name: points for name, points in data.lines.items() if points}
    if not named:
        return ""
    highest = sorted(named, key=lambda name: -max(v for _, v in named[name]))[:MAX_LINES]
    factor, _ = scale(data.panel.unit, data.most)
    values = ticks(data.most * factor)
    axes = Axes(start, end, values[-1])
    return render(
        "ape_infra.reporting",
        "picture.svg.j2",
        title=data.panel.title,
        axes=axes,
        values=values,
        times=axes.times(),
        marks=[at for at in marks if start <= at <= end],
        lines=_lines({n: points for n, points in named.items() if n in highest}, factor),
        left_out=len(named) - len(highest),
    )
