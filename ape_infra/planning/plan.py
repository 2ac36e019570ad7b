"""Everything that follows from the agent count, as plain data. No Pulumi, no I/O."""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from ape_infra.planning import services
from ape_infra.planning.tiers import DEFAULT_TIERS, Tier, tier_for

Observability = Literal["off", "metrics", "full"]
Part = Literal["prometheus", "alertmanager", "grafana", "loki", "alloy"]
PARTS: tuple[Part, ...] = get_args(Part)


class Share(NamedTuple):
    """Limits of one part: memory in MiB, CPU in cores."""

    memory_mb: int
    cpus: float


# All services together have 6 cores.
OBSERVABILITY_MEMORY_MB = 4096
SERVICE_CPUS = 6.0
# Shares of the observability budget, in cores of a third of SERVICE_CPUS. What they leave of the
# memory is the monitor's.
OBSERVABILITY_SHARES: dict[Part, Share] = {
    "prometheus": Share(1024, 0.8),
    "alertmanager": Share(256, 0.1),
    "grafana": Share(768, 0.4),
    "loki": Share(1024, 0.5),
    "alloy": Share(512, 0.2),
}
PROMETHEUS_MEMORY_MB = OBSERVABILITY_SHARES["prometheus"].memory_mb
# Proportional set size of one containerd-shim, measured: 2.9 MiB (docs/facts.md).
DOCKER_MB_PER_CONTAINER = 2.9
# A bridge has 1024 ports and ARP tables hold 1024 entries; 250 a network stays clear of both.
CONTAINERS_PER_NETWORK = 250
# The agents of a container share an event loop, which runs on one core: a limit above it is no
# limit, and Docker refuses one above the machine's cores.
CPUS_PER_EVENT_LOOP = 1.0
# Health checks are container execs. 40 a second on 2 cores destroyed a fleet of 200; a tenth of
# that is the budget of the whole host, whatever N is.
HEALTH_CHECKS_PER_SECOND = 4.0
HEALTH_INTERVAL_MIN_SECONDS = 10
# One-minute durations are read back as "1m0s" or "1m", which shows as a change for ever.
HEALTH_INTERVAL_MAX_SECONDS = 59
# The interval is that of the next round fleet, so that growing by one does not change every
# container. The first three are rows of the tier table, which change them all anyway.
HEALTH_FLEETS = (50, 100, 200, int(HEALTH_INTERVAL_MAX_SECONDS * HEALTH_CHECKS_PER_SECOND))
SUBNET_PREFIX = 22


@dataclass(frozen=True)
class Pools:
    """Sizes of the gateway's HTTP connection pool to one route."""

    connections: int
    maxsize: int
    keepalive: int


@dataclass(frozen=True)
class Group:
    """Containers `first` to `last` (inclusive, numbered from 1 in the fleet), all alike."""

    name: str
    first: int
    last: int
    agents_each: int


