"""The checks of each command, and how they run: all of them, or as a precondition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import docker

from ape_infra.checks import (
    daemon,
    images,
    kernel_limits,
    machine,
    model,
    network,
    running_stack,
    target,
)
from ape_infra.checks.check import Check, failed
from ape_infra.checks.connection import PreflightError, connect
from ape_infra.checks.facts import Facts
from ape_infra.config.settings import Settings

__all__ = [
    "BEFORE_SCALE",
    "BEFORE_UPDATE",
    "VALIDATE",
    "CheckFunction",
    "PreflightError",
    "check",
    "connect",
    "run",
]

CheckFunction = Callable[[Facts], Iterable[Check]]
_BEFORE_CHANGE: tuple[CheckFunction, ...] = (
    daemon.swarm,
    daemon.nodes,
    daemon.limits,
    daemon.names,
    daemon.isolation,
    machine.disk,
    network.ports,
    images.available,
    machine.memory,
    machine.cpu,
)
# `up`, `restore`, `rollout`, and the Pulumi program before an update.
BEFORE_UPDATE: tuple[CheckFunction, ...] = (model.before_update, *_BEFORE_CHANGE)
# `plan` and `scale`.
BEFORE_SCALE: tuple[CheckFunction, ...] = (
    machine.memory,
    machine.cpu,
    machine.disk,
    kernel_limits.fleet,
    daemon.processes,
    daemon.names,
    network.address_pool,
    target.answers,
    running_stack.monitoring,
    running_stack.rollback,
)
# `validate`, after its checks of the settings. The first three need no daemon.
VALIDATE: tuple[CheckFunction, ...] = (
    target.answers,
    model.answers,
    model.completes,
    *_BEFORE_CHANGE,
)


def run(checks: Iterable[CheckFunction], facts: Facts) -> Iterator[Check]:
    """Run the checks in their order, as far as a daemon answers those that need one."""
    try:
        for check in checks:
            yield from check(facts)
    except PreflightError as error:
        yield from error.checks


def check(
    settings: Settings,
    project: str,
    stack: str,
    *,
    api_key: str,
    on_warning: Callable[[str], None],
) -> docker.DockerClient:
    """Run the checks before an update, and return the client that they used.

    Raises PreflightError with every failed check; `on_warning` gets the text of each warning.
    """
    facts = Facts(settings, project, stack, api_key=api_key)
    found = list(run(BEFORE_UPDATE, facts))
    for warning in found:
        if warning.status == "warn":
            on_warning(warning.text)
    if failures := failed(found):
        raise PreflightError(failures)
    return facts.client
