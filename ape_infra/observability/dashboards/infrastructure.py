"""Infrastructure: containers, kernel limits, and the cost of monitoring."""

from ape_contracts import metrics
from ape_infra.observability import external_metrics
from ape_infra.observability.dashboards.model import (
    Dashboard,
    Panel,
    Query,
    Row,
    or_none,
    rate,
    series,
    total,
)
from monitoring.thresholds import CPU_PERIODS_PER_SECOND

_MEMORY_SHARE = (
    f"max by (service) ({series(metrics.CONTAINER_MEMORY)} "
    f"/ ({series(metrics.CONTAINER_MEMORY_LIMIT)} > 0))"
)
_THROTTLED = (
    f"max by (service) ({rate(metrics.CONTAINER_THROTTLED)} / "
    f"clamp_min({rate(metrics.CONTAINER_PERIODS)}, {CPU_PERIODS_PER_SECOND}))"
)
_KERNEL = f"max by (limit) ({series(metrics.KERNEL_USED)} / ({series(metrics.KERNEL_ALLOWED)} > 0))"

DASHBOARD = Dashboard(
    "ape-infrastructure",
    "Infrastructure",
    "Containers against their limits, the machine against its own, and the cost of watching.",
    (
        Row(
            "Containers",
            (
                Panel(
                    "Running",
                    (Query(total(series(metrics.CONTAINER_UP), "service"), "{{service}}"),),
                    stacked=True,
                ),
                Panel(
                    "Memory against limit, the fullest of a service",
                    (Query(_MEMORY_SHARE, "{{service}}"),),
                    "percentunit",
                    main=True,
                ),
                Panel(
                    "Time held back by the CPU limit",
                    (Query(_THROTTLED, "{{service}}"),),
                    "percentunit",
                    main=True,
                ),
                Panel(
                    "Network received",
                    (Query(total(rate(metrics.CONTAINER_RECEIVED), "service"), "{{service}}"),),
                    "Bps",
                    stacked=True,
                ),
                Panel(
                    "Network sent",
                    (Query(total(rate(metrics.CONTAINER_SENT), "service"), "{{service}}"),),
                    "Bps",
                    stacked=True,
                ),
                Panel(
                    "Disk",
                    (
                        Query(total(rate(metrics.CONTAINER_READ)), "read"),
                        Query(total(rate(metrics.CONTAINER_WRITTEN)), "written"),
                    ),
                    "Bps",
                ),
                Panel(
                    "Restarts",
                    (
                        Query(
                            or_none(
                                total(
                                    f"increase({series(metrics.CONTAINER_RESTARTS)}[5m])",
                                    "service",
                                ),
                                "service",
                            ),
                            "{{service}}",
                        ),
                    ),
                    description="Of the last 5 minutes.",
                ),
                Panel(
                    "Kills for want of memory",
                    (
                        Query(
                            or_none(
                                total(f"increase({series(metrics.CONTAINER_OOM)}[5m])", "service"),
                                "service",
                            ),
                            "{{service}}",
                        ),
                    ),
                    description="Of the last 5 minutes.",
                ),
                Panel(
                    "Processes and threads",
                    (Query(total(series(metrics.CONTAINER_PIDS), "service"), "{{service}}"),),
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Machine",
            (
                Panel("Kernel limits", (Query(_KERNEL, "{{limit}}"),), "percentunit", main=True),
                Panel(
                    "Disks",
                    (
                        Query(
                            total(series(metrics.SYSTEM_DISK), "mountpoint", op="max"),
                            "{{mountpoint}}",
                        ),
                    ),
                    "percent",
                ),
                Panel(
                    "Disk traffic",
                    (Query(total(rate(metrics.SYSTEM_DISK_IO), "direction"), "{{direction}}"),),
                    "Bps",
                ),
                Panel(
                    "Pressure",
                    (
                        Query(
                            or_none(
                                total(
                                    series(metrics.SYSTEM_PRESSURE), "resource", "share", op="max"
                                ),
                                "resource",
                            ),
                            "{{resource}} {{share}}",
                        ),
                    ),
                    "percent",
                    description="Time in which tasks waited for a resource (PSI).",
                ),
            ),
        ),
        Row(
            "Watching",
            (
                Panel(
                    "Series of Prometheus",
                    (Query(total(series(external_metrics.HEAD_SERIES)), "held"),),
                ),
                Panel(
                    "Samples of a scrape",
                    (Query(total(series(external_metrics.SCRAPED), "job"), "{{job}}"),),
                    stacked=True,
                ),
                Panel(
                    "Log lines a second",
                    (
                        Query(total(rate(external_metrics.LOKI_LINES)), "taken by Loki", "loki"),
                        Query(
                            total(rate(external_metrics.VICTORIALOGS_LINES)),
                            "taken by VictoriaLogs",
                            "victorialogs",
                        ),
                    ),
                ),
                Panel(
                    "Age of the monitor's data",
                    (Query(total(series(metrics.MONITOR_AGE), op="max"), "oldest"),),
                    "s",
                ),
                Panel(
                    "Time of the monitor's sample",
                    (Query(total(series(metrics.MONITOR_SAMPLE_SECONDS), op="max"), "longest"),),
                    "s",
                ),
            ),
        ),
    ),
)
