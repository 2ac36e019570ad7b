"""Everything that follows from the agent count, as plain data. No Pulumi, no I/O."""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ape_infra.tiers import DEFAULT_TIERS, Tier, tier_for

Observability = Literal["off", "metrics", "full"]

# The seed, "Resource Planning": memory of the services, and 6 cores for them together.
GATEWAY_MEMORY_MB = 1024
PROXY_MEMORY_MB = 1024
OBSERVABILITY_MEMORY_MB = 4096
SERVICE_CPUS = 6.0
# Prometheus alone, its share of the observability budget.
PROMETHEUS_MEMORY_MB = 1024
DEMO_TARGET_MEMORY_MB = 256
# Proportional set size of one containerd-shim, measured: 2.9 MiB (docs/facts.md).
DOCKER_MB_PER_CONTAINER = 2.9
# A bridge has 1024 ports and ARP tables hold 1024 entries; 250 a network stays clear of both.
AGENTS_PER_NETWORK = 250
# The seed: agents start with a delay of 0 to 10 seconds.
START_DELAY_MAX_SECONDS = 10.0
# Health checks are container execs. 40 a second on 2 cores destroyed a fleet of 200; a tenth of
# that is the budget of the whole host, whatever N is.
HEALTH_CHECKS_PER_SECOND = 4.0
HEALTH_INTERVAL_MIN_SECONDS = 10
# One-minute durations are read back as "1m0s" or "1m", which shows as a change for ever.
HEALTH_INTERVAL_MAX_SECONDS = 59
SUBNET_PREFIX = 22


@dataclass(frozen=True)
class Pools:
    """Sizes of the gateway's HTTP connection pool to one route."""

    connections: int
    maxsize: int
    keepalive: int


@dataclass(frozen=True)
class Shard:
    """Agents `first_slot` to `last_slot` (inclusive, from 1) on one network of their own."""

    index: int
    first_slot: int
    last_slot: int

    @property
    def name(self) -> str:
        return f"agents-{self.index:02d}"

    @property
    def size(self) -> int:
        return self.last_slot - self.first_slot + 1


@dataclass(frozen=True)
class Resources:
    """What the whole stack may take: memory in MiB, CPU in cores."""

    agents_memory_mb: int
    services_memory_mb: int
    docker_memory_mb: int
    agents_cpus: float
    services_cpus: float

    @property
    def memory_mb(self) -> int:
        return self.agents_memory_mb + self.services_memory_mb + self.docker_memory_mb

    @property
    def cpus(self) -> float:
        return round(self.agents_cpus + self.services_cpus, 3)


@dataclass(frozen=True)
class Plan:
    agents: int
    tier: Tier
    shards: tuple[Shard, ...]
    pools: Pools
    resources: Resources
    health_interval_seconds: int | None
    start_delay_seed: float

    @property
    def summary(self) -> str:
        noun = "agent" if self.agents == 1 else "agents"
        return (
            f"{self.agents} {noun}, tier {self.tier.label}: {self.tier.memory_mb} MB and "
            f"{self.tier.cpus} cores each; {self.resources.memory_mb} MB and "
            f"{self.resources.cpus} cores in all"
        )


def pools(agents: int) -> Pools:
    """The seed's three formulas, in whole numbers and never below 1."""
    return Pools(
        connections=max(1, min(10, agents // 10)),
        maxsize=max(1, min(20, agents // 5)),
        keepalive=max(1, min(50, agents // 10)),
    )


def shards(agents: int) -> tuple[Shard, ...]:
    """Networks of at most AGENTS_PER_NETWORK; a slot keeps its shard whatever `agents` becomes."""
    return tuple(
        Shard(i, first, min(first + AGENTS_PER_NETWORK - 1, agents))
        for i, first in enumerate(range(1, agents + 1, AGENTS_PER_NETWORK))
    )


def health_interval_seconds(agents: int) -> int | None:
    """Seconds between two exec health checks of one agent; None past the size that the budget

    carries, where agents prove their health by the heartbeat that the gateway counts.
    """
    interval = max(HEALTH_INTERVAL_MIN_SECONDS, math.ceil(agents / HEALTH_CHECKS_PER_SECOND))
    return interval if interval <= HEALTH_INTERVAL_MAX_SECONDS else None


def start_delay_seed(stack: str) -> float:
    """A fraction in [0, 1) that is the same in every run of the same stack."""
    return int.from_bytes(hashlib.sha256(stack.encode()).digest()[:4], "big") / 2**32


def service_memory_mb(observability: Observability, demo_target: bool) -> int:
    seen = {"off": 0, "metrics": PROMETHEUS_MEMORY_MB, "full": OBSERVABILITY_MEMORY_MB}
    target = DEMO_TARGET_MEMORY_MB if demo_target else 0
    return GATEWAY_MEMORY_MB + PROXY_MEMORY_MB + seen[observability] + target


def resources(
    agents: int, tier: Tier, observability: Observability, demo_target: bool
) -> Resources:
    services = 2 + (observability != "off") + demo_target
    return Resources(
        agents_memory_mb=agents * tier.memory_mb,
        services_memory_mb=service_memory_mb(observability, demo_target),
        docker_memory_mb=math.ceil((agents + services) * DOCKER_MB_PER_CONTAINER),
        agents_cpus=round(agents * tier.cpus, 3),
        services_cpus=SERVICE_CPUS,
    )


def subnet(pool: str, index: int) -> tuple[str, str]:
    """(CIDR, gateway address) of network number `index` of the pool.

    Explicit, since Docker's default pools end at 31 networks and its overlay networks at 252
    tasks. Raises ValueError when the pool has no room.
    """
    network = ipaddress.IPv4Network(pool)
    if index >= 2 ** max(0, SUBNET_PREFIX - network.prefixlen):
        raise ValueError(f"{pool} has no room for network {index + 1} of /{SUBNET_PREFIX}")
    first = int(network.network_address) + index * 2 ** (32 - SUBNET_PREFIX)
    part = ipaddress.IPv4Network((first, SUBNET_PREFIX))
    return str(part), str(part.network_address + 1)


def make_plan(
    agents: int,
    *,
    stack: str,
    tiers: Sequence[Tier] = DEFAULT_TIERS,
    observability: Observability = "metrics",
    demo_target: bool = True,
) -> Plan:
    tier = tier_for(agents, tiers)
    return Plan(
        agents=agents,
        tier=tier,
        shards=shards(agents),
        # For the largest fleet of the tier: scaling within a tier leaves the gateway as it is.
        pools=pools(tier.max_agents),
        resources=resources(agents, tier, observability, demo_target),
        # As the pools: another interval would replace every agent.
        health_interval_seconds=health_interval_seconds(tier.max_agents),
        start_delay_seed=start_delay_seed(stack),
    )
