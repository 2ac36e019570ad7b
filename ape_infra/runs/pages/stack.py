"""The run report of `ape-load report`: the dashboards' main panels of a stack, without Grafana."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ape_contracts.text import plain
from ape_infra.observability.dashboards.model import Unit
from ape_infra.reporting.panels import PanelData, Points
from ape_infra.reporting.run_report import RunReport
from ape_infra.runs.pages.charts import Chart, rounded
from ape_infra.runs.pages.frame import framed

# More lines cannot be told apart: there are as many colors as half of them, and dashes.
MAX_LINES = 16
COLORS = 8
# Points that are further apart than this number of steps are not joined.
GAP_STEPS = 2.5
UNITS: dict[Unit, str] = {
    "percentunit": "share",
    "percent": "percent",
    "s": "seconds",
    "bytes": "bytes",
    "Bps": "bytes per second",
    "currencyUSD": "dollars",
    "reqps": "",
    "tok/s": "",
    "short": "",
}


def _with_gaps(points: Points, step: float) -> Iterator[tuple[float, float | None]]:
    """Yield the points, and one without a value in each gap."""
    before: float | None = None
    for at, value in points:
        if before is not None and at - before > GAP_STEPS * step:
            yield (before + at) / 2, None
        yield at, value
        before = at


def _step(data: PanelData) -> float:
    """The shortest time between two points."""
    pairs = (pair for points in data.lines.values() for pair in itertools.pairwise(points))
    return min((b[0] - a[0] for a, b in pairs), default=0.0)


def _highest(points: Points) -> float:
    return max(value for _, value in points)


def _chart(data: PanelData, start: float, tables: dict[tuple[float, ...], int]) -> Chart | None:
    """Return the chart of a panel that has values; `tables` gets the times of its lines."""
    named = {name: points for name, points in data.lines.items() if points}
    if not named:
        return None
    shown = sorted(named, key=lambda name: -_highest(named[name]))[:MAX_LINES]
    step = _step(data)
    lines: list[dict[str, Any]] = []
    for number, name in enumerate(x for x in named if x in shown):
        points = list(_with_gaps(named[name], step))
        times = tuple(round(at - start, 3) for at, _ in points)
        lines.append(
            {
                "name": plain(name),
                "color": number % COLORS,
                "dash": number >= COLORS,
                "table": tables.setdefault(times, len(tables)),
                "values": [rounded(value) for _, value in points],
            }
        )
    left_out = len(named) - len(shown)
    notes = [data.panel.description, f"and {left_out} lower lines" if left_out else ""]
    return {
        "title": data.panel.title,
        "group": data.dashboard,
        "unit": UNITS[data.panel.unit],
        "note": " · ".join(filter(None, notes)),
        "lines": lines,
    }


def of_panels(
    panels: Iterable[PanelData], start: float, end: float, marks: Sequence[float] = ()
) -> dict[str, Any]:
    """Return the charts of all panels with values. `marks`: Unix times of events."""
    tables: dict[tuple[float, ...], int] = {}
    charts = [_chart(data, start, tables) for data in panels]
    return {
        "start": start,
        "span": round(end - start, 3),
        "marks": [round(at - start, 3) for at in marks if start <= at <= end],
        "tables": list(tables),
        "bands": [],
        "charts": [chart for chart in charts if chart],
    }


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


def page(report: RunReport, panels: Iterable[PanelData]) -> str:
    """Return the page. All values are escaped, and the page loads nothing."""
    found = list(panels)
    return framed(
        "stack.html.j2",
        of_panels(found, report.start, report.end, [at for at, _, _ in report.events]),
        stack=report.stack,
        start=_time(report.start),
        end=_time(report.end),
        summary=list(report.summary.items()),
        failures=report.failures,
        empty=[data.panel.title for data in found if not any(data.lines.values())],
        events=[(_time(at), text, result) for at, text, result in report.events],
    )
