"""The docker plugin's provider.

Not the class of pulumi_docker, whose import takes as long as the plugin's start. The provider is
registered first: the engine starts the plugin while the rest of the program is imported.
"""

from __future__ import annotations

import os
from importlib.metadata import version

import pulumi

PLUGIN_VERSION = version("pulumi-docker")


def docker_provider(
    host: str, opts: pulumi.ResourceOptions | None = None
) -> pulumi.ProviderResource:
    """Of the daemon at `host`; empty: DOCKER_HOST, or the local socket."""
    where = host or os.environ.get("DOCKER_HOST", "")
    return pulumi.ProviderResource(
        "docker",
        "docker",
        {"host": where} if where else {},
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(version=PLUGIN_VERSION)),
    )
