"""docker.RemoteImage: an image of this machine, pulled where it is missing."""

from __future__ import annotations

from ape_docker_provider.daemon import Daemon, DaemonError, part
from ape_docker_provider.image import ensure_image
from ape_docker_provider.values import Data


def state(found: Data, known: Data) -> tuple[str, Data]:
    """Return the id (image id and name, as upstream) and the state."""
    digests = found.get("RepoDigests") or []
    made = dict(known) | {"imageId": found["Id"], "repoDigest": digests[0] if digests else ""}
    return found["Id"] + known["name"], made


def create(daemon: Daemon, inputs: Data) -> tuple[str, Data]:
    """Find the image on this machine, or pull it."""
    return state(ensure_image(daemon, inputs["name"], inputs.get("platform") or ""), inputs)


def read(daemon: Daemon, known: Data) -> tuple[str, Data] | None:
    """Return id and state, or None where it does not exist."""
    found = daemon.find(f"/images/{part(known['name'])}/json") if known.get("name") else None
    return state(found, known) if found else None


def delete(daemon: Daemon, known: Data) -> None:
    """Remove the image, unless keepLocally."""
    if known.get("keepLocally"):
        return
    try:
        params = {"force": "1" if known.get("forceRemove") else "0"}
        daemon.call("DELETE", f"/images/{part(known['name'])}", params=params)
    except DaemonError as error:
        if error.status != 404:
            raise DaemonError(
                error.message,
                error.status,
                "Set keepLocally, or remove the containers that use it.",
            ) from error
