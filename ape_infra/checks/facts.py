"""The facts that checks look at; each is read once, when a check first needs it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import docker

from ape_contracts import docker_endpoint
from ape_infra.checks.check import Status
from ape_infra.checks.connection import connect
from ape_infra.config.addresses import host_of, is_loopback, on_docker_host
from ape_infra.config.settings import Settings
from ape_infra.planning.plan import Plan

# As docker-py names every daemon that it reaches by a socket of this machine.
LOCAL_URL = "http+docker://localhost"


@dataclass(frozen=True)
class Machine:
    """Capacity, summed over the nodes of a Swarm; `disk_free_mb` None: not visible to this host."""

    memory_mb: int
    cpus: float
    nodes: int = 1
    disk_free_mb: int | None = None


@dataclass(frozen=True)
class Facts:
    """The settings, the stack as it runs, and the daemon, which is connected to when needed.

    `connected`: a client that the caller has already. `outputs` is empty while the stack is not up.
    `history`: its updates, newest first.
    `endpoints`: name -> (URL, whether it answers).
    """

    settings: Settings
    project: str
    stack: str
    connected: docker.DockerClient | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    endpoints: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    api_key: str = field(default="", repr=False)

    @cached_property
    def client(self) -> docker.DockerClient:
        """A client of the stack's daemon. Raises PreflightError when no daemon answers."""
        return self.connected or connect(self.settings)

    @cached_property
    def plan(self) -> Plan:
        return self.settings.plan(self.stack)

    @property
    def agents(self) -> int:
        """Agents that the stack has now."""
        return int(self.outputs.get("agents", 0))

    @property
    def strict(self) -> Status:
        """The status of a shortage: a warning in development, a failure in production."""
        return "fail" if self.settings.platform.production else "warn"

    @cached_property
    def is_local(self) -> bool:
        """Whether the daemon runs on this machine, whose files and ports can then be read."""
        return is_local(self.client)

    def hides(self, url: str) -> bool:
        """Whether a URL leads to a Docker host that is not this machine, as its address shows."""
        try:
            address = docker_endpoint.resolve(self.settings.platform.docker_host).host
        except docker_endpoint.EndpointError:
            # The check of the daemon reports it.
            return False
        elsewhere = address.startswith(("tcp:", "ssh:")) and not is_loopback(host_of(address))
        return elsewhere and on_docker_host(url)

    @cached_property
    def info(self) -> Mapping[str, Any]:
        """What `docker info` reports."""
        found: dict[str, Any] = self.client.info()
        return found

    @property
    def is_swarm(self) -> bool:
        return self.settings.platform.runtime == "swarm"

    @property
    def manages_swarm(self) -> bool:
        return bool(self.info.get("Swarm", {}).get("ControlAvailable"))

    @property
    def disk_root(self) -> str:
        return str(self.info.get("DockerRootDir", "/"))

    @cached_property
    def machine(self) -> Machine:
        free = _disk_free_mb(self.disk_root) if self.is_local else None
        if not (self.is_swarm and self.manages_swarm):
            return Machine(self.info["MemTotal"] // 2**20, float(self.info["NCPU"]), 1, free)
        nodes = [
            node["Description"]["Resources"]
            for node in self.client.api.nodes()
            if node["Status"]["State"] == "ready" and node["Spec"]["Availability"] == "active"
        ]
        return Machine(
            sum(n["MemoryBytes"] for n in nodes) // 2**20,
            sum(n["NanoCPUs"] for n in nodes) / 1e9,
            len(nodes),
            free,
        )


def is_local(client: docker.DockerClient) -> bool:
    """Whether the daemon runs on this machine."""
    return str(client.api.base_url) == LOCAL_URL


def _disk_free_mb(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).free // 2**20
    except OSError:
        return None
