"""Kernel limits that a fleet would exceed, with the commands that raise them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from monitoring.cgroups import is_v2
from monitoring.kernel import BRIDGE_PORTS, sysctl

# Use of each limit by one agent's container: shim (12 threads), init, Python.
PIDS_PER_CONTAINER = 20
FILES_PER_CONTAINER = 60
DAEMON_FILES_PER_CONTAINER = 8
# Connections in an agent's pool, each tracked twice: before and after NAT.
CONNTRACK_PER_AGENT = 16
# Estimate for the rest of the machine.
SLACK = 512
GWBRIDGE = "docker_gwbridge"


@dataclass(frozen=True)
class Finding:
    """A limit whose `value` is below `need`: the consequence, and the command that raises it."""

    name: str
    value: int
    need: int
    consequence: str
    remedy: str

    @property
    def text(self) -> str:
        return (
            f"{self.name} is {self.value}, and {self.need} are needed: {self.consequence}. "
            f"{self.remedy}"
        )


@dataclass(frozen=True)
class Load:
    """The part of a fleet that runs on one machine."""

    agents: int
    containers: int
    per_network: int
    swarm: bool = False


def _power(number: int) -> int:
    """Return the next power of two, so that the limit also fits a somewhat larger fleet."""
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
    """Return the limits of this machine; one that cannot be read is left out."""
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
    """Return every limit that `load` would exceed; a missing value is not checked."""
    return [f for f in _rules(values, load) if f.value < f.need]


def _sysctls(load: Load, cgroup_version: int | None) -> Iterator[tuple[str, int, str, str]]:
    """Yield (name, need, consequence, further values to set with it) of each sysctl."""
    # A shim uses an inotify instance on cgroup v2 only.
    if cgroup_version == 2:
        yield (
            "fs.inotify.max_user_instances",
            load.containers + SLACK // 8,
            "each container's shim takes one, and further containers do not start",
            "",
        )
    arp = load.containers + SLACK // 4
    yield (
        "net.ipv4.neigh.default.gc_thresh3",
        arp,
        "the ARP table overflows and connections hang",
        f" net.ipv4.neigh.default.gc_thresh2={_power(arp) // 2}"
        f" net.ipv4.neigh.default.gc_thresh1={_power(arp) // 8}",
    )
    backlog = "broadcasts to every container are dropped"
    yield "net.core.netdev_max_backlog", load.containers, backlog, ""
    connections = load.agents * CONNTRACK_PER_AGENT + SLACK
    yield "net.netfilter.nf_conntrack_max", connections, "new connections are dropped", ""
    pids = load.containers * PIDS_PER_CONTAINER + SLACK
    for name in ("kernel.pid_max", "kernel.threads-max"):
        yield name, pids, "no process can start any more", ""
    files = load.containers * FILES_PER_CONTAINER + SLACK
    yield "fs.file-max", files, "no file can be opened", ""


def _rules(values: Mapping[str, int], load: Load) -> Iterator[Finding]:
    for name, need, consequence, more in _sysctls(load, values.get(CGROUP_VERSION)):
        if name in values:
            remedy = f"sysctl -w {name}={_power(need)}{more}"
            yield Finding(name, values[name], need, consequence, remedy)
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
