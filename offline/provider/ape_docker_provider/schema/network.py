"""Properties of docker.Network."""

from __future__ import annotations

from ape_docker_provider.schema.property import (
    LABEL,
    Resource,
    block,
    flag,
    mapping,
    replacing,
    text,
    unordered,
)

NETWORK = Resource(
    "docker:index/network:Network",
    replacing(
        {
            "attachable": flag(),
            "driver": text(computed=True),
            "ingress": flag(),
            "internal": flag(computed=True),
            "ipamConfigs": unordered(
                block(
                    replacing(
                        {
                            "auxAddress": mapping(),
                            "gateway": text(),
                            "ipRange": text(),
                            "subnet": text(),
                        }
                    )
                ),
                computed=True,
            ),
            "ipamDriver": text(default="default"),
            "ipamOptions": mapping(),
            "ipv6": flag(),
            "labels": unordered(LABEL),
            "name": text(required=True),
            "options": mapping(computed=True),
        }
    )
    | {"scope": text(output=True)},
)
