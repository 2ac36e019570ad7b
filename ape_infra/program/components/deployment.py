"""What every service of a stack is declared with."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import pulumi

from ape_contracts.service_settings import ServiceSettings
from ape_infra.config.group import Group
from ape_infra.config.ports import PortSettings
from ape_infra.planning.plan import Plan

if TYPE_CHECKING:
    from ape_infra.program.components.images import Images
    from ape_infra.program.components.networks import Networks
    from ape_infra.program.runtimes import Runtime


@dataclass(frozen=True)
class Deployment:
    """The stack's plan, and what is declared before its services. `opts`: of every component."""

    plan: Plan
    ports: PortSettings
    runtime: Runtime
    images: Images
    networks: Networks
    opts: pulumi.ResourceOptions

    def after(self, *waits: pulumi.Resource) -> pulumi.ResourceOptions:
        """`opts` of a component that waits for `waits`."""
        return pulumi.ResourceOptions.merge(
            self.opts, pulumi.ResourceOptions(depends_on=list(waits))
        )

    def after_images(self, *services: str) -> pulumi.ResourceOptions:
        """`opts` of a component that runs the images of `services`."""
        return self.after(*(image for s in services for image in self.images.built(s)))


def shared(group: Group, kind: type[ServiceSettings]) -> dict[str, Any]:
    """The settings of `group` that a service's settings have too, by name."""
    common = {field.name for field in fields(kind)} & type(group).model_fields.keys()
    return {name: getattr(group, name) for name in sorted(common)}
