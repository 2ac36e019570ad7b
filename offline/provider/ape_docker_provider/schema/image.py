"""Properties of docker.Image and docker.RemoteImage."""

from __future__ import annotations

from ape_docker_provider.schema.property import (
    UNSUPPORTED,
    Resource,
    block,
    flag,
    listing,
    mapping,
    text,
    unordered,
)

IMAGE = Resource(
    "docker:index/image:Image",
    {
        "build": block(
            {
                "addHosts": listing(),
                "args": mapping(),
                "builderVersion": text(one_of=("BuilderV1", "BuilderBuildKit")),
                "cacheFrom": block({"images": listing()}),
                "context": text(),
                "contextDigest": text(),
                "dockerfile": text(),
                "network": text(),
                "platform": text(),
                "target": text(),
            }
        ),
        "buildOnPreview": flag(),
        "imageName": text(required=True),
        "registry": block({"password": text(), "server": text(), "username": text()}),
        "skipPush": flag(),
        "baseImageName": text(output=True),
        "context": text(output=True),
        "dockerfile": text(output=True),
        "platform": text(output=True),
        "registryServer": text(output=True),
        "repoDigest": text(output=True),
    },
    auto_name=False,
)

REMOTE_IMAGE = Resource(
    "docker:index/remoteImage:RemoteImage",
    {
        "build": block({}, unsupported="build with docker.Image; " + UNSUPPORTED),
        "forceRemove": flag(),
        "keepLocally": flag(),
        "name": text(required=True, replace=True),
        "platform": text(replace=True),
        "pullTriggers": unordered(replace=True),
        "triggers": mapping(replace=True),
        "imageId": text(output=True),
        "repoDigest": text(output=True),
    },
    auto_name=False,
)
