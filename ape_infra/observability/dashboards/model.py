"""Panels and dashboards as plain data: Grafana's JSON, the tests and the charts come from it.

A query or panel that differs between log stores has one variant for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ape_contracts.metrics import Metric
from ape_infra.observability import promql
from ape_infra.observability.log_queries import LogQuery, Match
from ape_infra.planning.plan import LogStore

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
    """`expr`: PromQL. `legend` may name labels: `{{service}}`.

    `store`: the query belongs to this log store only.
    """

    expr: str
    legend: str = ""
    store: LogStore | None = None


@dataclass(frozen=True)
class Panel:
    """A graph, a single number, or lines of logs. The run report has the `main` graphs.

    `lines`: the query of a panel of logs, which has no others.
    """

    title: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    kind: Literal["graph", "stat", "logs"] = "graph"
    description: str = ""
    stacked: bool = False
    main: bool = False
    lines: LogQuery | None = None


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


def logs(
    title: str,
    *streams: Match,
    fields: tuple[Match, ...] = (),
    keys: tuple[Match, ...] = (),
    description: str = "",
) -> Panel:
    """Return a panel of the lines that match the dashboard's variables and all conditions."""
    scope = (Match(label, "=~", f"${label}") for label in (*promql.SCOPE, TIER))
    # Loki requires a condition that an empty label does not meet.
    chosen = (*scope, Match("service", "=~", ".+"), *streams)
    lines = LogQuery(chosen, fields=tuple((match,) for match in fields), keys=keys)
    return Panel(title, (), kind="logs", description=description, lines=lines)


# Of what a service warns.
WARNINGS = Match("level", "=~", "warning|error|critical")


def traced() -> Panel:
    """Return the panel with all lines of the chosen trace, over all services."""
    return logs(
        "Logs of trace $trace",
        fields=(Match("trace_id", "=~", f"${TRACE}"), Match("trace_id", "!=", "")),
        description="Every line of one session, over agent, proxy and gateway. Paste a trace id "
        "above, or follow the link of a failed session.",
    )
