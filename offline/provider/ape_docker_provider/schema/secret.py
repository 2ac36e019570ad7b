"""Properties of docker.Secret and docker.ServiceConfig."""

from __future__ import annotations

from ape_docker_provider.schema.property import (
    LABEL,
    Resource,
    text,
    unordered,
)

SECRET = Resource(
    "docker:index/secret:Secret",
    {
        "data": text(required=True, replace=True, sensitive=True),
        "labels": unordered(LABEL, replace=True),
        "name": text(required=True, replace=True),
    },
)

SERVICE_CONFIG = Resource(
    "docker:index/serviceConfig:ServiceConfig",
    {
        "data": text(replace=True, sensitive=True),
        "dataRaw": text(replace=True, sensitive=True),
        "labels": unordered(LABEL, replace=True),
        "name": text(required=True, replace=True),
    },
)
