"""Panels and dashboards as plain data: Grafana's JSON, the tests and the pictures come from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ape_contracts.metrics import Metric
from ape_infra.observability import promql

Unit = Literal[
    "short", "percent", "percentunit", "s", "bytes", "Bps", "reqps", "currencyUSD", "tok/s"
]
# Variable -> the label it selects by. A query is narrowed by those that its metric has.
TIER = "tier"
VARIABLES = {label: label for label in (*promql.SCOPE, TIER, "shard", "agent")}
# The variable with a trace id, for logs. A variable that selects everything.
TRACE, EVERYTHING = "trace", ".*"


@dataclass(frozen=True)
class Query:
    """`legend` may name labels: {{service}}."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """A graph, a single number, or lines of logs (LogQL). `main` graphs go into reports."""

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
    """As promql.series, narrowed by the dashboard's variables."""
    return promql.series(metric, *_matchers(metric), *matchers)


def rate(metric: Metric, *matchers: str) -> str:
    return promql.rate(metric, *_matchers(metric), *matchers)


def total(expr: str, *by: str, op: str = "sum") -> str:
    """`op` over all but `by`: a panel shows one project or all of them together."""
    return f"{op} by ({', '.join(by)}) ({expr})" if by else f"{op}({expr})"


def quantiles(metric: Metric) -> tuple[Query, ...]:
    """Median, 95th and 99th percentile of a recorded quantile."""
    return (Query(total(series(metric), "quantile", op="max"), "quantile {{quantile}}"),)


def or_none(expr: str, label: str) -> str:
    """`expr`, or a zero that is named none: of what happens rarely, nothing is news too."""
    return f'{expr} or label_replace(vector(0), "{label}", "none", "", "")'


def or_zero(expr: str) -> str:
    return f"{expr} or vector(0)"


def logs(*matchers: str, rest: str = "") -> str:
    """LogQL: the lines of streams, filtered by `rest`."""
    scope = (f'{label}=~"${label}"' for label in (*promql.SCOPE, TIER))
    # Loki wants a matcher that no empty label fits.
    chosen = ", ".join((*scope, 'service=~".+"', *matchers))
    return f"{{{chosen}}}" + (f" {rest}" if rest else "")


def traced() -> Panel:
    """All lines of the trace that the variable names, over all services."""
    return Panel(
        "Logs of trace $trace",
        (Query(logs(rest=f'| trace_id=~"${TRACE}" | trace_id!=""')),),
        kind="logs",
        description="Every line of one session, over agent, proxy and gateway. Paste a trace id "
        "above, or follow the link of a failed session.",
    )
