"""Names of services and containers: which of them the options of `ape-load logs` select."""

from __future__ import annotations

import re
from typing import Any

from ape_contracts import labels
from ape_contracts.suggestions import did_you_mean
from ape_infra.cli.common import NotRunning, PreconditionFailed
from ape_infra.config.project import current
from ape_infra.planning.plan import CONTAINERS_PER_NETWORK, Plan
from ape_infra.program.components.agents import SERVICE as AGENT

# Other names of the services that --service takes.
ALIASES = {
    "llama_agent": AGENT,
    "agents": AGENT,
    "mcp_gateway": "gateway",
    "cerebras_proxy": "proxy",
    "demo": "target",
    "shop": "target",
}


def container_pattern(agent: int, plan: Plan) -> re.Pattern[str]:
    """Finds the name of the container that runs the agent, on either runtime.

    ape-dev-agent-0017, or ape-dev-agents-00.17.ID on Swarm; the last container of a dense fleet
    may be ape-dev-agents-00-rest.1.ID.
    """
    each = plan.agents_per_container
    number = (agent - 1) // each
    shard, task = divmod(number, CONTAINERS_PER_NETWORK)
    of_shard = f"-agents-{shard:02d}"
    rest = plan.agents % each and number == plan.agents // each
    on_swarm = rf"{of_shard}-rest\.1\." if rest else rf"{of_shard}\.{task + 1}\."
    return re.compile(rf"-agent-{number * each + 1:04d}$|{on_swarm}")


def short(name: str, stack: str) -> str:
    """The name without project and stack, and without the id of a Swarm task."""
    plain = name.lstrip("/").removeprefix(f"{current().name}-{stack}-")
    return re.sub(r"\.[0-9a-z]{25}$", "", plain)


def chosen(
    found: list[dict[str, Any]], stack: str, plan: Plan, service: str | None, agent: int | None
) -> dict[str, str]:
    """Id -> short name of the selected containers. Raises PreconditionFailed, NotRunning."""
    started = [c for c in found if c["State"] != "created"]
    services = {c["Labels"][labels.SERVICE] for c in started}
    if not started:
        raise NotRunning(
            f"Stack {stack} has no container. Start it with: ape-load up --stack {stack}"
        )
    if agent is not None:
        name = container_pattern(agent, plan)
        started = [c for c in started if name.search(c["Names"][0])]
        if not started:
            raise PreconditionFailed(
                f"--agent {agent}: this machine has no such agent. Run: ape-load status"
            )
    elif service is not None:
        wanted = ALIASES.get(service, service)
        if wanted not in services:
            names = ", ".join(sorted(services))
            raise PreconditionFailed(
                f"--service {service}: the stack has no such service."
                f"{did_you_mean(service, (*services, *ALIASES))} There are: {names}."
            )
        started = [c for c in started if c["Labels"][labels.SERVICE] == wanted]
    return {c["Id"]: short(c["Names"][0], stack) for c in started}
