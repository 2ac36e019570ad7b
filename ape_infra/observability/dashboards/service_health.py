"""Service health: gateway, inference proxy, and the monitoring of them."""

from ape_contracts import metrics
from ape_infra.observability import external_metrics, recording_rules
from ape_infra.observability.dashboards.model import (
    WARNINGS,
    Dashboard,
    Panel,
    Query,
    Row,
    logs,
    or_none,
    quantiles,
    rate,
    series,
    total,
)
from ape_infra.observability.log_queries import Match

_NOT_AGENTS = 'service!="agent"'
# On Swarm, a node still lists a task that ended there while its successor runs elsewhere.
_HEALTHY = total(series(metrics.CONTAINER_HEALTHY, _NOT_AGENTS), "service", "name", op="max")

DASHBOARD = Dashboard(
    "ape-service-health",
    "Service Health",
    "The MCP gateway and the inference proxy: traffic, errors, latency, saturation.",
    (
        Row(
            "Gateway",
            (
                Panel(
                    "Answers a second",
                    (Query(total(series(recording_rules.ANSWER_RATE), "class"), "{{class}}"),),
                    "reqps",
                    stacked=True,
                    main=True,
                ),
                Panel(
                    "Share of errors",
                    (
                        Query(
                            total(series(recording_rules.ERROR_RATIO), "class", op="max"),
                            "{{class}}",
                        ),
                    ),
                    "percentunit",
                    main=True,
                ),
                Panel("Time of the target", quantiles(recording_rules.GATEWAY_SECONDS), "s"),
                Panel(
                    "Answered by the gateway itself",
                    (
                        Query(
                            or_none(total(rate(metrics.GATEWAY_ERRORS), "error"), "error"),
                            "{{error}}",
                        ),
                    ),
                    "reqps",
                    description="Refused, unreachable, too slow.",
                    stacked=True,
                ),
                Panel(
                    "Retries a second",
                    (
                        Query(
                            or_none(total(rate(metrics.GATEWAY_RETRIES), "cause"), "cause"),
                            "{{cause}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "Under way and waiting",
                    (
                        Query(total(series(metrics.GATEWAY_IN_FLIGHT)), "under way"),
                        Query(total(series(metrics.GATEWAY_QUEUED)), "waiting"),
                    ),
                ),
            ),
        ),
        Row(
            "Inference proxy",
            (
                Panel(
                    "Completions a second",
                    (Query(total(series(recording_rules.MODEL_RATE), "status"), "{{status}}"),),
                    "reqps",
                    stacked=True,
                    main=True,
                ),
                Panel("Time of completions", quantiles(recording_rules.COMPLETION_SECONDS), "s"),
                Panel(
                    "Time to first token",
                    quantiles(recording_rules.FIRST_TOKEN_SECONDS),
                    "s",
                    description="Of streams; agents do not stream.",
                ),
                Panel(
                    "Share limited by rate (429)",
                    (Query(total(series(recording_rules.RATE_LIMITED), op="max"), "429"),),
                    "percentunit",
                ),
                Panel(
                    "Tokens a second",
                    (
                        Query(total(series(recording_rules.TOKENS_IN)), "in"),
                        Query(total(series(recording_rules.TOKENS_OUT)), "out"),
                    ),
                    "tok/s",
                ),
                Panel(
                    "Retries a second",
                    (
                        Query(
                            or_none(total(rate(metrics.PROXY_RETRIES), "cause"), "cause"),
                            "{{cause}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "Under way and waiting",
                    (
                        Query(total(series(metrics.PROXY_IN_FLIGHT)), "under way"),
                        Query(total(series(metrics.PROXY_QUEUED)), "waiting"),
                    ),
                ),
            ),
        ),
        Row(
            "Watchers",
            (
                Panel(
                    "Targets that answer Prometheus",
                    (Query(total(series(external_metrics.UP), "job", op="min"), "{{job}}"),),
                ),
                Panel(
                    "Healthy containers",
                    (Query(total(_HEALTHY, "service", op="min"), "{{service}}"),),
                ),
                Panel(
                    "Messages of Alertmanager that failed",
                    (
                        Query(
                            total(rate(external_metrics.NOTIFICATIONS_FAILED), "integration"),
                            "{{integration}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Logs",
            (
                logs(
                    "Warnings and errors",
                    Match("service", "!=", "agent"),
                    fields=(WARNINGS,),
                ),
            ),
        ),
    ),
)