@dataclass(frozen=True)
class Shard:
    """Agents `first_slot` to `last_slot` (inclusive, from 1) on one network of their own.

    `agents_per_container` of them share a container.
    """

    index: int
    first_slot: int
    last_slot: int
    agents_per_container: int = 1

    @property
    def name(self) -> str:
        return f"agents-{self.index:02d}"

    @property
    def size(self) -> int:
        return self.last_slot - self.first_slot + 1

    @property
    def groups(self) -> tuple[Group, ...]:
        """The full containers, and the one that holds what is left, if anything is.

        They are apart, so that a fleet that grows changes that one and adds others, and leaves
        the full ones as they are.
        """
        full, rest = divmod(self.size, self.agents_per_container)
        first = (self.first_slot - 1) // self.agents_per_container + 1
        made = (
            Group(self.name, first, first + full - 1, self.agents_per_container),
            Group(f"{self.name}-rest", first + full, first + full, rest),
        )
        return tuple(g for g in made if g.last >= g.first and g.agents_each)


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
    """`networks`: of the agents, one a shard; those of shards to come too, which are empty yet."""

    agents: int
    tier: Tier
    shards: tuple[Shard, ...]
    networks: tuple[str, ...]
    pools: Pools
    resources: Resources
    health_interval_seconds: int | None
    start_delay_seed: float
    agents_per_container: int = 1

    @property
    def containers(self) -> int:
        return containers(self.agents, self.agents_per_container)

    @property
    def summary(self) -> str:
        noun = "agent" if self.agents == 1 else "agents"
        where = f" in {self.containers} containers" if self.containers < self.agents else ""
        return (
            f"{self.agents} {noun}{where}, tier {self.tier.label}: {self.tier.memory_mb} MB and "
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


def containers(agents: int, agents_per_container: int = 1) -> int:
    """How many containers hold the agents; the last may hold fewer."""
    return -(-agents // agents_per_container)


def container_cpus(tier: Tier, agents: int) -> float:
    """Cores of a container of so many agents: theirs added up, as far as an event loop can use."""
    return round(min(agents * tier.cpus, max(CPUS_PER_EVENT_LOOP, tier.cpus)), 2)


def shards(agents: int, agents_per_container: int = 1) -> tuple[Shard, ...]:
    """Networks of at most CONTAINERS_PER_NETWORK; a slot keeps its shard whatever `agents` is."""
    size = CONTAINERS_PER_NETWORK * agents_per_container
    return tuple(
        Shard(i, first, min(first + size - 1, agents), agents_per_container)
        for i, first in enumerate(range(1, agents + 1, size))
    )


def networks(agents: int, agents_per_container: int = 1) -> tuple[str, ...]:
    """One a shard."""
    return tuple(shard.name for shard in shards(agents, agents_per_container))


def health_interval_seconds(containers: int) -> int | None:
    """Seconds between two exec health checks of one container; None past the size that the budget

    carries, where agents prove their health by the heartbeat that the gateway counts.
    """
    fleet = next((n for n in HEALTH_FLEETS if containers <= n), None)
    if fleet is None:
        return None
    return max(HEALTH_INTERVAL_MIN_SECONDS, math.ceil(fleet / HEALTH_CHECKS_PER_SECOND))


def start_delay_seed(stack: str) -> float:
    """A fraction in [0, 1) that is the same in every run of the same stack."""
    return int.from_bytes(hashlib.sha256(stack.encode()).digest()[:4], "big") / 2**32


def service_memory_mb(
    observability: Observability, demo_target: bool, monitor: bool = False
) -> int:
    """The monitor is part of what full observability may take."""
    parts = {"off": 0, "metrics": PROMETHEUS_MEMORY_MB, "full": OBSERVABILITY_MEMORY_MB}
    beside = services.deployed(
        demo_target=demo_target, monitor=monitor and observability == "metrics"
    )
    return services.memory_mb(beside) + parts[observability]


def resources(
    agents: int,
    tier: Tier,
    observability: Observability,
    demo_target: bool,
    agents_per_container: int = 1,
    monitor: bool = False,
) -> Resources:
    parts = {"off": 0, "metrics": 1, "full": len(PARTS)}
    built = services.deployed(demo_target=demo_target, monitor=monitor)
    # The agents are one of them.
    beside = len(built) - 1 + parts[observability]
    shims = containers(agents, agents_per_container) + beside
    full, rest = divmod(agents, agents_per_container)
    cpus = full * container_cpus(tier, agents_per_container) + container_cpus(tier, rest)
    return Resources(
        agents_memory_mb=agents * tier.memory_mb,
        services_memory_mb=service_memory_mb(observability, demo_target, monitor),
        docker_memory_mb=math.ceil(shims * DOCKER_MB_PER_CONTAINER),
        agents_cpus=round(cpus, 3),
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
    sized_for: int = 0,
    tiers: Sequence[Tier] = DEFAULT_TIERS,
    observability: Observability = "metrics",
    demo_target: bool = True,
    agents_per_container: int = 1,
    monitor: bool = False,
) -> Plan:
    """The plan of `agents`, each like one of a fleet of `sized_for` where that is larger."""
    size = max(agents, sized_for)
    tier = tier_for(size, tiers)
    return Plan(
        agents=agents,
        tier=tier,
        shards=shards(agents, agents_per_container),
        # For the largest fleet of the tier: scaling within a tier leaves the gateway as it is.
        networks=networks(tier.max_agents, agents_per_container),
        pools=pools(tier.max_agents),
        resources=resources(
            agents, tier, observability, demo_target, agents_per_container, monitor
        ),
        health_interval_seconds=health_interval_seconds(containers(size, agents_per_container)),
        start_delay_seed=start_delay_seed(stack),
        agents_per_container=agents_per_container,
    )
