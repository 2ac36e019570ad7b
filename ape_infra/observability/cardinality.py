"""The number of series of a fleet: bounded, as no label has an id, a path or an address."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ape_contracts import metrics
from ape_contracts.metrics import Metric

# Containers besides the agents': services, the observability stack, the monitor and its proxy.
SERVICES = 12
# The highest number of values that a label has in our metrics. `service` follows from `name`.
VALUES = {
    "route": 4,
    "method": 7,
    "status": 12,
    "outcome": 14,
    "error": 8,
    "code": 8,
    "cause": 8,
    "result": 5,
    "reason": len(metrics.FAILURE_REASONS) + 1,
    "finish_reason": len(metrics.FINISH_REASONS),
    "kind": len(metrics.REPAIR_KINDS),
    "state": 6,
    "model": 2,
    "service": SERVICES + 1,
    "mountpoint": 4,
    "resource": 3,
    "share": 2,
    "direction": 2,
    "limit": 8,
    "alert": 20,
    "severity": 2,
    "receiver": 3,
    "endpoint": 10,
}
# Buckets with +Inf, sum and count.
HISTOGRAM = 16 + 3


def of_metric(metric: Metric, agents: int) -> int:
    """Return the highest number of series of one metric for a fleet of `agents`."""
    labels = set(metric.labels)
    if "name" in labels:
        return agents + SERVICES
    if "agent" in labels:
        return agents
    count = math.prod(VALUES[label] for label in labels)
    return count * (HISTOGRAM if metric.kind == "histogram" else 1)


def most(agents: int, metrics: Iterable[Metric] = metrics.ALL) -> int:
    """Return the highest number of series of all our metrics for a fleet of `agents`."""
    return sum(of_metric(metric, agents) for metric in metrics)
