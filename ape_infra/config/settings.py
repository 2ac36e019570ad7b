"""All settings of a stack, in groups by who owns them.

Secrets are not part of the model. Pulumi stores them encrypted; only their names are passed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Self

from pydantic.fields import FieldInfo

from ape_infra.config.alerting import AlertingSettings
from ape_infra.config.fleet import FleetSettings
from ape_infra.config.group import Group, Strict
from ape_infra.config.images import ImageSettings
from ape_infra.config.model import ModelSettings
from ape_infra.config.observability import ObservabilitySettings
from ape_infra.config.platform import PlatformSettings
from ape_infra.config.ports import PortSettings
from ape_infra.config.rollout import RolloutSettings
from ape_infra.config.run import RunSettings
from ape_infra.config.target import TargetSettings
from ape_infra.planning.plan import Plan, make_plan


class Settings(Strict):
    """The settings in groups. The stack config has flat keys: see `declared_settings`."""

    fleet: FleetSettings = FleetSettings()
    target: TargetSettings = TargetSettings()
    model: ModelSettings = ModelSettings()
    run: RunSettings = RunSettings()
    rollout: RolloutSettings = RolloutSettings()
    ports: PortSettings = PortSettings()
    observability: ObservabilitySettings = ObservabilitySettings()
    alerting: AlertingSettings = AlertingSettings()
    images: ImageSettings = ImageSettings()
    platform: PlatformSettings = PlatformSettings()

    @property
    def agents_per_update(self) -> int | None:
        """The number of agents to add at a time, on a runtime that starts all new ones at once.

        None: the runtime starts them one by one, so that their number does not matter.
        """
        if self.platform.runtime == "docker":
            return None
        return self.rollout.parallelism * self.fleet.agents_per_container

    @property
    def part_images(self) -> dict[str, str]:
        """Setting -> image, of the components that are deployed."""
        return {f"{part}Image": getattr(self.images, part) for part in self.observability.parts}

    @property
    def part_ports(self) -> dict[str, int]:
        """Setting -> published port, of the components that are deployed. Alloy publishes none."""
        return {
            f"{part}Port": getattr(self.ports, part)
            for part in self.observability.parts
            if part != "alloy"
        }

    @property
    def published_ports(self) -> dict[str, int]:
        """Setting -> published port, of the whole stack."""
        found = {"gatewayPort": self.ports.gateway, "proxyPort": self.ports.proxy}
        if self.target.is_demo:
            found["targetPort"] = self.ports.target
        found |= self.part_ports
        if self.observability.monitored:
            found["monitorPort"] = self.ports.monitor
        return found

    def with_agents(self, agents: int) -> Self:
        """The same settings for another number of agents."""
        return self.model_copy(update={"fleet": self.fleet.with_agents(agents)})

    def plan(self, stack: str) -> Plan:
        return make_plan(
            self.fleet.agents,
            size=self.fleet.size,
            stack=stack,
            tiers=self.fleet.tier_table,
            observability=self.observability.mode,
            parts=self.observability.parts,
            demo_target=self.target.is_demo,
            agents_per_container=self.fleet.agents_per_container,
            monitor=self.observability.monitored,
        )


class DeclaredSetting(NamedTuple):
    """One setting: `key` is its flat name in the stack config."""

    key: str
    group: str
    model: type[Group]
    field: FieldInfo


def declared_settings() -> Iterator[DeclaredSetting]:
    """Every setting, in the order of the groups."""
    for group, holder in Settings.model_fields.items():
        model = holder.annotation
        assert isinstance(model, type)
        assert issubclass(model, Group)
        for field in model.model_fields.values():
            assert field.alias is not None
            yield DeclaredSetting(field.alias, group, model, field)
