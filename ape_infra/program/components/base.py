"""What the components have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import pulumi

from ape_infra.program.workload import Workload

# Components know the runtimes as types only: `ape-load` takes names from here, and would pay 0.1 s
# for pulumi_docker.
if TYPE_CHECKING:
    from ape_infra.program.components.deployment import Deployment


class Component(pulumi.ComponentResource):
    """A component whose children wait for what the component waits for.

    Pulumi does not hand `depends_on` down to children by itself. `ready` is what a dependant waits
    for.
    """

    ready: Sequence[pulumi.Resource] = ()

    def __init__(self, token: str, name: str, opts: pulumi.ResourceOptions | None) -> None:
        super().__init__(token, name, None, opts)
        self.child_opts = pulumi.ResourceOptions(
            parent=self, depends_on=opts.depends_on if opts else None
        )


class ServiceWithData(Component):
    """A workload that keeps its data in the volume `data`."""

    token: ClassVar[str]
    data: ClassVar[str]

    def __init__(
        self,
        name: str,
        deployment: Deployment,
        workload: Workload,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(self.token, name, opts or deployment.opts)
        volume = deployment.runtime.volume(self.data, opts=self.child_opts)
        after = pulumi.ResourceOptions(depends_on=[volume])
        self.ready = deployment.runtime.run(
            workload,
            deployment.networks.by_name,
            opts=pulumi.ResourceOptions.merge(self.child_opts, after),
        )
        self.register_outputs({})
