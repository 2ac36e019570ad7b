"""Grafana's JSON of a dashboard, by Grafana's own SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import logs as logs_builders
from grafana_foundation_sdk.builders import loki as loki_builders
from grafana_foundation_sdk.builders import prometheus as prometheus_builders
from grafana_foundation_sdk.builders import stat as stat_builders
from grafana_foundation_sdk.builders import timeseries as graph_builders
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from ape_contracts import metrics
from ape_infra.observability import recording_rules
from ape_infra.observability.dashboards.model import (
    EVERYTHING,
    TRACE,
    VARIABLES,
    Dashboard,
    Panel,
    series,
)
from ape_infra.observability.grafana import LOG_SOURCES, PROMETHEUS_UID
from ape_infra.observability.log_queries import LANGUAGES
from ape_infra.observability.promql import SCOPE
from ape_infra.planning.plan import LogStore

PROMETHEUS = models.DataSourceRef(type_val="prometheus", uid=PROMETHEUS_UID)
LOGS = {
    store: models.DataSourceRef(type_val=source.type, uid=source.uid)
    for store, source in LOG_SOURCES.items()
}
MAX_LINES = 500
TAG = "ape"
# Of the 24 columns of Grafana's grid, and its rows.
SPANS = {"graph": 8, "stat": 4, "logs": 24}
HEIGHTS = {"graph": 8, "stat": 4, "logs": 10}

_Built = graph_builders.Panel | stat_builders.Panel | logs_builders.Panel


@dataclass
class VictoriaLogsQuery(Builder[variants.Dataquery], variants.Dataquery):
    """A query of the plugin of VictoriaLogs, for which the SDK has no class."""

    expr: str

    def build(self) -> variants.Dataquery:
        return self

    def to_json(self) -> dict[str, object]:
        return {"expr": self.expr, "refId": "A", "queryType": "instant", "maxLines": MAX_LINES}


def _targets(panel: Panel, built: _Built, store: LogStore) -> _Built:
    if panel.lines:
        text = LANGUAGES[store](panel.lines)
        lines = loki_builders.Dataquery().expr(text).ref_id("A").query_type("range")
        return built.with_target(
            lines.max_lines(MAX_LINES) if store == "loki" else VictoriaLogsQuery(text)
        )
    for index, query in enumerate(q for q in panel.queries if q.store in (None, store)):
        built.with_target(
            prometheus_builders.Dataquery()
            .expr(query.expr)
            .legend_format(query.legend or "__auto")
            .ref_id(chr(ord("A") + index))
        )
    return built


def _panel(panel: Panel, store: LogStore) -> _Built:
    built: _Built
    if panel.kind == "logs":
        built = (
            logs_builders.Panel()
            .show_time(True)
            .wrap_log_message(True)
            .enable_log_details(True)
            .sort_order(common_models.LogsSortOrder.ASCENDING)
            .datasource(LOGS[store])
        )
    elif panel.kind == "stat":
        built = (
            stat_builders.Panel()
            .unit(panel.unit)
            .graph_mode(common_models.BigValueGraphMode.AREA)
            .datasource(PROMETHEUS)
        )
    else:
        graph = (
            graph_builders.Panel()
            .unit(panel.unit)
            .min(0)
            .line_width(1)
            .fill_opacity(20 if panel.stacked else 5)
            .show_points(common_models.VisibilityMode.NEVER)
            .datasource(PROMETHEUS)
            .data_links(
                [
                    builders.DashboardLink("Logs of this time").url(
                        f"/d/ape-test-run?${{__url_time_range}}&${{{SCOPE[0]}:queryparam}}"
                        f"&${{{SCOPE[1]}:queryparam}}"
                    )
                ]
            )
        )
        if panel.stacked:
            graph.stacking(common_builders.StackingConfig().mode(common_models.StackingMode.NORMAL))
        built = graph
    built.title(panel.title).description(panel.description)
    built.span(SPANS[panel.kind]).height(HEIGHTS[panel.kind])
    return _targets(panel, built, store)


def _variables() -> Iterator[builders.QueryVariable]:
    """Yield a variable for each label of a metric."""
    known = (recording_rules.AGENTS_ALIVE, metrics.AGENT_MEMORY, metrics.CONTAINER_MEMORY)
    for name, label in VARIABLES.items():
        source = next((m for m in known if label in m.labels), None)
        if source is None:
            continue
        yield (
            builders.QueryVariable(name)
            .label(name.capitalize())
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(EVERYTHING)
            .current(models.VariableOption(selected=True, text="All", value="$__all"))
            .datasource(PROMETHEUS)
            .query(f"label_values({source.name}, {label})")
        )


# True at the first step after each change of the declared number of agents.
_DECLARED = series(recording_rules.AGENTS_DECLARED)
SCALING = f"{_DECLARED} != {_DECLARED} offset $__interval"


def _scaling() -> builders.AnnotationQuery:
    """Return the annotation that marks where the stack was scaled."""
    return (
        builders.AnnotationQuery()
        .name("Scaling")
        .datasource(PROMETHEUS)
        .enable(True)
        .icon_color("purple")
        .expr(SCALING)
    )


def json_of_dashboard(dashboard: Dashboard, store: LogStore) -> str:
    built = (
        builders.Dashboard(dashboard.title)
        .uid(dashboard.uid)
        .description(dashboard.description)
        .tags([TAG])
        .time("now-30m", "now")
        .refresh("10s")
        .timezone("browser")
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            builders.DashboardLink("APE")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .annotation(_scaling())
    )
    for variable in _variables():
        built.with_variable(variable)
    built.with_variable(builders.TextBoxVariable(TRACE).label("Trace id").default_value(EVERYTHING))
    for row in dashboard.rows:
        built.with_row(builders.Row(row.title))
        for panel in row.panels:
            built.with_panel(_panel(panel, store))
    return json.dumps(built.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
