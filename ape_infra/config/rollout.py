"""Settings of rollouts: how many containers change at a time, and how long they are observed."""

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
        description="Maximum number of agent containers that start or change at the same time.",
    )
    delay_seconds: int = Field(
        3, ge=0, le=59, description="Delay in seconds between waves of an update (swarm)."
    )
    monitor_seconds: int = Field(
        15,
        ge=1,
        le=59,
        description="Time in seconds for which an updated agent is observed (swarm).",
    )
    rollback: bool = Field(True, description="Roll back a failed update (swarm); false: pause it.")
