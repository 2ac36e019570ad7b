"""docker.Secret and docker.ServiceConfig: immutable Swarm objects."""

from __future__ import annotations

import base64
import binascii
import hashlib

from ape_docker_provider.daemon import (
    Daemon,
    DaemonError,
    ProviderError,
    labels_map,
    part,
    same_stack,
)
from ape_docker_provider.values import Data

SWARM_REMEDY = "Secrets, configs and services need a swarm: docker swarm init."


def content(inputs: Data, kind: str) -> bytes:
    """Return the bytes of a secret or a config. Raises ProviderError."""
    if "dataRaw" in inputs:
        return str(inputs["dataRaw"]).encode()
    try:
        return base64.b64decode(inputs["data"], validate=True)
    except binascii.Error as error:
        raise ProviderError(f"{kind} {inputs['name']}: data must be base64") from error


def create(daemon: Daemon, inputs: Data, kind: str) -> tuple[str, Data]:
    """Create it (`kind`: "secret" or "config"), or reuse the one that an interrupted run left."""
    data = content(inputs, kind)
    body = {
        "Name": inputs["name"],
        "Labels": labels_map(inputs.get("labels")),
        "Data": base64.b64encode(data).decode(),
    }
    try:
        made = daemon.call("POST", f"/{kind}s/create", body)
    except DaemonError as error:
        if "already exists" not in error.message and "conflicts" not in error.message:
            remedy = SWARM_REMEDY if error.status == 503 else ""
            raise DaemonError(error.message, error.status, remedy) from error
        found = leftover(daemon, inputs["name"], body["Labels"], kind, error)
        if hashlib.sha256(data).hexdigest()[:12] in inputs["name"]:
            return found["ID"], dict(inputs)
        daemon.call("DELETE", f"/{kind}s/{found['ID']}")
        made = daemon.call("POST", f"/{kind}s/create", body)
    return made["ID"], dict(inputs)


def leftover(
    daemon: Daemon, name: str, labels: dict[str, str], kind: str, error: DaemonError
) -> Data:
    """Return this stack's object of the same name. Raises DaemonError for another's."""
    found: Data | None = daemon.find(f"/{kind}s/{part(name)}")
    if found is None or not same_stack(labels, found["Spec"].get("Labels")):
        remedy = f"It was not made by this stack. Remove it (docker {kind} rm), or rename yours."
        raise DaemonError(error.message, error.status, remedy) from error
    return found


def read(daemon: Daemon, name: str, known: Data, kind: str) -> tuple[str, Data] | None:
    """Return id and state, or None where the object or the Swarm does not exist."""
    try:
        found = daemon.find(f"/{kind}s/{part(name)}")
    except DaemonError as error:
        if error.status == 503:
            return None
        raise
    if found is None:
        return None
    made = dict(known) | {"name": found["Spec"]["Name"]}
    if kind == "config" and not known:
        made["data"] = found["Spec"]["Data"]
    return found["ID"], made


def delete(daemon: Daemon, name: str, kind: str) -> None:
    """Remove it; an absent one is not an error. Wait while a removed service still uses it."""
    for attempt in range(20):
        try:
            daemon.call("DELETE", f"/{kind}s/{part(name)}")
            return
        except DaemonError as error:
            if error.status in (404, 503):
                return
            if "in use" not in error.message or attempt == 19:
                raise
        daemon.sleep(0.5)
