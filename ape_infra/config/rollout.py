"""Settings of updates: how many containers change at a time, and how they are watched."""

from __future__ import annotations

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from ape_infra.config.group import Group


class RolloutSettings(Group):
    model_config = ConfigDict(alias_generator=lambda name: to_camel(f"update_{name}"))

    parallelism: int = Field(
        10,
        ge=1,
        le=100,
        description="Containers of agents that start or change at the same time, at most.",
    )
    delay_seconds: int = Field(
        3, ge=0, le=59, description="Seconds between two batches of an update (swarm)."
    )
    monitor_seconds: int = Field(
        15, ge=1, le=59, description="Seconds for which a changed agent is watched (swarm)."
    )
    rollback: bool = Field(True, description="Roll a failed update back (swarm); false: pause it.")
