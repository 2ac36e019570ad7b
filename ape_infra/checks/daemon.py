"""Checks of the Docker daemon."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path

from ape_infra.checks.check import Check
from ape_infra.checks.facts import Facts
from ape_infra.config.addresses import is_loopback
from ape_infra.config.project import config_key
from ape_infra.planning.plan import PROCESS_LIMIT
from ape_infra.planning.services import deployed

RESOLV_CONF = Path("/etc/resolv.conf")
# CVE-2024-29018: fixed in 23.0.11, 25.0.5 and 26; 24 has no fix.
NAMES_FIXED, NAMES_BROKEN_AGAIN, NAMES_FIXED_AGAIN = (23, 0, 11), (24, 0, 0), (25, 0, 5)


def version(text: str) -> tuple[int, int, int] | None:
    """The first three numbers of a version such as 20.10.24+dfsg1; None where it has none."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def forwards_names(found: tuple[int, int, int]) -> bool:
    """Whether this daemon asks a resolver on loopback for containers of internal networks."""
    return found < NAMES_FIXED or NAMES_BROKEN_AGAIN <= found < NAMES_FIXED_AGAIN


def loopback_resolvers(text: str) -> list[str]:
    """The nameservers of a resolv.conf that are on a loopback address."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["nameserver"] and len(words) > 1:
            try:
                if ipaddress.ip_address(words[1].partition("%")[0]).is_loopback:
                    found.append(words[1])
            except ValueError:
                continue
    return found


def names(facts: Facts) -> Iterator[Check]:
    """A lookup on an internal network should not reach the resolver of the host."""
    text = str(facts.info.get("ServerVersion", ""))
    found = version(text)
    if found is None or not facts.is_local:
        known = found is not None and not forwards_names(found)
        observed = (
            f"Docker {text} forwards no names from internal networks."
            if known
            else "the daemon's version or the resolver of its host is not visible from this host."
        )
        yield Check("names", "ok" if known else "unknown", observed)
        return
    try:
        resolvers = loopback_resolvers(RESOLV_CONF.read_text("utf-8", "replace"))
    except OSError:
        resolvers = []
    if not forwards_names(found) or not resolvers:
        yield Check("names", "ok", "names looked up on internal networks do not leave them.")
        return
    allow = config_key("allowNameForwarding")
    yield Check(
        "names",
        "warn" if facts.settings.platform.allow_name_forwarding else facts.strict,
        f"Docker {text} forwards names that are looked up on internal networks to "
        f"{', '.join(resolvers)}, the host's resolver (CVE-2024-29018).",
        "Install Docker 25.0.5 or later. Where that is not possible, or daemon.json has another "
        f"`dns` server, accept it: set {allow} to true.",
        path=allow,
    )


def processes(facts: Facts) -> Iterator[Check]:
    """A container should have a limit of processes, which neither plugin nor Swarm's API sets."""
    if not facts.is_swarm:
        yield Check(
            "processes",
            "ok",
            f"ape-load limits each container to {PROCESS_LIMIT} processes; `pulumi up` alone sets "
            "no limit, as pulumi-docker has no field for it.",
        )
        return
    driver = facts.info.get("CgroupDriver", "")
    if driver == "systemd":
        yield Check(
            "processes",
            "ok",
            "systemd bounds the processes of each container (DefaultTasksMax).",
        )
        return
    yield Check(
        "processes",
        "warn",
        "no container has a limit of processes: pulumi-docker has no field for it, and cgroup "
        f"driver {driver or 'cgroupfs'} sets none. Memory bounds them.",
        'Where agents are not trusted, set "exec-opts": ["native.cgroupdriver=systemd"] in '
        "daemon.json.",
    )


# In which gateway mode isolated came. Before that the option has no effect.
ISOLATES = (28, 0, 0)
DELEGATE = (
    "Delegate them: write `[Service]` and `Delegate=cpu cpuset io memory pids` to "
    "/etc/systemd/system/user@.service.d/delegate.conf, run `systemctl daemon-reload`, and log in "
    "again."
)


