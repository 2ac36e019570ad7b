"""prometheus_client objects for the metrics of `ape_contracts.metrics`."""

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

# The _created series would double the number of series, and nothing reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]

# The content type of Prometheus' text format.
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
)


def registry() -> CollectorRegistry:
    """A registry with the memory and CPU of this process."""
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
