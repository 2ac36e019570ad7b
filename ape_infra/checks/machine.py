"""Checks of memory, CPU and disk: the plan against the machine, or the nodes of a Swarm."""

from __future__ import annotations

from collections.abc import Iterator

from ape_infra.checks.check import Check
from ape_infra.checks.facts import Facts
from ape_infra.config.platform import PlatformSettings
from ape_infra.config.project import config_key

# Images of the services, the stand-ins, and the logs and metrics of one day.
MIN_FREE_DISK_MB = 2048
# Rotated logs shrink about tenfold; the file being written is not compressed.
COMPRESSION = 10
_MB = {"k": 1 / 1024, "m": 1.0, "g": 1024.0}


def memory(facts: Facts) -> Iterator[Check]:
    need, have = facts.plan.resources.memory_mb, facts.machine.memory_mb
    yield _capacity(facts, "memory", need, have, "MB of memory")


def cpu(facts: Facts) -> Iterator[Check]:
    need, have = facts.plan.resources.cpus, facts.machine.cpus
    yield _capacity(facts, "cpu", need, have, "cores")


def _capacity(facts: Facts, name: str, need: float, have: float, unit: str) -> Check:
    nodes = facts.machine.nodes
    owner = "the machine has" if nodes == 1 else f"the {nodes} nodes have"
    observed = (
        f"{facts.plan.agents} agents and the services may use {need:.10g} {unit}; "
        f"{owner} {have:.10g}."
    )
    if need <= have:
        return Check(name, "ok", observed, path=config_key("agents"))
    allowed = facts.settings.platform.allow_overcommit
    return Check(
        name,
        "warn" if allowed else facts.strict,
        observed,
        f"{need - have:.10g} are missing: set fewer agents, use a larger machine, or set "
        f"{config_key('allowOvercommit')} to true.",
        path=config_key("agents"),
    )


def log_mb(platform: PlatformSettings, containers: int) -> float:
    """MiB of the logs of `containers` when all have their full size."""
    size = float(platform.log_max_size[:-1]) * _MB[platform.log_max_size[-1]]
    files = platform.log_max_files
    return containers * size * (1 + files / COMPRESSION if platform.log_compress else files)


def disk(facts: Facts) -> Iterator[Check]:
    free = facts.machine.disk_free_mb
    if free is None:
        yield Check("disk", "unknown", "the daemon's disk is not visible from this host.")
        return
    logs = log_mb(facts.settings.platform, facts.plan.all_containers)
    observed = f"{free} MB are free at {facts.disk_root}"
    if free < MIN_FREE_DISK_MB:
        yield Check(
            "disk",
            "fail",
            f"{observed}, and an update needs {MIN_FREE_DISK_MB} MB.",
            "Free some disk space: `docker system df` shows what Docker uses.",
        )
    elif free < MIN_FREE_DISK_MB + logs:
        yield Check(
            "disk",
            "warn",
            f"{observed}; logs at their full size use {logs:.0f} MB.",
            f"Lower {config_key('logMaxSize')} or {config_key('logMaxFiles')}.",
        )
    else:
        yield Check("disk", "ok", f"{observed}; logs use at most {logs:.0f} MB.")
