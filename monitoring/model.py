"""Containers and samples, as plain data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from ape_contracts import labels, service_settings

COMPOSE_PROJECT, COMPOSE_SERVICE = "com.docker.compose.project", "com.docker.compose.service"
SWARM_NAMESPACE, SWARM_SERVICE = "com.docker.stack.namespace", "com.docker.swarm.service.name"
SWARM_TASK_ID = "com.docker.swarm.task.id"
# "B+N": the N-th container, from 1, of a shard, with B agents in the shards before; or only N.
SLOT_ENV = "APE_AGENT_SLOT"
# A JSON object with it among others, where it has no variable of its own.
SETTINGS_ENV = service_settings.VARIABLE
RUNNING = ("running", "paused", "restarting")


class Usage(NamedTuple):
    """The kernel's counters of one container since its start, in bytes, seconds and periods.

    `memory` is the working set. A limit is None where the container is unlimited.
    """

    cpu_seconds: float
    periods: int
    throttled: int
    memory: int
    received: int
    sent: int
    read: int
    written: int
    memory_limit: int | None
    cpu_limit: float | None
    oom_kills: int
    pids: int


@dataclass(frozen=True, slots=True)
class Container:
    """A container as Docker describes it.

    `name` is stable over restarts and replacements, and unique within `project`. `slot` is the
    number of its (first) agent, `agents` the number of agents that it holds.
    """

    id: str
    name: str
    service: str
    state: str = "running"
    health: str = ""
    pid: int = 0
    started: float = 0.0
    exit_code: int | None = None
    restarts: int = 0
    tier: str = ""
    slot: int | None = None
    agents: int = 0
    networks: tuple[str, ...] = ()
    own_network: bool = True
    swarm: bool = False
    gateway_url: str = ""
    project: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """The identity that stays when the container is replaced."""
        return self.project, self.service, self.name

    @property
    def shard(self) -> str:
        """The network of the agent's shard, such as agents-00; "" for other services."""
        found = (re.search(r"agents-\d+$", network) for network in self.networks)
        return next((match[0] for match in found if match), "") if self.agents else ""

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.state == "running"

    @property
    def healthy(self) -> bool:
        """Whether it runs and its health check, where it has one, passes."""
        return self.state == "running" and self.health in ("", "healthy", "none")

    @property
    def failed(self) -> bool:
        """Whether it is unhealthy or has ended.

        An agent that ended has failed only with an error, and so has a Swarm task, which may have
        moved. A container that still starts has not failed.
        """
        if self.state == "running":
            return self.health == "unhealthy"
        if self.state in ("created", "paused"):
            return False
        return self.exit_code != 0 or not (self.agents or self.swarm)

    def but(self, **changes: Any) -> Container:
        """Return a copy with these changes."""
        return replace(self, **changes)


@dataclass(slots=True)
class ContainerSample:
    """One container in one sample. Rates are per second; None: not known (yet).

    `cpu_percent` is of one core, `cpu_of_limit` and `memory_percent` of the limit,
    `throttled_percent` of the time since the sample before. `restarts` and `ooms` are totals; the
    other counts are those within the windows of `thresholds`.
    """

    container: Container
    usage: Usage | None = None
    cpu_percent: float | None = None
    cpu_of_limit: float | None = None
    throttled_percent: float | None = None
    memory_percent: float | None = None
    received_rate: float | None = None
    sent_rate: float | None = None
    read_rate: float | None = None
    written_rate: float | None = None
    restarts: int = 0
    ooms: int = 0
    restarts_hour: int = 0
    restarts_loop: int = 0
    ooms_recent: int = 0


class KernelLimit(NamedTuple):
    """A limit of the kernel: the number in use, and the maximum."""

    name: str
    used: int
    allowed: int

    @property
    def percent(self) -> float:
        """Use in percent of the limit."""
        return 100.0 * self.used / self.allowed if self.allowed else 0.0


@dataclass(slots=True)
class SystemSample:
    """The machine: percent of all cores, of memory, of each file system; rates in bytes per second.

    `pressure` maps (resource, "some" | "full") to percent of the last 10 s.
    """

    cores: int = 0
    cpu_percent: float | None = None
    iowait_percent: float | None = None
    memory_percent: float = 0.0
    memory_used: int = 0
    memory_total: int = 0
    swap_percent: float = 0.0
    load1: float = 0.0
    disks: dict[str, float] = field(default_factory=dict)
    received: int = 0
    sent: int = 0
    read: int = 0
    written: int = 0
    received_rate: float | None = None
    sent_rate: float | None = None
    read_rate: float | None = None
    written_rate: float | None = None
    pressure: dict[tuple[str, str], float] = field(default_factory=dict)
    limits: list[KernelLimit] = field(default_factory=list)
    # Forecast of the use of each file system in four hours, at the rate of the last hour.
    disks_predicted: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class FleetSample:
    """Numbers of agents: declared; running and healthy by Docker; seen by the gateway (heartbeat).

    `missing` are those declared and not healthy. On Swarm, where Docker lists only the agents of
    this node, it is those declared and not seen by the gateway. None: not known.
    """

    declared: int | None = None
    running: int = 0
    healthy: int = 0
    heartbeat: int | None = None
    missing: int = 0


