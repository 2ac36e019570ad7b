"""Properties of docker.Volume."""

from __future__ import annotations

from ape_docker_provider.schema.property import (
    LABEL,
    UNSUPPORTED,
    Resource,
    block,
    mapping,
    text,
    unordered,
)

VOLUME = Resource(
    "docker:index/volume:Volume",
    {
        "cluster": block({}, unsupported=UNSUPPORTED),
        "driver": text(computed=True, replace=True),
        "driverOpts": mapping(replace=True),
        "labels": unordered(LABEL, replace=True),
        "name": text(computed=True, replace=True),
        "mountpoint": text(output=True),
    },
)
