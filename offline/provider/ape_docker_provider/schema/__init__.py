"""Properties of each resource: names, types, defaults, and the effect of a change.

Property names are those of the pulumi-docker 5.2.0 schema. `replace`, `default` and `computed` are
the ForceNew, Default and Computed flags of terraform-provider-docker at commit 5074970c
(internal/provider/resource_docker_*.go). As in Terraform, `replace` on a block means "a change in
the number of blocks"; the fields inside have flags of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

from ape_docker_provider.schema.container import CONTAINER
from ape_docker_provider.schema.image import IMAGE, REMOTE_IMAGE
from ape_docker_provider.schema.network import NETWORK
from ape_docker_provider.schema.property import (
    UNSUPPORTED,
    Kind,
    Prop,
    Resource,
    flag,
    listing,
    text,
)
from ape_docker_provider.schema.secret import SECRET, SERVICE_CONFIG
from ape_docker_provider.schema.service import SERVICE
from ape_docker_provider.schema.volume import VOLUME

__all__ = [
    "CONFIG",
    "CONTAINER",
    "IMAGE",
    "NETWORK",
    "REMOTE_IMAGE",
    "RESOURCES",
    "SECRET",
    "SERVICE",
    "SERVICE_CONFIG",
    "VOLUME",
    "Kind",
    "Prop",
    "Resource",
]

RESOURCES: Mapping[str, Resource] = {
    r.token: r
    for r in (
        NETWORK,
        VOLUME,
        CONTAINER,
        IMAGE,
        REMOTE_IMAGE,
        SERVICE,
        SECRET,
        SERVICE_CONFIG,
    )
}

CONFIG: Mapping[str, Prop] = {
    "caMaterial": text(unsupported=UNSUPPORTED),
    "certMaterial": text(unsupported=UNSUPPORTED),
    "certPath": text(),
    "context": text(unsupported=UNSUPPORTED),
    "disableDockerDaemonCheck": flag(),
    "host": text(),
    "keyMaterial": text(unsupported=UNSUPPORTED),
    "registryAuth": listing(),
    "sshOpts": listing(unsupported=UNSUPPORTED),
}