@dataclass(slots=True)
class MonitorSample:
    """The monitor's own measurements."""

    sample_seconds: float = 0.0
    data_age: float = 0.0
    docker_up: bool = True
    streams_lost: int = 0
    samples: int = 0
    open_files: int = 0
    problem: str = ""
    # Containers that run and whose cgroups are not visible, and the reason.
    unseen: int = 0
    unseen_reason: str = ""


@dataclass(slots=True)
class Sample:
    """All measurements of one moment. `at` is Unix time, for display only."""

    at: float
    containers: list[ContainerSample]
    system: SystemSample | None
    fleet: FleetSample
    monitor: MonitorSample
    # Services that had containers within the last hour and have none now, unlike others.
    gone: tuple[str, ...] = ()


def in_project(own: Mapping[str, str], project: str) -> bool:
    """Whether a container with the labels `own` belongs to `project`.

    `project` is an APE project (`ape`), one of its stacks (`ape-dev`), a Compose project or a Swarm
    stack; an empty one takes every container.
    """
    if not project:
        return True
    ape = own.get(labels.PROJECT)
    return project in (
        ape,
        f"{ape}-{own.get(labels.STACK)}" if ape else None,
        own.get(COMPOSE_PROJECT),
        own.get(SWARM_NAMESPACE),
    )


def _project(own: Mapping[str, str]) -> str:
    if ape := own.get(labels.PROJECT):
        return f"{ape}-{own.get(labels.STACK)}"
    return own.get(COMPOSE_PROJECT) or own.get(SWARM_NAMESPACE) or ""


def _slot(env: Mapping[str, str]) -> str:
    if SLOT_ENV in env:
        return env[SLOT_ENV]
    try:
        told = json.loads(env.get(SETTINGS_ENV, "{}"))
        return str(told.get("slot", ""))
    except (ValueError, AttributeError):
        return ""


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _unix(text: str) -> float:
    """Return the Unix time of Docker's RFC 3339 with nanoseconds; 0 where it never started."""
    if not text or text.startswith("0001"):
        return 0.0
    # Python accepts at most six digits.
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()


def _names(engine_name: str, own: Mapping[str, str]) -> tuple[str, str]:
    """Return (service, stable name) of a container with the labels `own`."""
    service = own.get(labels.SERVICE) or own.get(COMPOSE_SERVICE) or own.get(SWARM_SERVICE) or ""
    name = engine_name.removeprefix("/")
    if task := own.get(SWARM_TASK_ID):
        name = name.removesuffix(f".{task}")
    if labels.PROJECT in own:
        name = name.removeprefix(f"{own[labels.PROJECT]}-{own.get(labels.STACK)}-")
    if own.get(COMPOSE_PROJECT):
        name = re.sub(rf"^{re.escape(own[COMPOSE_PROJECT])}[-_]", "", name)
    return service or name, name


def from_inspect(found: Mapping[str, Any]) -> Container:
    """Return the container that Docker's `GET /containers/ID/json` describes."""
    config, state = found.get("Config") or {}, found.get("State") or {}
    own: Mapping[str, str] = config.get("Labels") or {}
    env = dict(item.partition("=")[::2] for item in config.get("Env") or ())
    service, name = _names(found.get("Name") or found["Id"][:12], own)
    slot, agents = None, 0
    if service in labels.AGENT_SERVICES:
        agents = _number(own.get(labels.AGENTS)) or 1
        before, _, nth = _slot(env).rpartition("+")
        if (n := _number(nth)) is not None:
            slot = (_number(before) or 0) + (n - 1) * agents + 1
        elif number := re.search(r"[-_](\d+)$", name):
            slot = int(number[1])
        if slot is not None:
            name = f"agent-{slot:04d}"
    mode = str((found.get("HostConfig") or {}).get("NetworkMode") or "")
    network = found.get("NetworkSettings") or {}
    status = str(state.get("Status") or "")
    return Container(
        id=found["Id"],
        name=name,
        service=service,
        state=status,
        health=str((state.get("Health") or {}).get("Status") or ""),
        pid=int(state.get("Pid") or 0),
        started=_unix(str(state.get("StartedAt") or "")),
        exit_code=int(state.get("ExitCode") or 0) if status not in ("running", "created") else None,
        restarts=int(found.get("RestartCount") or 0),
        tier=own.get(labels.TIER, ""),
        slot=slot,
        agents=agents,
        networks=tuple(sorted(network.get("Networks") or ())),
        own_network=not mode.startswith(("host", "container:")),
        swarm=SWARM_TASK_ID in own,
        gateway_url=_published(network) if service == "gateway" else "",
        project=_project(own),
    )


def _published(network: Mapping[str, Any]) -> str:
    for bindings in (network.get("Ports") or {}).values():
        for binding in bindings or ():
            host = binding.get("HostIp") or "127.0.0.1"
            host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
            return f"http://{f'[{host}]' if ':' in host else host}:{binding['HostPort']}"
    return ""
