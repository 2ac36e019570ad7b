"""docker.Volume."""

from __future__ import annotations

import time

from ape_docker_provider.daemon import (
    Daemon,
    DaemonError,
    labels_list,
    labels_map,
    part,
    same_stack,
)
from ape_docker_provider.values import Data

IN_USE_SECONDS = 30.0


def state(found: Data) -> Data:
    """Return the state of a volume."""
    return {
        "name": found["Name"],
        "labels": labels_list(found.get("Labels")),
        "driver": found["Driver"],
        "driverOpts": found.get("Options") or {},
        "mountpoint": found["Mountpoint"],
    }


def create(daemon: Daemon, inputs: Data) -> tuple[str, Data]:
    """Create the volume, or reuse this stack's volume of the same name. Raises DaemonError."""
    labels = labels_map(inputs.get("labels"))
    body = {
        "Name": inputs["name"],
        "Driver": inputs.get("driver") or "",
        "DriverOpts": inputs.get("driverOpts") or {},
        "Labels": labels,
    }
    if labels.get("ape.stack"):
        found = daemon.find(f"/volumes/{part(inputs['name'])}")
        if found is not None and not same_stack(labels, found.get("Labels")):
            raise DaemonError(
                f"a volume with name {inputs['name']} already exists",
                409,
                "It was not made by this stack. Remove it (docker volume rm), or import it.",
            )
    made = daemon.call("POST", "/volumes/create", body)
    return made["Name"], state(made)


def read(daemon: Daemon, name: str) -> tuple[str, Data] | None:
    """Return id and state, or None where it does not exist."""
    found = daemon.find(f"/volumes/{part(name)}")
    return (found["Name"], state(found)) if found else None


def delete(daemon: Daemon, name: str) -> None:
    """Remove the volume; wait while a container that is being removed still uses it."""
    end = time.monotonic() + IN_USE_SECONDS
    while True:
        try:
            daemon.call("DELETE", f"/volumes/{part(name)}", params={"force": "1"})
            return
        except DaemonError as error:
            if error.status == 404:
                return
            if "in use" not in error.message or time.monotonic() > end:
                raise
        daemon.sleep(0.5)
