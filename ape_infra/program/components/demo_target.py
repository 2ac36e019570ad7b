"""The demo target: a small shop for agents to use while there is no application of the user's."""

from __future__ import annotations

from ape_contracts.limits import LIMITS
from ape_contracts.service_settings import SERVICE_PORT, DemoTargetSettings
from ape_infra.config.ports import PortSettings
from ape_infra.planning import services
from ape_infra.program.components.base import Component
from ape_infra.program.components.deployment import Deployment
from ape_infra.program.components.networks import TARGET
from ape_infra.program.workload import Attachment, Port, Workload, service_health

NAME = services.TARGET


def workload(image: str, ports: PortSettings, *, faults: bool) -> Workload:
    """`faults`: the shop accepts requests that make it fail."""
    limits = LIMITS["demo_target"]
    return Workload(
        name=NAME,
        service=NAME,
        image=image,
        memory_mb=limits.memory_mb,
        cpus=limits.cpus,
        settings=DemoTargetSettings(faults=faults),
        networks=(Attachment(TARGET, (NAME,)),),
        ports=(Port(SERVICE_PORT, ports.target),),
        health=service_health(),
    )


class DemoTarget(Component):
    def __init__(self, name: str, deployment: Deployment, *, faults: bool) -> None:
        super().__init__("ape:target:DemoTarget", name, deployment.after_images("demo_target"))
        image = deployment.images.names["demo_target"]
        self.ready = deployment.runtime.run(
            workload(image, deployment.ports, faults=faults),
            deployment.networks.by_name,
            opts=self.child_opts,
        )
        self.register_outputs({})
