"""The docker plugin's provider.

Not the class of pulumi_docker, whose import takes as long as the plugin's start. The provider is
registered first: the engine starts the plugin while the rest of the program is imported.
"""

from __future__ import annotations

import json
from importlib.metadata import version

import pulumi

from ape_contracts import docker_endpoint

PLUGIN_VERSION = version("pulumi-docker")


def config(host: str) -> dict[str, str]:
    """Return the inputs of the provider; none for the local socket."""
    endpoint = docker_endpoint.resolve(host)
    given = {"host": endpoint.host, "certPath": endpoint.certificates}
    return {key: value for key, value in given.items() if value}


def docker_provider(
    host: str, opts: pulumi.ResourceOptions | None = None, *, registry: str = ""
) -> pulumi.ProviderResource:
    """Of the daemon at `host`; empty: the one that the docker command would use.

    `registry`: one whose credentials the plugin reads from `docker login`. It sends them with each
    service, so that every node pulls with them; none of them is in the state.
    """
    given = config(host)
    if registry:
        # Nested values of a provider's config are JSON.
        given["registryAuth"] = json.dumps([{"address": registry.partition("/")[0]}])
    return pulumi.ProviderResource(
        "docker",
        "docker",
        given,
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(version=PLUGIN_VERSION)),
    )
