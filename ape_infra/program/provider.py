"""The docker plugin's provider.

Not the class of pulumi_docker, whose import takes as long as the plugin's start. The provider is
registered first: the engine starts the plugin while the rest of the program is imported.
"""

from __future__ import annotations

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
    host: str, opts: pulumi.ResourceOptions | None = None
) -> pulumi.ProviderResource:
    """Of the daemon at `host`; empty: the one that the docker command would use."""
    return pulumi.ProviderResource(
        "docker",
        "docker",
        config(host),
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(version=PLUGIN_VERSION)),
    )
