"""Metrics of Prometheus, Alertmanager and the log stores that rules and dashboards query."""

from __future__ import annotations

from ape_contracts.metrics import Metric

UP = Metric("up", "gauge", "1 if the last scrape of a target succeeded, else 0.")
ALERTS = Metric("ALERTS", "gauge", "Alerts of Prometheus.", ("alertname", "alertstate", "severity"))
SCRAPED = Metric("scrape_samples_scraped", "gauge", "Samples of a target's last scrape.")
HEAD_SERIES = Metric("prometheus_tsdb_head_series", "gauge", "Series that Prometheus holds.")
RULE_FAILURES = Metric(
    "prometheus_rule_evaluation_failures_total",
    "counter",
    "Evaluations of rules that failed.",
    ("rule_group",),
)
NOTIFICATIONS_FAILED = Metric(
    "alertmanager_notifications_failed_total",
    "counter",
    "Notifications that a receiver rejected.",
    ("integration",),
)
LOKI_LINES = Metric(
    "loki_distributor_lines_received_total",
    "counter",
    "Log lines that Loki received.",
    ("tenant", "aggregated_metric"),
)
VICTORIALOGS_LINES = Metric(
    "vl_rows_ingested_total",
    "counter",
    "Log lines that VictoriaLogs received.",
    ("type",),
)

ALL: tuple[Metric, ...] = tuple(v for v in list(globals().values()) if isinstance(v, Metric))
