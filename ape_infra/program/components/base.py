"""The one thing every component of ours does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pulumi

from ape_infra.program.workload import Workload

# Components know the runtimes as types only: `ape-load` takes names from here, and would pay 0.1 s
# for pulumi_docker.
if TYPE_CHECKING:
    from ape_infra.program.runtimes import Network, Runtime


class Component(pulumi.ComponentResource):
    """A component whose children wait for what the component waits for.

    Pulumi does not hand `depends_on` down to children by itself.
    """

    def __init__(self, token: str, name: str, opts: pulumi.ResourceOptions | None) -> None:
        super().__init__(token, name, None, opts)
        self.child_opts = pulumi.ResourceOptions(
            parent=self, depends_on=opts.depends_on if opts else None
        )

    def run_with_data(
        self, runtime: Runtime, data: str, workload: Workload, networks: dict[str, Network]
    ) -> Sequence[pulumi.Resource]:
        """Declare volume `data` and, after it, the workload that keeps its data there."""
        volume = runtime.volume(data, opts=self.child_opts)
        after = pulumi.ResourceOptions(depends_on=[volume])
        return runtime.run(
            workload, networks, opts=pulumi.ResourceOptions.merge(self.child_opts, after)
        )
