"""Sums over a sample: the fleet, one row per service, the worst containers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from monitoring.model import Container, ContainerSample, FleetSample


@dataclass(slots=True)
class ServiceRow:
    """All containers of a service. CPU is in percent of one core; rates in bytes per second.

    `memory_limit` and `cpu_limit` are 0 where any container is unlimited.
    """

    service: str
    containers: int = 0
    running: int = 0
    healthy: int = 0
    restarts: int = 0
    ooms: int = 0
    cpu_percent: float = 0.0
    cpu_limit: float = 0.0
    memory: int = 0
    memory_limit: int = 0
    received_rate: float = 0.0
    sent_rate: float = 0.0
    read_rate: float = 0.0
    written_rate: float = 0.0
    pids: int = 0


def by_service(samples: Iterable[ContainerSample]) -> list[ServiceRow]:
    """Return one row per service, sorted by name."""
    rows: dict[str, ServiceRow] = {}
    unlimited: set[tuple[str, str]] = set()
    for one in samples:
        container = one.container
        row = rows.get(container.service)
        if row is None:
            row = rows[container.service] = ServiceRow(container.service)
        row.containers += 1
        row.running += container.running
        row.healthy += container.healthy
        row.restarts += one.restarts
        row.ooms += one.ooms
        if (usage := one.usage) is None:
            continue
        row.memory += usage.memory
        row.pids += usage.pids
        if usage.memory_limit is None:
            unlimited.add((row.service, "memory"))
        else:
            row.memory_limit += usage.memory_limit
        if usage.cpu_limit is None:
            unlimited.add((row.service, "cpu"))
        else:
            row.cpu_limit += usage.cpu_limit
        row.cpu_percent += one.cpu_percent or 0.0
        row.received_rate += one.received_rate or 0.0
        row.sent_rate += one.sent_rate or 0.0
        row.read_rate += one.read_rate or 0.0
        row.written_rate += one.written_rate or 0.0
    for service, resource in unlimited:
        if resource == "memory":
            rows[service].memory_limit = 0
        else:
            rows[service].cpu_limit = 0.0
    return [rows[name] for name in sorted(rows)]


def _worst_first(one: ContainerSample) -> tuple[bool, float, str]:
    used = max(
        one.memory_percent or 0.0,
        one.cpu_of_limit or 0.0,
        one.throttled_percent or 0.0,
        25.0 * one.restarts_hour,
        100.0 * (one.ooms_recent > 0),
    )
    return not one.container.failed, -used, one.container.name


def worst(samples: Iterable[ContainerSample], count: int = 10) -> list[ContainerSample]:
    """Return `count` containers: failed ones first, then the nearest to a limit."""
    return sorted(samples, key=_worst_first)[:count]


def _highest(agents: Iterable[Container]) -> int:
    """Return the highest agent number; without numbers, the number of agents."""
    found = list(agents)
    numbered = [c.slot + c.agents - 1 for c in found if c.slot is not None]
    return max(numbered, default=sum(c.agents for c in found))


def fleet(
    containers: Iterable[Container],
    *,
    declared: int | None,
    heartbeat: int | None,
    gateway_declared: int | None,
) -> FleetSample:
    """Count agents, not containers: a container may hold several.

    `declared` is the given number, else the gateway's. Without either it is the highest number that
    Docker lists, running or not, since agents are numbered without gaps. On Swarm, Docker lists
    only the agents of one node: there it stays unknown, and the missing agents follow from the
    gateway's heartbeats.
    """
    listed = list(containers)
    agents = [c for c in listed if c.agents]
    swarm = any(c.swarm for c in listed)
    projects = {c.project for c in agents}
    running = sum(c.agents for c in agents if c.running)
    healthy = sum(c.agents for c in agents if c.healthy)
    if declared is None:
        declared = gateway_declared or None
    if declared is None and agents and not swarm:
        declared = sum(_highest(c for c in agents if c.project == name) for name in projects)
    present = heartbeat if swarm else healthy
    return FleetSample(
        declared=declared,
        running=running,
        healthy=healthy,
        heartbeat=heartbeat,
        missing=0 if declared is None or present is None else max(0, declared - present),
    )
