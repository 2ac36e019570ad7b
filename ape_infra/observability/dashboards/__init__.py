"""The dashboards, one module each."""

from __future__ import annotations

from ape_infra.observability.dashboards import (
    agent_performance,
    infrastructure,
    service_health,
    system_overview,
    test_run,
)
from ape_infra.observability.dashboards.model import Dashboard
from ape_infra.observability.dashboards.sdk import json_of_dashboard
from ape_infra.planning.plan import LogStore

ALL: tuple[Dashboard, ...] = (
    test_run.DASHBOARD,
    system_overview.DASHBOARD,
    agent_performance.DASHBOARD,
    service_health.DASHBOARD,
    infrastructure.DASHBOARD,
)


def files(store: LogStore) -> dict[str, str]:
    """Return file name -> JSON of the dashboard, for a stack with this log store."""
    return {f"{dashboard.uid}.json": json_of_dashboard(dashboard, store) for dashboard in ALL}
