"""Checks of the Docker daemon without a stack: its address, version, cgroups and capacity."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import requests
from docker.errors import DockerException

from ape_infra.checks import daemon, machine
from ape_infra.checks.check import Check
from ape_infra.checks.connection import PreflightError
from ape_infra.checks.facts import Facts
from ape_infra.checks.host import Host
from ape_infra.config.project import config_key
from ape_infra.planning.plan import Plan
from monitoring.cgroups import is_v2

# The first with cgroup v2.
OLDEST = (20, 10, 0)
CGROUPS = "/sys/fs/cgroup"
LOCAL_SOCKET = "/var/run/docker.sock"
DEFAULT_CONTEXT = "default"


def context(host: Host, address: str = "") -> Iterator[Check]:
    """The daemon that this program uses, and the one of the command docker.

    `address`: the setting dockerHost. Contexts count for the command only.
    """
    used = address or host.env.get("DOCKER_HOST", "")
    known = host.json(host.home / ".docker" / "config.json")
    name = str(host.env.get("DOCKER_CONTEXT") or known.get("currentContext") or DEFAULT_CONTEXT)
    whose = (
        f"{config_key('dockerHost')} is {address}"
        if address
        else f"DOCKER_HOST is {used}"
        if used
        else "the daemon at the local socket is used"
    )
    if name == DEFAULT_CONTEXT or used:
        yield Check("context", "ok", f"{whose}; the context of docker is {name}.")
        return
    endpoint = context_address(host, name)
    yield Check(
        "context",
        "warn",
        f"{whose}, and the command docker uses that of its context {name}"
        f"{f' ({endpoint})' if endpoint else ''}.",
        f"To use the same daemon: export DOCKER_HOST={endpoint or 'ADDRESS'}",
    )


def context_address(host: Host, name: str) -> str:
    """The daemon's address in a context of the command docker; empty: unknown."""
    for file in (host.home / ".docker" / "contexts" / "meta").glob("*/meta.json"):
        found = host.json(file)
        if found.get("Name") == name:
            endpoint = (found.get("Endpoints") or {}).get("docker") or {}
            return str(endpoint.get("Host") or "")
    return ""


def reached(facts: Facts, host: Host) -> tuple[Facts | None, Check]:
    """The facts with a client of the daemon, if one answers, and the check of it."""
    try:
        found = replace(facts, connected=facts.client)
        text = str(found.info.get("ServerVersion", ""))
    except PreflightError as error:
        why = error.checks[0].observed
        address = facts.settings.platform.docker_host or host.env.get("DOCKER_HOST")
        observed = f"no daemon answers at {address or LOCAL_SOCKET}: {_cause(why)}."
        return None, Check("docker", "fail", observed, _remedy(why, host))
    except (DockerException, requests.RequestException, OSError) as error:
        return None, Check("docker", "fail", f"the daemon answers with an error ({error}).")
    number = daemon.version(text)
    if number and number < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        remedy = f"Install Docker {oldest} or later."
        return found, Check("docker", "fail", f"Docker {text}.", remedy)
    return found, Check("docker", "ok", f"Docker {text} answers.")


def _cause(text: str) -> str:
    """The operating system's sentence in the text of an exception, else the text."""
    found = re.findall(r"Error\(\d+, '([^']+)'\)", text)
    return str(found[-1]) if found else text


def _remedy(text: str, host: Host) -> str:
    if "Permission denied" in text:
        return "Run as root, or add your user to the group docker and log in again."
    if not host.find("dockerd") and not host.find("docker"):
        start = " `make setup` as root starts it then." if host.is_clone else ""
        return f"Install Docker: https://docs.docker.com/engine/install.{start}"
    start = "`make setup` as root starts it; or: " if host.is_clone else ""
    return f"{start}systemctl start docker. For another one, set DOCKER_HOST."


def cgroups(facts: Facts) -> Iterator[Check]:
    """The kernel must bound memory and processes of containers."""
    if not facts.is_local:
        text = str(facts.info.get("CgroupVersion", "unknown"))
        yield Check("cgroups", "ok", f"version {text} on the daemon's host.")
        return
    number = 2 if is_v2(CGROUPS) else 1
    driver = facts.info.get("CgroupDriver") or "none"
    observed = f"version {number}, driver {driver}"
    limits = {"MemoryLimit": "memory", "CpuCfsQuota": "CPU", "PidsLimit": "processes"}
    missing = [name for key, name in limits.items() if facts.info.get(key) is False]
    if missing:
        yield Check(
            "cgroups",
            "fail" if "memory" in missing else "warn",
            f"{observed}; containers have no limits of {' and '.join(missing)}.",
            "Enable the cgroup controllers of the kernel (docker info shows which are missing).",
        )
    else:
        yield Check("cgroups", "ok", f"{observed}; memory, CPU and processes have limits.")


def capacity(facts: Facts) -> Iterator[Check]:
    """Memory, CPU, disk and lookups of names, on the daemon's host."""
    for check in (machine.memory, machine.cpu, machine.disk, daemon.names):
        yield from check(facts)


def capacity_here(plan: Plan, folder: Path) -> Iterator[Check]:
    """Memory and disk of this machine, where no daemon answers."""
    need, have = plan.resources.memory_mb, psutil.virtual_memory().total // 2**20
    observed = f"{plan.agents} agents and the services may use {need:.0f} MB; "
    observed += f"the machine has {have} MB."
    if need <= have:
        yield Check("memory", "ok", observed)
    else:
        yield Check("memory", "warn", observed, "Set fewer agents, or use a larger machine.")
    free = shutil.disk_usage(folder).free // 2**20
    observed = f"{free} MB are free, and an update needs {machine.MIN_FREE_DISK_MB} MB."
    if free >= machine.MIN_FREE_DISK_MB:
        yield Check("disk", "ok", observed)
    else:
        yield Check("disk", "fail", observed, "Free some disk space.")
