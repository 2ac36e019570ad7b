"""HTTP: GET /metrics (Prometheus), /alerts and /sample (JSON), /health."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    UntypedMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from ape_contracts import metrics
from ape_contracts.metrics import Metric
from monitoring import wire
from monitoring.alerts import Alert, Health
from monitoring.model import ContainerSample, Sample, Usage

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REQUEST_SECONDS = 10

_FAMILIES = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "untyped": UntypedMetricFamily,
}


def _family(metric: Metric) -> Any:
    return _FAMILIES[metric.kind](metric.name, metric.help, labels=metric.labels)


def _single(metric: Metric, value: float) -> Family:
    family = _family(metric)
    family.add_metric((), value)
    made: Family = family
    return made


@dataclass(frozen=True)
class State:
    """The last sample with its alerts; replaced as a whole, never changed."""

    sample: Sample
    alerts: list[Alert]
    health: Health
    project: str
    now: float
    sent: dict[tuple[str, str], int] = field(default_factory=dict)


_BY_USAGE: tuple[tuple[Metric, Callable[[Usage], float]], ...] = (
    (metrics.CONTAINER_MEMORY, lambda u: u.memory),
    (metrics.CONTAINER_MEMORY_LIMIT, lambda u: u.memory_limit or 0),
    (metrics.CONTAINER_CPU, lambda u: u.cpu_seconds),
    (metrics.CONTAINER_PERIODS, lambda u: u.periods),
    (metrics.CONTAINER_THROTTLED, lambda u: u.throttled),
    (metrics.CONTAINER_RECEIVED, lambda u: u.received),
    (metrics.CONTAINER_SENT, lambda u: u.sent),
    (metrics.CONTAINER_READ, lambda u: u.read),
    (metrics.CONTAINER_WRITTEN, lambda u: u.written),
    (metrics.CONTAINER_PIDS, lambda u: u.pids),
)
_BY_SAMPLE: tuple[tuple[Metric, Callable[[ContainerSample], float]], ...] = (
    (metrics.CONTAINER_UP, lambda c: int(c.container.running)),
    (metrics.CONTAINER_HEALTHY, lambda c: int(not c.container.failed)),
    (metrics.CONTAINER_RESTARTS, lambda c: c.restarts),
    (metrics.CONTAINER_OOM, lambda c: max(c.ooms, c.usage.oom_kills if c.usage else 0)),
    (metrics.CONTAINER_STARTED, lambda c: c.container.started),
)


_BY_AGENT: tuple[tuple[Metric, Callable[[ContainerSample], float | None]], ...] = (
    (metrics.AGENT_MEMORY, lambda c: c.usage.memory if c.usage else None),
    (metrics.AGENT_CPU, lambda c: c.cpu_percent),
)
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def _head(metric: Metric) -> str:
    return f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"


def _agent(one: ContainerSample) -> str:
    """Return the agent's label: 0042, with the project before it where several exist."""
    return one.container.name.replace("agent-", "", 1).translate(_ESCAPES)


def container_text(sample: Sample) -> str:
    """Return the series of the containers, in the text format.

    With 17 series per container, the library takes 100 ms per scrape for 1000 containers, and this
    function 20 ms.
    """
    labels = [
        (
            f'{{name="{c.container.name.translate(_ESCAPES)}",'
            f'service="{c.container.service.translate(_ESCAPES)}",'
            f'tier="{c.container.tier.translate(_ESCAPES)}",shard="{c.container.shard}"}}',
            c,
        )
        for c in sample.containers
    ]
    gone = [
        f'{{name="{name}",service="{name}"}} 0\n'
        for name in (service.translate(_ESCAPES) for service in sample.gone)
    ]
    measured = [(at, c.usage) for at, c in labels if c.usage is not None]
    parts: list[str] = []
    for metric, of_usage in _BY_USAGE:
        name = metric.name
        parts.append(_head(metric))
        parts += [f"{name}{at} {of_usage(usage)}\n" for at, usage in measured]
    for metric, of_sample in _BY_SAMPLE:
        name = metric.name
        parts.append(_head(metric))
        parts += [f"{name}{at} {of_sample(one)}\n" for at, one in labels]
        if metric in (metrics.CONTAINER_UP, metrics.CONTAINER_HEALTHY):
            parts += [name + line for line in gone]
    agents = [c for c in sample.containers if c.container.slot is not None]
    for metric, of_agent in _BY_AGENT:
        parts.append(_head(metric))
        for one in agents:
            value = of_agent(one)
            if value is not None:
                parts.append(f'{metric.name}{{agent="{_agent(one)}"}} {value}\n')
    return "".join(parts)