def isolation(facts: Facts) -> Iterator[Check]:
    """Agents should not reach the Docker host, which Docker 28 can hide from them."""
    if facts.is_swarm:
        return
    text = str(facts.info.get("ServerVersion", ""))
    found, key = version(text), config_key("isolateHosts")
    able = found is not None and found >= ISOLATES
    if facts.settings.platform.isolate_hosts and not able:
        yield Check(
            "isolation",
            "fail",
            f"is true, and Docker {text} gives every network an address on its host.",
            "Install Docker 28 or later, or set it to false.",
            path=key,
        )
    elif able and not facts.settings.platform.isolate_hosts:
        yield Check(
            "isolation",
            "ok",
            f"agents can reach services of the Docker host; with {key}, Docker {text} hides it.",
        )


def limits(facts: Facts) -> Iterator[Check]:
    """The daemon must be able to limit CPU and memory; a rootless one may not have them."""
    lacking = [
        name
        for name, key in (("CPU", "CpuCfsQuota"), ("memory", "MemoryLimit"))
        if facts.info.get(key) is False
    ]
    if not lacking:
        yield Check("limits", "ok", "the daemon limits CPU and memory.")
        return
    rootless = any("rootless" in text for text in facts.info.get("SecurityOptions") or ())
    yield Check(
        "limits",
        "fail",
        f"the daemon cannot limit the {' and '.join(lacking)} of a container"
        f"{', as it is rootless and its user has no such controllers' if rootless else ''}.",
        DELEGATE if rootless else "Start the kernel with these cgroup controllers.",
    )


def nodes(facts: Facts) -> Iterator[Check]:
    """With several nodes, each must get the images, and data must stay where they are."""
    if not (facts.is_swarm and facts.manages_swarm) or facts.machine.nodes < 2:
        return
    settings, count = facts.settings, facts.machine.nodes
    given = settings.images.given or {}
    built = [
        service
        for service in deployed(
            demo_target=settings.target.is_demo, monitor=settings.observability.monitored
        )
        if service not in given
    ]
    if built and not settings.images.registry:
        yield Check(
            "nodes",
            "fail",
            f"is empty, and the Swarm has {count} nodes: the images of {', '.join(built)} would be "
            "on this node only.",
            "Set the address of a registry that all nodes reach, such as registry.example:5000.",
            path=config_key("registry"),
        )
        return
    platform, address = settings.platform, settings.ports.expose_address
    placed = any(re.match(r"node\.hostname\s*==", c) for c in platform.service_placement)
    pinned = platform.data_node or placed
    if settings.observability.parts and not pinned:
        yield Check(
            "nodes",
            facts.strict,
            f"is empty, and the Swarm has {count} nodes: a service that moves to another one "
            f"starts without its data, such as that of {settings.observability.parts[0]}.",
            "Set the host name of a node (`docker node ls`).",
            path=config_key("dataNode"),
        )
        return
    if not placed and not is_loopback(address):
        yield Check(
            "nodes",
            "warn",
            f"is {address}, and a port is published on the node on which its service runs, which "
            f"may be any of the {count}.",
            f'Set {config_key("servicePlacement")} to ["node.hostname==NAME"], with the node of '
            "that address.",
            path=config_key("exposeAddress"),
        )
        return
    yield Check("nodes", "ok", f"the {count} nodes get images and keep data.")


def swarm(facts: Facts) -> Iterator[Check]:
    """With runtime swarm, the daemon must be a manager."""
    if not facts.is_swarm:
        return
    if facts.manages_swarm:
        yield Check("swarm", "ok", "the daemon is a Swarm manager.")
        return
    state = facts.info.get("Swarm", {}).get("LocalNodeState", "inactive")
    yield Check(
        "swarm",
        "fail",
        f"is swarm, and the daemon is not a Swarm manager (its state is {state}).",
        "Run `docker swarm init --advertise-addr ADDRESS`, or set runtime to docker.",
        path=config_key("runtime"),
    )
