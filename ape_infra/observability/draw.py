"""The dashboards' main panels without Grafana: what to ask of Prometheus, and whose lines to draw.

Asking and drawing are the caller's, so that a report draws these as it draws its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from ape_infra.observability import dashboards
from ape_infra.observability.dashboards.model import EVERYTHING, TRACE, VARIABLES, Panel, Unit

Points = Sequence[tuple[float, float]]
# What Grafana writes for its units.
UNITS: dict[Unit, str] = {
    "short": "",
    "percent": "%",
    "percentunit": "share",
    "s": "seconds",
    "bytes": "bytes",
    "Bps": "bytes a second",
    "reqps": "a second",
    "currencyUSD": "dollars",
    "tok/s": "tokens a second",
}


class Series(Protocol):
    """`points`: (Unix time, value), in the order of time."""

    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def points(self) -> Points: ...


Ask = Callable[[str], Sequence[Series]]


class Drawn(NamedTuple):
    """A panel's lines, by their legend."""

    dashboard: str
    title: str
    unit: str
    lines: dict[str, Points]


def plain(expr: str, seconds: int = 300, values: Mapping[str, str] | None = None) -> str:
    """`expr` with the dashboard's variables at `values`, or at everything.

    `seconds`: the time that the reader looks at.
    """
    values = values or {}
    for name in (*VARIABLES, TRACE):
        expr = expr.replace(f'"${name}"', f'"{values.get(name, EVERYTHING)}"')
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


def main_panels(ask: Ask, seconds: int = 300) -> list[Drawn]:
    """Every main panel of every dashboard with its lines; none where Prometheus has none."""
    return [
        Drawn(dashboard.title, panel.title, UNITS[panel.unit], lines(panel, ask, seconds))
        for dashboard in dashboards.ALL
        for panel in dashboard.panels
        if panel.main
    ]
