"""The dashboards' main panels without Grafana: their lines, queried from Prometheus.

The caller supplies the queries' results.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ape_infra.observability import dashboards
from ape_infra.observability.dashboards.model import EVERYTHING, TRACE, VARIABLES, Panel
from ape_infra.reporting.prometheus import Series

Points = Sequence[tuple[float, float]]
# Takes PromQL, returns its series over the time of the report.
Ask = Callable[[str], Sequence[Series]]


class PanelData(NamedTuple):
    """A panel and its lines: legend -> points of (Unix time, value)."""

    dashboard: str
    panel: Panel
    lines: Mapping[str, Points]


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
