"""prometheus_client objects for the metrics of `names`."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from ape_contracts.metrics import Metric

# The _created twins double the series and tell nothing here.
disable_created_metrics()  # type: ignore[no-untyped-call]

_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
)


def registry() -> CollectorRegistry:
    """A registry with this process's own memory and CPU."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    return made


def counter(metric: Metric, into: CollectorRegistry) -> Counter:
    return Counter(metric.name, metric.help, metric.labels, registry=into)


def gauge(metric: Metric, into: CollectorRegistry) -> Gauge:
    return Gauge(metric.name, metric.help, metric.labels, registry=into)


def histogram(metric: Metric, into: CollectorRegistry) -> Histogram:
    buckets = metric.buckets or _BUCKETS
    return Histogram(metric.name, metric.help, metric.labels, registry=into, buckets=buckets)
