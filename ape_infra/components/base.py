"""The one thing every component of ours does."""

from __future__ import annotations

import pulumi


class Component(pulumi.ComponentResource):
    """A component whose children wait for what the component waits for.

    Pulumi does not hand `depends_on` down to children by itself.
    """

    def __init__(self, token: str, name: str, opts: pulumi.ResourceOptions | None) -> None:
        super().__init__(token, name, None, opts)
        self.child_opts = pulumi.ResourceOptions(
            parent=self, depends_on=opts.depends_on if opts else None
        )
