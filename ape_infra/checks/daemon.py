"""Checks of the Docker daemon."""

from __future__ import annotations

from collections.abc import Iterator

from ape_infra.checks.check import Check
from ape_infra.checks.facts import Facts
from ape_infra.config.project import config_key


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
