"""System overview: the host, and the services that use it."""

from ape_contracts import metrics
from ape_infra.observability import external_metrics, recording_rules
from ape_infra.observability.dashboards.model import (
    Dashboard,
    Panel,
    Query,
    Row,
    or_zero,
    rate,
    series,
    total,
)

_OPEN = external_metrics.ALERTS
_FIRING = 'alertstate="firing"', 'severity!="none"'

DASHBOARD = Dashboard(
    "ape-system-overview",
    "System Overview",
    "The machine's resources, and which service uses them.",
    (
        Row(
            "Now",
            (
                Panel(
                    "CPU",
                    (Query(total(series(metrics.SYSTEM_CPU), op="max"), "of all cores"),),
                    "percent",
                    "stat",
                ),
                Panel(
                    "Memory",
                    (Query(total(series(metrics.SYSTEM_MEMORY), op="max"), "used"),),
                    "percent",
                    "stat",
                ),
                Panel(
                    "Disk",
                    (Query(total(series(metrics.SYSTEM_DISK), op="max"), "fullest"),),
                    "percent",
                    "stat",
                ),
                Panel(
                    "Agents",
                    (Query(total(series(recording_rules.AGENTS_ALIVE)), "alive"),),
                    kind="stat",
                ),
                Panel(
                    "Targets down",
                    (
                        Query(
                            or_zero(f"count({series(external_metrics.UP)} == 0)"), "of Prometheus"
                        ),
                    ),
                    kind="stat",
                ),
                Panel(
                    "Open alerts",
                    (Query(or_zero(f"count({series(_OPEN, *_FIRING)})"), "firing"),),
                    kind="stat",
                ),
            ),
        ),
        Row(
            "Machine",
            (
                Panel(
                    "CPU",
                    (
                        Query(total(series(metrics.SYSTEM_CPU), "instance", op="max"), "used"),
                        Query(
                            total(series(metrics.SYSTEM_IOWAIT), "instance", op="max"),
                            "waits for disks",
                        ),
                    ),
                    "percent",
                    main=True,
                ),
                Panel(
                    "Memory",
                    (
                        Query(total(series(metrics.SYSTEM_MEMORY), "instance", op="max"), "memory"),
                        Query(total(series(metrics.SYSTEM_SWAP), "instance", op="max"), "swap"),
                    ),
                    "percent",
                    main=True,
                ),
                Panel("Load", (Query(total(series(metrics.SYSTEM_LOAD), "instance"), "1 minute"),)),
                Panel(
                    "CPU by service",
                    (Query(total(series(recording_rules.SERVICE_CPU), "service"), "{{service}}"),),
                    description="Cores.",
                    stacked=True,
                    main=True,
                ),
                Panel(
                    "Memory by service",
                    (
                        Query(
                            total(series(recording_rules.SERVICE_MEMORY), "service"), "{{service}}"
                        ),
                    ),
                    "bytes",
                    stacked=True,
                    main=True,
                ),
                Panel(
                    "Network",
                    (Query(total(rate(metrics.SYSTEM_NETWORK), "direction"), "{{direction}}"),),
                    "Bps",
                ),
            ),
        ),
        Row(
            "Alerts",
            (
                Panel(
                    "Firing",
                    (
                        Query(
                            or_zero(f"count by (alertname) ({series(_OPEN, *_FIRING)})"),
                            "{{alertname}}",
                        ),
                    ),
                    stacked=True,
                ),
            ),
        ),
    ),
)
