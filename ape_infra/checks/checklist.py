"""The checks before a scale, as data: the seed's list, run instead of read."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import docker
import requests

from ape_contracts import labels
from ape_infra.checks import kernel_limits
from ape_infra.checks.kernel_limits import Load
from ape_infra.checks.preflight import MIN_FREE_DISK_MB
from ape_infra.config.project import config_key
from ape_infra.config.settings import Settings
from ape_infra.planning.plan import SUBNET_PREFIX, Plan

State = Literal["ok", "warn", "fail", "unknown"]
TARGET_SECONDS = 5.0
TARGET_PROBES = 3
# The services that run beside the agents, with the containers that only carry files.
OTHER_CONTAINERS = 8
_UNITS = {"k": 1 / 1024, "m": 1.0, "g": 1024.0}


@dataclass(frozen=True)
class Item:
    """`mend`: what to do, where something is wrong."""

    name: str
    state: State
    saw: str
    mend: str = ""

    @property
    def text(self) -> str:
        return f"{self.name}: {self.saw}" + (f" {self.mend}" if self.mend else "")


@dataclass(frozen=True)
class Machine:
    """What there is, summed over the nodes of a Swarm."""

    memory_mb: int
    cpus: float
    nodes: int = 1
    disk_free_mb: int | None = None


def is_local(settings: Settings, client: docker.DockerClient) -> bool:
    """Whether the daemon is on this machine: only then can its files and cgroups be read."""
    return str(client.api.base_url).startswith(("http+docker://", "unix://")) and not (
        settings.platform.docker_host.startswith(("tcp://", "ssh://"))
    )


def machine(settings: Settings, client: docker.DockerClient) -> Machine:
    """Ask the daemon."""
    info: Mapping[str, Any] = client.info()
    free = None
    if is_local(settings, client):
        try:
            free = shutil.disk_usage(info.get("DockerRootDir", "/")).free // 2**20
        except OSError:
            free = None
    if settings.platform.runtime == "swarm" and info.get("Swarm", {}).get("ControlAvailable"):
        ready = [
            node["Description"]["Resources"]
            for node in client.api.nodes()
            if node["Status"]["State"] == "ready" and node["Spec"]["Availability"] == "active"
        ]
        return Machine(
            sum(r["MemoryBytes"] for r in ready) // 2**20,
            sum(r["NanoCPUs"] for r in ready) / 1e9,
            len(ready),
            free,
        )
    return Machine(info["MemTotal"] // 2**20, float(info["NCPU"]), 1, free)


def containers(plan: Plan) -> int:
    """Containers of a plan, of agents and beside them."""
    return sum(shard.size for shard in plan.shards) + OTHER_CONTAINERS


def load(plan: Plan, there: Machine, *, swarm: bool) -> Load:
    """What the plan puts on one machine of so many."""
    nodes = max(1, there.nodes)
    agents = -(-sum(shard.size for shard in plan.shards) // nodes)
    biggest = max(shard.size for shard in plan.shards)
    return Load(-(-plan.agents // nodes), agents + OTHER_CONTAINERS, biggest + 2, swarm)


def _size(text: str) -> float:
    """MiB of Docker's "10m"."""
    return float(text[:-1]) * _UNITS[text[-1]]


def resources(settings: Settings, plan: Plan, there: Machine) -> Iterable[Item]:
    """Memory, CPU and disk: what the plan may take against what there is."""
    strict = settings.platform.production and not settings.platform.allow_overcommit
    short: State = "fail" if strict else "warn"
    where = "the machine has" if there.nodes == 1 else f"the {there.nodes} nodes have"
    for name, need, have, unit in (
        ("memory", plan.resources.memory_mb, there.memory_mb, "MB"),
        ("cpu", plan.resources.cpus, there.cpus, "cores"),
    ):
        enough = need <= have
        yield Item(
            name,
            "ok" if enough else short,
            f"{need:g} {unit} may be taken, {where} {have:g}.",
            ""
            if enough
            else f"{need - have:g} {unit} are missing: fewer agents, a larger machine, or "
            f"{config_key('allowOvercommit')}.",
        )
    logs = (
        _size(settings.platform.log_max_size) * settings.platform.log_max_files * containers(plan)
    )
    if settings.platform.log_compress:
        # Rotated logs are compressed about tenfold; the one being written is not.
        logs = (
            _size(settings.platform.log_max_size)
            * containers(plan)
            * (1 + settings.platform.log_max_files / 10)
        )
    if there.disk_free_mb is None:
        yield Item("disk", "unknown", "the daemon's disk cannot be seen from here.")
    elif there.disk_free_mb < MIN_FREE_DISK_MB:
        yield Item(
            "disk",
            "fail",
            f"{there.disk_free_mb} MB are free, {MIN_FREE_DISK_MB} MB are needed.",
            "Free some: `docker system df` shows what Docker holds.",
        )
    elif there.disk_free_mb < MIN_FREE_DISK_MB + logs:
        yield Item(
            "disk",
            "warn",
            f"{there.disk_free_mb} MB are free; logs at their full size take {logs:.0f} MB.",
            f"Lower {config_key('logMaxSize')} or {config_key('logMaxFiles')}.",
        )
    else:
        yield Item("disk", "ok", f"{there.disk_free_mb} MB are free, logs take {logs:.0f} at most.")


