"""Agent performance: the work of agents, and their resources."""

from ape_contracts import metrics
from ape_infra.observability import recording_rules
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

WORST = 10
_AGENT = 'service="agent"'
_HERE, _ALL = 'state=~"running|healthy"', 'state=~"declared|heartbeat|missing"'
_RESTARTS = total(f"increase({series(metrics.CONTAINER_RESTARTS, _AGENT)}[5m])", "name")

DASHBOARD = Dashboard(
    "ape-agent-performance",
    "Agent Performance",
    "What agents do and what they take; of many, the worst.",
    (
        Row(
            "Work",
            (
                Panel(
                    "Agents by state",
                    (Query(total(series(metrics.AGENTS), "state"), "{{state}}"),),
                    stacked=True,
                    main=True,
                ),
                Panel(
                    "Declared and seen",
                    (
                        # On each node a monitor: these are the node's own, the next the fleet's.
                        Query(total(series(metrics.FLEET_AGENTS, _HERE), "state"), "{{state}}"),
                        Query(
                            total(series(metrics.FLEET_AGENTS, _ALL), "state", op="max"),
                            "{{state}}",
                        ),
                    ),
                ),
                Panel(
                    "Sessions a second",
                    (Query(total(series(recording_rules.SESSION_RATE), "result"), "{{result}}"),),
                    stacked=True,
                ),
                Panel(
                    "Actions a second",
                    (Query(total(rate(metrics.STEPS), "result"), "{{result}}"),),
                    stacked=True,
                    main=True,
                ),
                Panel(
                    "Time between actions",
                    quantiles(recording_rules.BETWEEN_ACTIONS_SECONDS),
                    "s",
                    main=True,
                ),
                Panel("Length of sessions", quantiles(recording_rules.SESSION_SECONDS), "s"),
            ),
        ),
        Row(
            "Resources",
            (
                Panel(
                    f"Memory: the {WORST} largest",
                    (
                        Query(
                            f"topk({WORST}, {total(series(metrics.AGENT_MEMORY), 'agent')})",
                            "agent-{{agent}}",
                        ),
                    ),
                    "bytes",
                    main=True,
                ),
                Panel(
                    f"CPU: the {WORST} busiest",
                    (
                        Query(
                            f"topk({WORST}, {total(series(metrics.AGENT_CPU), 'agent')})",
                            "agent-{{agent}}",
                        ),
                    ),
                    "percent",
                    "graph",
                    "Of one core.",
                    main=True,
                ),
                Panel(
                    "Restarts",
                    (
                        Query(
                            or_none(f"topk({WORST}, {_RESTARTS} > 0)", "name"),
                            "{{name}}",
                        ),
                    ),
                    description="Of the last 5 minutes.",
                ),
            ),
        ),
        Row(
            "Logs",
            (
                logs(
                    "Warnings and errors of agents",
                    Match("service", "=", "agent"),
                    fields=(WARNINGS,),
                ),
            ),
        ),
    ),
)
