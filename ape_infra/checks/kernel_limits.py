"""Kernel limits that a fleet would hit with the values of today, and the lines that mend them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from monitoring.cgroups import is_v2
from monitoring.kernel import BRIDGE_PORTS, sysctl

# What one agent's container takes of each, measured or counted: shim (12 threads), init, Python.
PIDS_PER_CONTAINER = 20
FILES_PER_CONTAINER = 60
DAEMON_FILES_PER_CONTAINER = 8
# Connections that an agent may hold at once (its pool), seen twice: before and behind the NAT.
CONNTRACK_PER_AGENT = 16
# What the rest of the machine has, roughly.
SLACK = 512
GWBRIDGE = "docker_gwbridge"


@dataclass(frozen=True)
class Finding:
    """`value` is below `need`: `why` says what would happen, `mend` is the line that helps."""

    name: str
    value: int
    need: int
    why: str
    mend: str

    @property
    def text(self) -> str:
        return f"{self.name} is {self.value}, and {self.need} are needed: {self.why}. {self.mend}"


@dataclass(frozen=True)
class Load:
    """What a fleet puts on one machine."""

    agents: int
    containers: int
    per_network: int
    swarm: bool = False


def _power(number: int) -> int:
    """The next power of two: a round value to set, with room."""
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
    """Today's values; what this kernel does not show is left out."""
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


def findings(values: Mapping[str, int], load: Load) -> list[Finding]:
    """Every limit that `load` would hit; a value that is not known is not judged."""
    return [f for f in _rules(values, load) if f.value < f.need]


def _rules(values: Mapping[str, int], load: Load) -> Iterator[Finding]:
    def rule(name: str, need: int, why: str, more: str = "") -> Iterator[Finding]:
        if name in values:
            yield Finding(name, values[name], need, why, f"sysctl -w {name}={_power(need)}{more}")

    arp = _power(load.containers + SLACK // 4)
    # A shim holds an inotify instance on cgroup v2 only.
    if values.get(CGROUP_VERSION) == 2:
        yield from rule(
            "fs.inotify.max_user_instances",
            load.containers + SLACK // 8,
            "each container's shim takes one, and further containers do not start",
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
            name, load.containers * PIDS_PER_CONTAINER + SLACK, "no process can start any more"
        )
    yield from rule(
        "fs.file-max", load.containers * FILES_PER_CONTAINER + SLACK, "no file can be opened"
    )
    if DAEMON_NOFILE in values:
        yield Finding(
            DAEMON_NOFILE,
            values[DAEMON_NOFILE],
            load.containers * DAEMON_FILES_PER_CONTAINER + SLACK,
            "dockerd cannot attach to further containers",
            "Start dockerd with `ulimit -n 1048576` (LimitNOFILE=1048576 under systemd)",
        )
    yield Finding(
        "ports of a bridge",
        BRIDGE_PORTS,
        load.per_network,
        "no more containers can join the network",
        "Spread the agents over more networks",
    )
    if load.swarm:
        yield Finding(
            f"ports of {GWBRIDGE}",
            BRIDGE_PORTS,
            load.containers,
            "no more tasks can start on a node",
            "Add nodes to the Swarm",
        )
