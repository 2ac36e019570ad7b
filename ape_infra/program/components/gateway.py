"""The MCP gateway: the agents' only way to the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from ape_infra.planning import plan as planning
from ape_infra.planning import services
from ape_infra.program.components.base import Component
from ape_infra.program.components.networks import EDGE, TARGET, Networks
from ape_infra.program.workload import (
    SERVICE_PORT,
    Attachment,
    File,
    Logs,
    Port,
    Workload,
    service_health,
)

if TYPE_CHECKING:
    from ape_infra.program.runtimes import Runtime

NAME = services.GATEWAY
MIN_IN_FLIGHT = 256
URL = f"http://{NAME}:{SERVICE_PORT}"


@dataclass(frozen=True)
class GatewayArgs:
    image: str
    config: str
    port: int
    plan: planning.Plan
    logs: Logs


def workload(args: GatewayArgs) -> Workload:
    # The config may carry the credentials of the target, so it is treated as a secret.
    config = File("gateway.json", args.config, secret=True)
    pools = args.plan.pools
    return Workload(
        name=NAME,
        service=NAME,
        image=args.image,
        memory_mb=planning.GATEWAY_MEMORY_MB,
        cpus=planning.SERVICE_CPUS / 3,
        logs=args.logs,
        env={
            "APE_GATEWAY_CONFIG": config.path,
            "APE_POOL_CONNECTIONS": str(pools.connections),
            "APE_POOL_MAXSIZE": str(pools.maxsize),
            "APE_KEEPALIVE_CONNECTIONS": str(pools.keepalive),
            "APE_KEEPALIVE_SECONDS": "5",
            "APE_REQUEST_TIMEOUT_SECONDS": "30",
            # Each agent of the tier may have a request under way: what waits here would hide how
            # the target behaves.
            "APE_MAX_IN_FLIGHT": str(max(MIN_IN_FLIGHT, args.plan.tier.max_agents)),
        },
        files=(config,),
        networks=(
            Attachment(EDGE, (NAME,)),
            Attachment(TARGET),
            *(Attachment(shard, (NAME,)) for shard in args.plan.networks),
        ),
        ports=(Port(SERVICE_PORT, args.port),),
        health=service_health(),
        # A connection to each agent, one to the target for each request under way, and room.
        nofile=16384,
    )


class Gateway(Component):
    """`ready` is what a dependant waits for."""

    def __init__(
        self,
        name: str,
        args: GatewayArgs,
        runtime: Runtime,
        networks: Networks,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ape:gateway:Gateway", name, opts)
        self.ready = runtime.run(workload(args), networks.by_name, opts=self.child_opts)
        self.register_outputs({})