def limits(settings: Settings, values: Mapping[str, int], asked: Load) -> Iterable[Item]:
    """Kernel limits that the fleet would hit."""
    found = kernel_limits.findings(values, asked)
    for finding in found:
        state: State = "fail" if settings.platform.production else "warn"
        saw = f"{finding.value}, {finding.need} are needed: {finding.why}."
        yield Item(finding.name, state, saw, finding.mend)
    if not found:
        yield Item("kernel limits", "ok", f"{asked.containers} containers a machine fit.")


def pools(settings: Settings, stack: str, client: docker.DockerClient) -> Item:
    """Whether another network has addresses of this stack's pool."""
    import ipaddress

    pool = ipaddress.ip_network(settings.platform.network_pool)
    taken = []
    for network in client.api.networks():
        if (network.get("Labels") or {}).get(labels.STACK) == stack:
            continue
        for config in (network.get("IPAM") or {}).get("Config") or []:
            subnet = ipaddress.ip_network(config.get("Subnet", "0.0.0.0/32"), strict=False)
            if subnet.version == pool.version and subnet.overlaps(pool):
                taken.append(f"{network['Name']} ({subnet})")
    if taken:
        return Item(
            "addresses",
            "warn",
            f"{settings.platform.network_pool} is used by {', '.join(sorted(taken)[:3])}.",
            f"Give this stack another {config_key('networkPool')}.",
        )
    room = 2 ** max(0, SUBNET_PREFIX - pool.prefixlen)
    return Item(
        "addresses", "ok", f"{settings.platform.network_pool} has room for {room} networks."
    )


def target(url: str | None, name: str) -> Item:
    """Whether the target answers, and how fast: the median of three requests."""
    if url is None:
        return Item("target", "unknown", f"{name} is reached inside the stack only.")
    times = []
    for _ in range(TARGET_PROBES):
        begun = time.monotonic()
        try:
            answer = requests.get(url, timeout=TARGET_SECONDS, stream=True)
            answer.close()
        except requests.RequestException as error:
            why = type(error).__name__
            return Item(
                "target", "fail", f"{url} does not answer ({why}).", "Start it, or correct its URL."
            )
        times.append(time.monotonic() - begun)
    middle = 1000 * statistics.median(times)
    if answer.status_code >= 500:
        saw = f"{url} answers {answer.status_code} after {middle:.0f} ms."
        return Item("target", "fail", saw, "Mend it before it is put under load.")
    return Item("target", "ok", f"{url} answers {answer.status_code} after {middle:.0f} ms.")


def monitoring(settings: Settings, endpoints: Mapping[str, tuple[str, bool]]) -> Item:
    """Whether somebody watches."""
    if settings.observability.mode == "off":
        return Item(
            "monitoring",
            "warn",
            f"{config_key('observability')} is off.",
            "Set it to metrics: without it nobody sees how the test went.",
        )
    where, up = endpoints.get("prometheus", ("", False))
    if up:
        return Item("monitoring", "ok", f"Prometheus is up at {where}.")
    return Item("monitoring", "warn", "Prometheus is not up.", "See `ape-load status`.")


def way_back(now: int, history: Collection[Mapping[str, Any]]) -> Item:
    """Whether there is a state to return to."""
    if not now:
        return Item("way back", "warn", "the stack is not up.", "Begin with `ape-load up`.")
    last = next((h for h in history if h.get("kind") in ("update", "destroy")), None)
    if last is not None and last.get("result") != "succeeded":
        return Item(
            "way back",
            "warn",
            f"the last update {last.get('result')}.",
            "`ape-load up` brings the stack to its config.",
        )
    return Item("way back", "ok", f"{now} agents are applied, and the config says so.")
