"""Checks of kernel limits: the current values against what a fleet needs of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from ape_infra.checks.check import Check, Status
from ape_infra.checks.facts import Facts
from ape_infra.planning.plan import Plan
from monitoring.cgroups import is_v2
from monitoring.kernel import BRIDGE_PORTS, sysctl

# Needs of one container, measured or counted: shim (12 threads), init, Python.
PIDS_PER_CONTAINER = 20
FILES_PER_CONTAINER = 60
DAEMON_FILES_PER_CONTAINER = 8
# Connections of an agent's pool; each is counted twice, before and after NAT.
CONNTRACK_PER_AGENT = 16
# Rough need of the rest of the machine.
SLACK = 512
GWBRIDGE = "docker_gwbridge"


class Limit(NamedTuple):
    """A limit whose `value` should be at least `need`; below it, the consequence follows."""

    name: str
    value: int
    need: int
    consequence: str
    remedy: str


@dataclass(frozen=True)
class Load:
    """The load of a fleet on one machine. `per_network`: containers on its fullest network."""

    agents: int
    containers: int
    per_network: int
    swarm: bool = False

    @classmethod
    def of(cls, plan: Plan, nodes: int, *, swarm: bool) -> Self:
        """The load on each of `nodes` machines; any of them may run all services."""
        return cls(
            agents=-(-plan.agents // nodes),
            containers=-(-plan.containers // nodes) + plan.service_containers,
            per_network=plan.containers_per_network,
            swarm=swarm,
        )


def _power(number: int) -> int:
    """The next power of two: a round value to set, with a reserve."""
    return 1 << max(0, number - 1).bit_length()


_SYSCTLS = (
    "fs.inotify.max_user_instances",
    "net.ipv4.neigh.default.gc_thresh3",
    "net.core.netdev_max_backlog",
    "net.netfilter.nf_conntrack_max",
    "kernel.pid_max",
    "kernel.threads-max",
    "fs.file-max",
)
CGROUP_VERSION = "cgroup"
DAEMON_NOFILE = "dockerd open files"


def read(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> dict[str, int]:
    """Return the current values of this machine, without those that its kernel does not show."""
    found = {name: value for name in _SYSCTLS if (value := sysctl(name, str(proc))) is not None}
    found[CGROUP_VERSION] = 2 if is_v2(str(cgroup)) else 1
    for status in proc.glob("[0-9]*/comm"):
        try:
            if status.read_text().strip() != "dockerd":
                continue
            for line in (status.parent / "limits").read_text().splitlines():
                if line.startswith("Max open files"):
                    soft = line.split()[3]
                    found[DAEMON_NOFILE] = 1 << 30 if soft == "unlimited" else int(soft)
        except (OSError, ValueError):
            continue
    return found


def fleet(facts: Facts) -> Iterator[Check]:
    """The machine's kernel limits must be large enough for the plan."""
    if not facts.is_local:
        yield Check("kernel limits", "unknown", "they are not visible from this host.")
        return
    load = Load.of(facts.plan, max(1, facts.machine.nodes), swarm=facts.is_swarm)
    found = too_low(read(), load, facts.strict)
    yield from found
    if not found:
        observed = f"they allow the {load.containers} containers of a machine."
        yield Check("kernel limits", "ok", observed)


def too_low(values: Mapping[str, int], load: Load, status: Status) -> list[Check]:
    """Return a check with `status` for each limit below the need of `load`.

    Limits that `values` lacks are not checked.
    """
    return [
        Check(
            limit.name,
            status,
            f"{limit.value}, and the fleet needs {limit.need}: below that, {limit.consequence}.",
            limit.remedy,
        )
        for limit in (*_sysctls(values, load), *_ports(load), *_daemon(values, load))
        if limit.value < limit.need
    ]


def _sysctls(values: Mapping[str, int], load: Load) -> Iterator[Limit]:
    def rule(name: str, need: int, consequence: str, more: str = "") -> Iterator[Limit]:
        if name in values:
            command = f"sysctl -w {name}={_power(need)}{more}"
            yield Limit(name, values[name], need, consequence, command)

    arp = _power(load.containers + SLACK // 4)
    # A shim holds an inotify instance on cgroup v2 only.
    if values.get(CGROUP_VERSION) == 2:
        yield from rule(
            "fs.inotify.max_user_instances",
            load.containers + SLACK // 8,
            "some containers do not start, since the shim of each takes an instance",
        )
    yield from rule(
        "net.ipv4.neigh.default.gc_thresh3",
        load.containers + SLACK // 4,
        "the ARP table overflows and connections hang",
        f" net.ipv4.neigh.default.gc_thresh2={arp // 2}"
        f" net.ipv4.neigh.default.gc_thresh1={arp // 8}",
    )
    yield from rule(
        "net.core.netdev_max_backlog",
        load.containers,
        "broadcasts to every container are dropped",
    )
    yield from rule(
        "net.netfilter.nf_conntrack_max",
        load.agents * CONNTRACK_PER_AGENT + SLACK,
        "new connections are dropped",
    )
    for name in ("kernel.pid_max", "kernel.threads-max"):
        yield from rule(
            name, load.containers * PIDS_PER_CONTAINER + SLACK, "no further process can start"
        )
    yield from rule(
        "fs.file-max",
        load.containers * FILES_PER_CONTAINER + SLACK,
        "no further file can be opened",
    )


def _daemon(values: Mapping[str, int], load: Load) -> Iterator[Limit]:
    if DAEMON_NOFILE in values:
        yield Limit(
            DAEMON_NOFILE,
            values[DAEMON_NOFILE],
            load.containers * DAEMON_FILES_PER_CONTAINER + SLACK,
            "dockerd cannot attach to further containers",
            "Start dockerd with `ulimit -n 1048576` (LimitNOFILE=1048576 under systemd).",
        )


def _ports(load: Load) -> Iterator[Limit]:
    yield Limit(
        "ports of a bridge",
        BRIDGE_PORTS,
        load.per_network,
        "no further container can join the network",
        "Spread the agents over more networks.",
    )
    if load.swarm:
        yield Limit(
            f"ports of {GWBRIDGE}",
            BRIDGE_PORTS,
            load.containers,
            "no further task can start on a node",
            "Add nodes to the Swarm.",
        )
