"""Labels of the stack's containers, networks, volumes and services."""

from __future__ import annotations

PROJECT = "ape.project"
STACK = "ape.stack"
SERVICE = "ape.service"
TIER = "ape.tier"
# The number of agents in the container.
AGENTS = "ape.agents"


def stack_filter(project: str, stack: str) -> dict[str, list[str]]:
    """Docker's list filter for everything that carries the labels of the stack."""
    return {"label": [f"{PROJECT}={project}", f"{STACK}={stack}"]}
