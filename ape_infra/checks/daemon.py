"""Checks of the Docker daemon."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path

from ape_infra.checks.check import Check
from ape_infra.checks.facts import Facts
from ape_infra.config.project import config_key
from ape_infra.planning.plan import PROCESS_LIMIT

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
