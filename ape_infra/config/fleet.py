"""Settings of the fleet: the number of agents, their limits, and the pace of their sessions."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from ape_infra.config.group import Group, Strict
from ape_infra.planning.tiers import DEFAULT_TIERS, MAX_AGENTS, Tier, tier_for

MAX_AGENTS_PER_CONTAINER = 100


class TierRow(Strict):
    min_agents: int = Field(ge=1)
    max_agents: int = Field(ge=1, le=MAX_AGENTS)
    # Docker refuses less than 6 MiB; the plugin reads less than 0.1 cores back as 0.1.
    memory_mb: int = Field(ge=6)
    cpus: float = Field(ge=0.1)


class FleetSettings(Group):
    agents: int = Field(5, ge=1, le=MAX_AGENTS, description="Number of agents, 1 to 2000.")
    sized_for: int = Field(
        0,
        ge=0,
        le=MAX_AGENTS,
        description="Size agents for this fleet now, so that growing to it replaces none; "
        "0: size them for agents.",
    )
    agents_per_container: int = Field(
        1,
        ge=1,
        le=MAX_AGENTS_PER_CONTAINER,
        description="Agents per container, 1 to 100; their limits are added up.",
    )
    tiers: list[TierRow] = Field(
        [],
        description="Limits of an agent by fleet size, as a list of minAgents, maxAgents, memoryMb "
        "and cpus; empty: the default table.",
    )
    persona: str = Field(
        "",
        max_length=2000,
        description="Description of the user that the agents play, for the model; empty: none.",
    )
    test_duration_seconds: int = Field(
        0, ge=0, description="Duration of the test in seconds; 0: until the stack is removed."
    )
    think_time_seconds: int = Field(
        1, ge=0, le=600, description="Pause of an agent between steps, in seconds."
    )
    ramp_seconds: int = Field(
        10, ge=0, le=86400, description="Seconds over which the agents' starts are spread evenly."
    )
    session_max_steps: int = Field(
        20,
        ge=1,
        le=1000,
        description="Maximum number of steps per session; a longer session fails.",
    )
    session_max_seconds: int = Field(
        300,
        ge=1,
        le=86400,
        description="Maximum duration of a session in seconds; a longer session fails.",
    )

    @property
    def size(self) -> int:
        """The number of agents that limits and networks are planned for."""
        return max(self.agents, self.sized_for)

    @property
    def tier_table(self) -> tuple[Tier, ...]:
        rows = tuple(Tier(t.min_agents, t.max_agents, t.memory_mb, t.cpus) for t in self.tiers)
        return rows or DEFAULT_TIERS

    def with_agents(self, agents: int) -> Self:
        """The same settings for another number of agents."""
        return self.model_copy(update={"agents": agents})

    def tier_of(self, agents: int) -> Tier:
        """The tier that a fleet of `agents` would have."""
        return tier_for(self.with_agents(agents).size, self.tier_table)
