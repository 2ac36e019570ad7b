"""Checks the health path of each route whose config enables it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

from ape_contracts import metrics
from ape_gateway.upstream import Upstream
from ape_service import logs, trace

EVERY_SECONDS = 10.0
_log = logging.getLogger(__name__)


class RouteHealth:
    """A Prometheus collector of ape_gateway_route_up, for the routes that are checked."""

    def __init__(self, upstreams: dict[str, Upstream], registry: CollectorRegistry) -> None:
        self._checked = {n: u for n, u in upstreams.items() if u.route.health_check.enabled}
        self._found: dict[str, tuple[bool, str]] = {}
        registry.register(self)

    async def run(self) -> None:
        """Check all routes at once, forever."""
        while True:
            await asyncio.gather(*(self._check(name) for name in self._checked))
            await asyncio.sleep(EVERY_SECONDS)

    async def _check(self, name: str) -> None:
        logs.trace_id.set(trace.new_trace_id())
        found = await self._checked[name].healthy(logs.trace_id.get())
        if found != self._found.get(name):
            level = logging.INFO if found[0] else logging.WARNING
            fields = logs.fields(route=name, healthy=found[0], outcome=found[1])
            _log.log(level, "route health", extra=fields)
        self._found[name] = found

    def summary(self) -> dict[str, dict[str, Any]]:
        """{route: {healthy, outcome}}; both are null before the first check has ended."""
        return {
            name: dict(
                zip(("healthy", "outcome"), self._found.get(name, (None, None)), strict=True)
            )
            for name in self._checked
        }

    def collect(self) -> Iterable[GaugeMetricFamily]:
        metric = metrics.GATEWAY_ROUTE_UP
        family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        for name, (healthy, _) in self._found.items():
            family.add_metric([name], healthy)
        yield family