def collected(state: State, age: float) -> Iterator[Family]:
    """Yield all other metrics of a sample whose data is `age` seconds old."""
    sample = state.sample
    yield from _fleet(sample)
    yield from _system(sample)
    monitor = sample.monitor
    yield _single(metrics.MONITOR_SAMPLE_SECONDS, monitor.sample_seconds)
    yield _single(metrics.MONITOR_AGE, age)
    yield _single(metrics.MONITOR_SAMPLES, monitor.samples)
    yield _single(metrics.MONITOR_DOCKER_UP, monitor.docker_up)
    yield _single(metrics.MONITOR_STREAMS_LOST, monitor.streams_lost)
    yield _single(metrics.MONITOR_DESCRIPTORS, monitor.open_files)
    yield _single(metrics.MONITOR_UNSEEN, monitor.unseen)
    opened = _family(metrics.MONITOR_ALERTS)
    by_alert = Counter((alert.name, str(alert.severity)) for alert in state.alerts)
    for key, count in by_alert.items():
        opened.add_metric(key, count)
    yield opened
    sent = _family(metrics.MONITOR_SENT)
    for at, count in state.sent.items():
        sent.add_metric(at, count)
    yield sent


def _fleet(sample: Sample) -> Iterator[Family]:
    fleet = sample.fleet
    yield _single(metrics.CONCURRENT_AGENTS, fleet.running)
    states = _family(metrics.FLEET_AGENTS)
    for state in ("declared", "running", "healthy", "heartbeat", "missing"):
        value = getattr(fleet, state)
        if value is not None:
            states.add_metric((state,), value)
    yield states


def _system(sample: Sample) -> Iterator[Family]:
    if (system := sample.system) is None:
        return
    yield _single(metrics.SYSTEM_MEMORY, system.memory_percent)
    yield _single(metrics.SYSTEM_SWAP, system.swap_percent)
    if system.cpu_percent is not None and system.iowait_percent is not None:
        yield _single(metrics.SYSTEM_CPU, system.cpu_percent)
        yield _single(metrics.SYSTEM_IOWAIT, system.iowait_percent)
    yield _single(metrics.SYSTEM_LOAD, system.load1)
    tables: tuple[tuple[Metric, dict[tuple[str, ...], float]], ...] = (
        (metrics.SYSTEM_DISK, {(mount,): v for mount, v in system.disks.items()}),
        (metrics.SYSTEM_PRESSURE, {tuple(at): v for at, v in system.pressure.items()}),
        (
            metrics.SYSTEM_NETWORK,
            {("received",): system.received, ("sent",): system.sent},
        ),
        (metrics.SYSTEM_DISK_IO, {("read",): system.read, ("written",): system.written}),
        (metrics.KERNEL_USED, {(limit.name,): limit.used for limit in system.limits}),
        (metrics.KERNEL_ALLOWED, {(limit.name,): limit.allowed for limit in system.limits}),
    )
    for metric, values in tables:
        family = _family(metric)
        for at, value in values.items():
            family.add_metric(at, value)
        yield family


class SampleCollector(Collector):
    """Builds the metrics of the last sample at each scrape, so none outlives its container."""

    def __init__(self, state: Callable[[], State | None], age: Callable[[], float]) -> None:
        self._state, self._age = state, age

    def collect(self) -> Iterable[Family]:
        state = self._state()
        return collected(state, self._age()) if state else ()

    def describe(self) -> Iterable[Family]:
        return ()


class Exporter:
    """Serves the last State. `age` returns the age of its data, in seconds."""

    def __init__(self, bind: str, port: int, age: Callable[[], float], stale: float) -> None:
        """Listen on `port` (0: any free one). Raises OSError where the port is taken."""
        self.state: State | None = None
        self._age, self._stale = age, stale
        self._registry = CollectorRegistry()
        self._registry.register(SampleCollector(lambda: self.state, age))
        ProcessCollector(registry=self._registry)
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            timeout = REQUEST_SECONDS
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, kind, body = exporter.answer(urlsplit(self.path).path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer((bind, port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="exporter", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def metrics(self) -> bytes:
        """Return the body of /metrics."""
        state = self.state
        made: bytes = generate_latest(self._registry)
        return made + container_text(state.sample).encode() if state else made

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return (status, content type, body) of GET `path`."""
        if path == "/metrics":
            return 200, CONTENT_TYPE, self.metrics()
        state = self.state
        if path == "/health":
            fresh = state is not None and self._age() < self._stale
            return _json(200 if fresh else 503, {"status": "ok" if fresh else "stale"})
        if path in ("/alerts", "/sample") and state is None:
            return _json(503, {"error": "starting", "message": "The monitor has no sample yet."})
        if path == "/alerts" and state:
            found = wire.alerts(state.alerts, state.now, state.sample.at)
            return _json(
                200,
                {
                    "schema": wire.SCHEMA,
                    "project": state.project,
                    "health": state.health._asdict(),
                    "alerts": found,
                },
            )
        if path == "/sample" and state:
            made = wire.sample(state.sample, state.health, state.alerts, state.project, state.now)
            return 200, "application/json", wire.line(made)
        known: Sequence[str] = ("/metrics", "/alerts", "/sample", "/health")
        return _json(404, {"error": "not_found", "message": f"Use {', '.join(known)}."})


def _json(status: int, value: dict[str, Any]) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(value).encode() + b"\n"
