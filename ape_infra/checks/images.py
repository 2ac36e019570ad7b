"""Checks of the images that the stack does not build."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import requests
from docker.errors import DockerException

from ape_infra.checks.check import Check
from ape_infra.checks.facts import Facts
from ape_infra.config.project import config_key


def available(facts: Facts) -> Iterator[Check]:
    """Each image of an observability part must be on the daemon or in its registry."""
    images = facts.settings.part_images
    reasons = {name: _pull_error(facts.client, image) for name, image in images.items()}
    for name, reason in reasons.items():
        if reason:
            part = name.removesuffix("Image")
            rest = ", ".join(p for p in facts.settings.observability.parts if p != part)
            yield Check(
                "images",
                "fail",
                f"{images[name]} is not on this machine and cannot be pulled ({reason}).",
                f"Load it (`docker load`), set another image, or leave {part} out: set "
                f"{config_key('observabilityParts')} to {rest}. `offline/images.sh full` makes "
                "stand-ins of Alertmanager and Loki.",
                path=config_key(name),
            )
    if not any(reasons.values()):
        yield Check("images", "ok", f"{len(images)} images of other projects are available.")


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
