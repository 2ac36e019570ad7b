"""Panels and dashboards as plain data: Grafana's JSON, the tests and the pictures come from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ape_contracts.metrics import Metric
from ape_infra.observability import promql

Unit = Literal[
    "short", "percent", "percentunit", "s", "bytes", "Bps", "reqps", "currencyUSD", "tok/s"
]
# Variable of a dashboard -> the label it selects by. A query uses those that its metric has.
TIER = "tier"
VARIABLES = {label: label for label in (*promql.SCOPE, TIER, "shard", "agent")}
# The variable with a trace id, for logs. The pattern that selects everything.
TRACE, EVERYTHING = "trace", ".*"


@dataclass(frozen=True)
class Query:
    """`expr`: PromQL or LogQL. `legend` may name labels: `{{service}}`."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """A graph, a single number, or lines of logs (LogQL). The run report has the `main` graphs."""

    title: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    kind: Literal["graph", "stat", "logs"] = "graph"
    description: str = ""
    stacked: bool = False
    main: bool = False


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for row in self.rows for panel in row.panels)


def _matchers(metric: Metric) -> tuple[str, ...]:
    return tuple(
        f'{label}=~"${variable}"'
        for variable, label in VARIABLES.items()
        if label in promql.SCOPE or label in metric.labels
    )


def series(metric: Metric, *matchers: str) -> str:
    """Return promql.series with the matchers of the dashboard's variables."""
    return promql.series(metric, *_matchers(metric), *matchers)


def rate(metric: Metric, *matchers: str) -> str:
    return promql.rate(metric, *_matchers(metric), *matchers)


def total(expr: str, *by: str, op: str = "sum") -> str:
    """Aggregate over all labels except `by`, also over projects."""
    return f"{op} by ({', '.join(by)}) ({expr})" if by else f"{op}({expr})"


def quantiles(metric: Metric) -> tuple[Query, ...]:
    """Return the query of a recorded median, 95th and 99th percentile."""
    return (Query(total(series(metric), "quantile", op="max"), "quantile {{quantile}}"),)


def or_none(expr: str, label: str) -> str:
    """Return `expr`, or a zero with the label value `none`: a rare event has no series at first."""
    return f'{expr} or label_replace(vector(0), "{label}", "none", "", "")'


def or_zero(expr: str) -> str:
    return f"{expr} or vector(0)"


def logs(*matchers: str, rest: str = "") -> str:
    """Return LogQL for the lines of streams, filtered by `rest`."""
    scope = (f'{label}=~"${label}"' for label in (*promql.SCOPE, TIER))
    # Loki requires a matcher that an empty label does not satisfy.
    chosen = ", ".join((*scope, 'service=~".+"', *matchers))
    return f"{{{chosen}}}" + (f" {rest}" if rest else "")


def traced() -> Panel:
    """Return the panel with all lines of the chosen trace, over all services."""
    return Panel(
        "Logs of trace $trace",
        (Query(logs(rest=f'| trace_id=~"${TRACE}" | trace_id!=""')),),
        kind="logs",
        description="Every line of one session, over agent, proxy and gateway. Paste a trace id "
        "above, or follow the link of a failed session.",
    )
