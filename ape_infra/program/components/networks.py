"""The stack's networks: one to the outside, one to the target, one per shard of agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi

from ape_infra.planning import plan as planning
from ape_infra.program.components.base import Component

if TYPE_CHECKING:
    from ape_infra.program.runtimes import Network, Runtime

EDGE = "edge"
TARGET = "target"


class Networks(Component):
    """`by_name` holds every network by its short name.

    Agents live on internal networks, from which no route leads out: they reach the gateway and
    the proxy there, and nothing else.
    """

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        plan: planning.Plan,
        *,
        pool: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ape:network:Networks", name, opts)
        self.by_name: dict[str, Network] = {}
        outside = ((EDGE, False), (TARGET, False))
        inside = tuple((shard, True) for shard in plan.networks)
        for index, (short, internal) in enumerate(outside + inside):
            subnet, gateway = planning.subnet(pool, index)
            self.by_name[short] = runtime.network(
                short,
                subnet=subnet,
                gateway=gateway,
                internal=internal,
                opts=self.child_opts,
            )
        self.register_outputs({})
