"""Checks of the images that the stack does not build."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import requests
from docker.errors import DockerException

from ape_infra.checks.check import Check
from ape_infra.checks.facts import Facts
from ape_infra.config.project import config_key
from ape_infra.planning.plan import Part

# The parts that offline/images.sh can make without a registry.
STAND_INS: frozenset[Part] = frozenset({"prometheus", "alertmanager", "victorialogs", "alloy"})


def available(facts: Facts) -> Iterator[Check]:
    """Each image of an observability part must be on the daemon or in its registry."""
    images = facts.settings.part_images
    reasons = {name: _pull_error(facts.client, image) for name, image in images.items()}
    for name, reason in reasons.items():
        if reason:
            yield Check(
                "images",
                "fail",
                f"{images[name]} is not on this machine and cannot be pulled ({reason}).",
                f"Load it (`docker load`), set another image, or {_instead(name, facts)}.",
                path=config_key(name),
            )
    if not any(reasons.values()):
        yield Check("images", "ok", f"{len(images)} images of other projects are available.")


def _instead(name: str, facts: Facts) -> str:
    """What a stack can do without the published image of a part."""
    part, selected = name.removesuffix("Image"), config_key("observabilityParts")
    if part in STAND_INS:
        return "run `offline/images.sh full`, which makes a stand-in"
    if part == "loki":
        return (
            f"set {config_key('logStore')} to victorialogs, which `offline/images.sh full` makes a "
            f"stand-in of. If {selected} is set, replace loki there"
        )
    rest = ", ".join(p for p in facts.settings.observability.parts if p != part)
    return f"leave {part} out: set {selected} to {rest}"


def _pull_error(client: docker.DockerClient, image: str) -> str | None:
    """The reason why the image is not available; None where it is."""
    try:
        client.images.get(image)
        return None
    except DockerException:
        pass
    try:
        client.images.get_registry_data(image)
    except (DockerException, requests.RequestException) as error:
        return str(getattr(error, "explanation", None) or error)
    return None
