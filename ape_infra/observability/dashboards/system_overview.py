"""System overview: the machine, and who uses it."""

from ape_common import names

from ape_infra.observability import foreign, recorded
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
                    (Query(total(series(names.SYSTEM_CPU), op="max"), "of all cores"),),
                    "percent",
                    "stat",
                ),
                Panel(
                    "Memory",
                    (Query(total(series(names.SYSTEM_MEMORY), op="max"), "used"),),
                    "percent",
                    "stat",
                ),
                Panel(
                    "Disk",
                    (Query(total(series(names.SYSTEM_DISK), op="max"), "fullest"),),
                    "percent",
                    "stat",
                ),
                Panel(
                    "Agents",
                    (Query(total(series(recorded.AGENTS_ALIVE)), "alive"),),
                    kind="stat",
                ),
                Panel(
                    "Targets down",
                    (Query(or_zero(f"count({series(foreign.UP)} == 0)"), "of Prometheus"),),
                    kind="stat",
                ),
                Panel(
                    "Open alerts",
                    (Query(or_zero(f"count({series(foreign.ALERTS, *_FIRING)})"), "firing"),),
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
                        Query(total(series(names.SYSTEM_CPU), "instance", op="max"), "used"),
                        Query(
                            total(series(names.SYSTEM_IOWAIT), "instance", op="max"),
                            "waits for disks",
                        ),
                    ),
                    "percent",
                    main=True,
                ),
                Panel(
                    "Memory",
                    (
                        Query(total(series(names.SYSTEM_MEMORY), "instance", op="max"), "memory"),
                        Query(total(series(names.SYSTEM_SWAP), "instance", op="max"), "swap"),
                    ),
                    "percent",
                    main=True,
                ),
                Panel("Load", (Query(total(series(names.SYSTEM_LOAD), "instance"), "1 minute"),)),
                Panel(
                    "CPU by service",
                    (Query(total(series(recorded.SERVICE_CPU), "service"), "{{service}}"),),
                    description="Cores.",
                    stacked=True,
                    main=True,
                ),
                Panel(
                    "Memory by service",
                    (Query(total(series(recorded.SERVICE_MEMORY), "service"), "{{service}}"),),
                    "bytes",
                    stacked=True,
                    main=True,
                ),
                Panel(
                    "Network",
                    (Query(total(rate(names.SYSTEM_NETWORK), "direction"), "{{direction}}"),),
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
                            or_zero(f"count by (alertname) ({series(foreign.ALERTS, *_FIRING)})"),
                            "{{alertname}}",
                        ),
                    ),
                    stacked=True,
                ),
            ),
        ),
    ),
)
