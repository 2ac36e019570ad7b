"""The docker plugin's provider.

Not the class of pulumi_docker, whose import takes as long as the plugin's start. The provider is
registered first: the engine starts the plugin while the rest of the program is imported.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import version

import pulumi

PLUGIN_VERSION = version("pulumi-docker")


def docker_provider(
    host: str, opts: pulumi.ResourceOptions | None = None, *, registry: str = ""
) -> pulumi.ProviderResource:
    """Of the daemon at `host`; empty: DOCKER_HOST, or the local socket.

    `registry`: one whose credentials the plugin reads from `docker login`. It sends them with each
    service, so that every node pulls with them; none of them is in the state.
    """
    where = host or os.environ.get("DOCKER_HOST", "")
    config = {"host": where} if where else {}
    if registry:
        # Nested values of a provider's config are JSON.
        config["registryAuth"] = json.dumps([{"address": registry.partition("/")[0]}])
    return pulumi.ProviderResource(
        "docker",
        "docker",
        config,
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(version=PLUGIN_VERSION)),
    )
