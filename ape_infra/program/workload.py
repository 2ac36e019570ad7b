"""One engine-neutral description of a container workload, hardened by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pulumi

from ape_contracts.report_token import sign
from ape_contracts.service_settings import (
    VARIABLE,
    AgentSettings,
    ServiceSettings,
    Template,
    encode,
)

# The user of the services' images (USER in services/images/Dockerfile).
APE_USER = "10001:10001"
CONFIG_DIR = "/etc/ape"


@dataclass(frozen=True)
class PeerNames:
    """Options of the engine's DNS, with which only names of the container's networks are resolved.

    Names of peers are answered by the engine itself. Others go to `servers`, which means the
    container's own loopback, where nothing listens, and never the resolver of the host
    (docs/facts.md). `options`: a name without a dot is not forwarded at all, and fails at once;
    `searches`: none of the host's domains is added to it.
    """

    servers: tuple[str, ...] = ("127.0.0.1",)
    options: tuple[str, ...] = ("ndots:1",)
    searches: tuple[str, ...] = (".",)


PEER_NAMES = PeerNames()


@dataclass(frozen=True)
class File:
    """A file at CONFIG_DIR/`name`, readable to the container's user only through its mount.

    `secret` keeps the content encrypted in the state and, on Swarm, in a Swarm secret.
    """

    name: str
    content: pulumi.Input[str]
    secret: bool = False

    @property
    def path(self) -> str:
        return f"{CONFIG_DIR}/{self.name}"

    @property
    def label(self) -> str:
        """The name as a part of other names, which cannot contain a slash."""
        return self.name.replace("/", "-")


@dataclass(frozen=True)
class Health:
    """A health check; durations in whole seconds below 60 (longer ones read back otherwise)."""

    test: tuple[str, ...]
    interval: int
    timeout: int
    start_period: int
    retries: int


@dataclass(frozen=True)
class Port:
    internal: int
    external: int


@dataclass(frozen=True)
class Attachment:
    network: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slots:
    """Replicas `first` to `last` (inclusive, from 1), each of which knows its number.

    Number n is named after n, or with a `stride` after the first of the so many things in it.
    """

    first: int
    last: int
    stride: int = 1

    @property
    def count(self) -> int:
        return self.last - self.first + 1

    def label(self, number: int) -> str:
        return f"{(number - 1) * self.stride + 1:04d}"


@dataclass(frozen=True)
class Reports:
    """What signs the reports of a workload's replicas (ape_contracts.report_token).

    `first` to `last`: the agents of all the replicas that it may ever have, so that one more
    replica does not change the token that they share on Swarm.
    """

    key: str = field(repr=False)
    first: int
    last: int


@dataclass(frozen=True)
class Workload:
    """A service of one container, or, with `slots`, one container a slot.

    `memory_mb` is in MiB with no swap on top, `cpus` in cores, `stop_grace_seconds` the time
    between SIGTERM and SIGKILL. Root is read-only; `tmpfs` maps a path to its size in MiB.
    `read_only_volumes` are another workload's to write.
    `host_paths` maps paths of the host to where they are seen, read-only. `per_node`: one
    container on each node. Without networks it has none at all. `peers_only`: it resolves no names
    but those of its networks. `settings`: of a service that this project builds; each replica of
    a workload with slots has its own slot in them. `docker_host`: addresses.DOCKER_HOST leads to
    the Docker host, on the runtime docker only. `reports`: each replica can sign its reports.
    `host_cgroups`: it is in the cgroup namespace of the host, on the runtime docker only.
    """

    name: str
    service: str
    image: str
    memory_mb: int
    cpus: float
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    settings: ServiceSettings | None = None
    files: tuple[File, ...] = ()
    networks: tuple[Attachment, ...] = ()
    volumes: Mapping[str, str] = field(default_factory=dict)
    read_only_volumes: Mapping[str, str] = field(default_factory=dict)
    host_paths: Mapping[str, str] = field(default_factory=dict)
    tmpfs: Mapping[str, int] = field(default_factory=lambda: {"/tmp": 16})  # noqa: S108
    ports: tuple[Port, ...] = ()
    health: Health | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    slots: Slots | None = None
    per_node: bool = False
    peers_only: bool = False
    reports: Reports | None = None
    user: str = APE_USER
    restart_max_attempts: int = 5
    stop_grace_seconds: int = 15
    nofile: int = 4096
    docker_host: bool = False
    host_cgroups: bool = False


def own_report_token(workload: Workload, number: int) -> str:
    """The token of replica `number` alone; empty: it signs no reports."""
    if workload.reports is None:
        return ""
    slots = _settings(workload, number).slots
    return sign(workload.reports.key, slots.start, slots.stop - 1, len(slots))


def with_shared_report_token(workload: Workload) -> Workload:
    """The workload with a token of all its replicas among its files, if they sign reports."""
    if workload.reports is None:
        return workload
    reports, settings = workload.reports, _settings(workload, 1)
    token = sign(reports.key, reports.first, reports.last, settings.agents_here)
    file = File("report_token", token, secret=True)
    return replace(
        workload,
        files=(*workload.files, file),
        settings=replace(settings, report_token_file=file.path),
    )


def _settings(workload: Workload, number: int | str) -> AgentSettings:
    """The settings of a replica."""
    assert workload.slots is not None
    assert isinstance(workload.settings, AgentSettings)
    before = (workload.slots.first - 1) * workload.slots.stride
    return replace(workload.settings, slot=Template(f"{before}+{number}"))


def environment(workload: Workload, number: int | str = 1) -> dict[str, str]:
    """The variables of a container; of replica `number`, from 1, where the workload has slots.

    `number` may be a template of Swarm's. Settings are one variable: two would be in another order
    at each update of a Swarm's service, which would replace every replica (docs/facts.md).
    """
    settings = workload.settings
    if settings is None:
        return dict(workload.env)
    if workload.slots is not None:
        settings = _settings(workload, number)
    return {**workload.env, VARIABLE: encode(settings)}


def service_health(interval: int = 5) -> Health:
    """Health check of one of our services: it must answer its own /health."""
    return Health(
        test=("CMD", "python", "-m", "ape_service.healthcheck"),
        interval=interval,
        timeout=5,
        start_period=10,
        retries=5,
    )


def http_health(port: int, path: str) -> Health:
    """Health check of a third-party image that has wget, as those of busybox and Alpine do."""
    return Health(
        test=("CMD", "wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{port}{path}"),
        interval=5,
        timeout=5,
        start_period=30,
        retries=5,
    )
