"""Everything that follows from the agent count, as plain data. No Pulumi, no I/O."""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from ape_contracts.limits import LOG_STREAMS
from ape_infra.planning import services
from ape_infra.planning.tiers import DEFAULT_TIERS, Tier, tier_for

Observability = Literal["off", "metrics", "full"]
# The parts that keep logs; a stack has one of them.
LogStore = Literal["loki", "victorialogs"]
LOG_STORES: tuple[LogStore, ...] = get_args(LogStore)
Part = Literal["prometheus", "alertmanager", "grafana", LogStore, "alloy"]
PARTS: tuple[Part, ...] = get_args(Part)


class Share(NamedTuple):
    """Limits of one part: memory in MiB, CPU in cores."""

    memory_mb: int
    cpus: float


# All services together have 6 cores.
OBSERVABILITY_MEMORY_MB = 4096
SERVICE_CPUS = 6.0
# Shares of the observability budget; their cores are a third of SERVICE_CPUS. The monitor has the
# rest of the memory.
OBSERVABILITY_SHARES: dict[Part, Share] = {
    "prometheus": Share(1024, 0.8),
    "alertmanager": Share(256, 0.1),
    "grafana": Share(768, 0.4),
    "loki": Share(1024, 0.5),
    "victorialogs": Share(512, 0.5),
    "alloy": Share(512, 0.2),
}
PROMETHEUS_MEMORY_MB = OBSERVABILITY_SHARES["prometheus"].memory_mb
# Proportional set size of one containerd-shim, measured: 2.9 MiB (docs/facts.md).
DOCKER_MB_PER_CONTAINER = 2.9
# Of each container. Prometheus and Alloy run about 20 threads, which count as processes, and the
# services fewer.
PROCESS_LIMIT = 512
# A bridge has 1024 ports and ARP tables hold 1024 entries; 250 per network is far from both.
CONTAINERS_PER_NETWORK = 250
# The gateway and the proxy are on every network of agents.
SERVICES_PER_NETWORK = 2
# The agents of a container share an event loop, which runs on one core. A higher limit has no
# effect, and Docker rejects one above the machine's cores.
CPUS_PER_EVENT_LOOP = 1.0
# Health checks are container execs. 40 per second on 2 cores destroyed a fleet of 200; a tenth of
# that is the budget of the whole host for any fleet.
HEALTH_CHECKS_PER_SECOND = 4.0
HEALTH_INTERVAL_MIN_SECONDS = 10
# One-minute durations are read back as "1m0s" or "1m", which every preview shows as a change.
HEALTH_INTERVAL_MAX_SECONDS = 59
# The interval is that of the next of these fleets, so that adding one agent does not change every
# container. The first three end rows of the tier table, which change every container anyway.
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
    def containers(self) -> int:
        return containers(self.size, self.agents_per_container)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The full containers, and the last one where it has fewer agents.

        They are separate, so that a growing fleet changes the last one, adds others, and leaves
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
    """Limits of the whole stack: memory in MiB, CPU in cores."""

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
    """Requirements of a stack.

    `networks`: of the agents, one per shard, also for the shards of a larger fleet in this tier.
    `services`: names of the service containers that run on one machine. The containers that only
    carry files are not among them: they never start, and have no process, log or network.
    """

    agents: int
    tier: Tier
    shards: tuple[Shard, ...]
    networks: tuple[str, ...]
    pools: Pools
    resources: Resources
    health_interval_seconds: int | None
    start_delay_seed: float
    services: tuple[str, ...]
    agents_per_container: int = 1

    @property
    def containers(self) -> int:
        """Containers of agents."""
        return containers(self.agents, self.agents_per_container)

    @property
    def service_containers(self) -> int:
        return len(self.services)

    @property
    def all_containers(self) -> int:
        return self.containers + self.service_containers

    @property
    def log_streams(self) -> int:
        """Log streams that a shipper may open on one machine, which may run the whole stack.

        For the largest fleet of the tier, so that scaling within it leaves the socket proxy as it
        is, and with a reserve for containers that end while others start.
        """
        agents = containers(self.tier.max_agents, self.agents_per_container)
        return agents + self.service_containers + LOG_STREAMS

    @property
    def containers_per_network(self) -> int:
        """Containers on the fullest network of agents, services among them."""
        return max(shard.containers for shard in self.shards) + SERVICES_PER_NETWORK

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
    """Pool sizes for a fleet of `agents`; each is at least 1."""
    return Pools(
        connections=max(1, min(10, agents // 10)),
        maxsize=max(1, min(20, agents // 5)),
        keepalive=max(1, min(50, agents // 10)),
    )


def containers(agents: int, agents_per_container: int = 1) -> int:
    """Containers that `agents` need; the last may have fewer than `agents_per_container`."""
    return -(-agents // agents_per_container)


def container_cpus(tier: Tier, agents: int) -> float:
    """Cores of a container of `agents`: the sum of their limits, within what an event loop uses."""
    return round(min(agents * tier.cpus, max(CPUS_PER_EVENT_LOOP, tier.cpus)), 2)


def shards(agents: int, agents_per_container: int = 1) -> tuple[Shard, ...]:
    """Shards of at most CONTAINERS_PER_NETWORK; a slot has the same shard in every fleet."""
    size = CONTAINERS_PER_NETWORK * agents_per_container
    return tuple(
        Shard(i, first, min(first + size - 1, agents), agents_per_container)
        for i, first in enumerate(range(1, agents + 1, size))
    )


def networks(agents: int, agents_per_container: int = 1) -> tuple[str, ...]:
    """Names of the agents' networks, one per shard."""
    return tuple(shard.name for shard in shards(agents, agents_per_container))


def health_interval_seconds(containers: int) -> int | None:
    """Seconds between two exec health checks of one container.

    None above the number of containers that the budget allows: the health of those agents is the
    heartbeat that the gateway counts.
    """
    fleet = next((n for n in HEALTH_FLEETS if containers <= n), None)
    if fleet is None:
        return None
    return max(HEALTH_INTERVAL_MIN_SECONDS, math.ceil(fleet / HEALTH_CHECKS_PER_SECOND))


def start_delay_seed(stack: str) -> float:
    """A fraction in [0, 1) that is the same in every run of the same stack."""
    return int.from_bytes(hashlib.sha256(stack.encode()).digest()[:4], "big") / 2**32


def parts_of(mode: Observability, log_store: LogStore = "loki") -> tuple[Part, ...]:
    """The parts of a mode, unless the settings select some of `full`; one of them keeps logs."""
    if mode == "full":
        return tuple(p for p in PARTS if p not in LOG_STORES or p == log_store)
    return ("prometheus",) if mode == "metrics" else ()


def service_names(parts: Sequence[Part], *, demo_target: bool, monitor: bool) -> tuple[str, ...]:
    """Names of the service containers of a stack: those that we build, and `parts`."""
    built = services.deployed(demo_target=demo_target, monitor=monitor)
    return (*(services.container_name(s) for s in built if s != "agent"), *parts)


def service_memory_mb(
    observability: Observability, demo_target: bool, monitor: bool = False
) -> int:
    """Memory of all services in MiB. The budget of full observability includes the monitor."""
    parts = {"off": 0, "metrics": PROMETHEUS_MEMORY_MB, "full": OBSERVABILITY_MEMORY_MB}
    built = services.deployed(
        demo_target=demo_target, monitor=monitor and observability == "metrics"
    )
    return services.memory_mb(built) + parts[observability]


def resources(
    agents: int,
    tier: Tier,
    *,
    services_memory_mb: int,
    service_containers: int,
    agents_per_container: int = 1,
) -> Resources:
    running = containers(agents, agents_per_container) + service_containers
    full, rest = divmod(agents, agents_per_container)
    cpus = full * container_cpus(tier, agents_per_container) + container_cpus(tier, rest)
    return Resources(
        agents_memory_mb=agents * tier.memory_mb,
        services_memory_mb=services_memory_mb,
        docker_memory_mb=math.ceil(running * DOCKER_MB_PER_CONTAINER),
        agents_cpus=round(cpus, 3),
        services_cpus=SERVICE_CPUS,
    )


def subnet(pool: str, index: int) -> tuple[str, str]:
    """Return (CIDR, gateway address) of network number `index` of the pool.

    They are explicit because Docker's default pools end at 31 networks and its overlay networks
    at 252 tasks. Raises ValueError when the pool has no room.
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
    size: int | None = None,
    tiers: Sequence[Tier] = DEFAULT_TIERS,
    observability: Observability = "metrics",
    parts: Sequence[Part] | None = None,
    demo_target: bool = True,
    agents_per_container: int = 1,
    monitor: bool = False,
) -> Plan:
    """Return the plan of `agents`, each with the limits of a fleet of `size`; None: of `agents`.

    `parts`: those of observability that are deployed; None: all of the mode.
    """
    size = size or agents
    tier = tier_for(size, tiers)
    deployed = service_names(
        parts_of(observability) if parts is None else parts,
        demo_target=demo_target,
        monitor=monitor,
    )
    return Plan(
        agents=agents,
        tier=tier,
        shards=shards(agents, agents_per_container),
        # For the largest fleet of the tier: scaling within a tier leaves the gateway as it is.
        networks=networks(tier.max_agents, agents_per_container),
        pools=pools(tier.max_agents),
        resources=resources(
            agents,
            tier,
            services_memory_mb=service_memory_mb(observability, demo_target, monitor),
            service_containers=len(deployed),
            agents_per_container=agents_per_container,
        ),
        health_interval_seconds=health_interval_seconds(containers(size, agents_per_container)),
        start_delay_seed=start_delay_seed(stack),
        services=deployed,
        agents_per_container=agents_per_container,
    )
