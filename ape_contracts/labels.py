"""Labels of the stack's containers, networks, volumes and services."""

from __future__ import annotations

PROJECT = "ape.project"
STACK = "ape.stack"
SERVICE = "ape.service"
TIER = "ape.tier"
# Number of agents in the container.
AGENTS = "ape.agents"
# Values of SERVICE for agents; an existing Compose file names them `llama_agent`.
AGENT_SERVICES = ("agent", "llama_agent")


def stack_filter(project: str, stack: str) -> dict[str, list[str]]:
    """Docker's list filter for everything that carries the labels of the stack."""
    return {"label": [f"{PROJECT}={project}", f"{STACK}={stack}"]}
