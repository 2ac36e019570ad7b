"""The demo target: a small shop for agents to use while there is no application of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from ape_infra.planning import plan as planning
from ape_infra.planning import services
from ape_infra.program.components.base import Component
from ape_infra.program.components.networks import TARGET, Networks
from ape_infra.program.workload import (
    SERVICE_PORT,
    Attachment,
    Logs,
    Port,
    Workload,
    service_health,
)

if TYPE_CHECKING:
    from ape_infra.program.runtimes import Runtime

NAME = services.TARGET


@dataclass(frozen=True)
class DemoTargetArgs:
    image: str
    port: int
    faults: bool
    logs: Logs


def workload(args: DemoTargetArgs) -> Workload:
    return Workload(
        name=NAME,
        service=NAME,
        image=args.image,
        memory_mb=planning.DEMO_TARGET_MEMORY_MB,
        cpus=1.0,
        logs=args.logs,
        env={"APE_DEMO_FAULTS": "1" if args.faults else "0"},
        networks=(Attachment(TARGET, (NAME,)),),
        ports=(Port(SERVICE_PORT, args.port),),
        health=service_health(),
    )


class DemoTarget(Component):
    """`ready` is what a dependant waits for."""

    def __init__(
        self,
        name: str,
        args: DemoTargetArgs,
        runtime: Runtime,
        networks: Networks,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ape:target:DemoTarget", name, opts)
        self.ready = runtime.run(workload(args), networks.by_name, opts=self.child_opts)
        self.register_outputs({})
