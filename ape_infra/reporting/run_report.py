"""The run report: a test as one HTML page, with the dashboards' main panels as pictures."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ape_infra.observability.text import render
from ape_infra.reporting.draw import PanelData, scale, svg
from ape_infra.reporting.prometheus import Series

RATE_TITLES = (" a second", " per second")


@dataclass(frozen=True)
class RunReport:
    """What the report contains besides pictures.

    `start` and `end`: Unix times. `summary`: name -> value. `failures`: (reason, sessions).
    `events`: (Unix time, message, result) of the stack's updates.
    """

    stack: str
    start: float
    end: float
    summary: Mapping[str, str]
    failures: Sequence[tuple[str, int]]
    events: Sequence[tuple[float, str, str]]


def counter_increase(points: Sequence[tuple[float, float]], since: float) -> float:
    """Return the increase of a counter after the Unix time `since`, across its resets.

    A counter that exists at `since` counts from its value then; one that appears later, from 0.
    """
    before = points[0][1] if points[0][0] < since + 1 else 0.0
    total = 0.0
    for _, value in points:
        total += value - before if value >= before else value
        before = value
    return total


def outcomes(sessions: Sequence[Series], since: float) -> Counter[tuple[str, str]]:
    """Return (result, reason) -> number of sessions that ended after `since`.

    `sessions`: the series of metrics.SESSIONS.
    """
    found: Counter[tuple[str, str]] = Counter()
    for series in sessions:
        outcome = series.labels.get("result", ""), series.labels.get("reason", "")
        found[outcome] += round(counter_increase(series.points, since))
    return found


class Section(NamedTuple):
    """A dashboard. `pictures`: (title, unit and description, SVG). `empty`: titles."""

    dashboard: str
    pictures: list[tuple[str, str, str]]
    empty: list[str]


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


def _section(dashboard: str, panels: Iterable[PanelData], report: RunReport) -> Section:
    """Return a dashboard's pictures, and the titles of its panels without data."""
    marks = [at for at, _, _ in report.events]
    section = Section(dashboard, [], [])
    for data in panels:
        title = data.panel.title
        picture = svg(data, report.start, report.end, marks)
        if not picture:
            section.empty.append(title)
            continue
        # The title of a rate includes its unit.
        named = title.endswith(RATE_TITLES)
        unit = "" if named else scale(data.panel.unit, data.most)[1]
        note = " · ".join(filter(None, (unit, data.panel.description)))
        section.pictures.append((title, note, picture))
    return section


def page(report: RunReport, panels: Iterable[PanelData]) -> str:
    """Return the page. All values are escaped, and the page loads nothing."""
    return render(
        "ape_infra.reporting",
        "report.html.j2",
        stack=report.stack,
        start=_time(report.start),
        end=_time(report.end),
        summary=list(report.summary.items()),
        failures=report.failures,
        sections=[
            _section(dashboard, group, report)
            for dashboard, group in itertools.groupby(panels, lambda data: data.dashboard)
        ],
        events=[(_time(at), what, result) for at, what, result in report.events],
    )
