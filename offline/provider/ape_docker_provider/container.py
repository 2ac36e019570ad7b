"""docker.Container: create, read, update, delete."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from ape_docker_provider import container_request, container_state
from ape_docker_provider.daemon import Daemon, DaemonError, ProviderError, part, same_stack
from ape_docker_provider.image import ensure_image
from ape_docker_provider.values import Data


class KnownContainers:
    """Containers that this run of the plugin created or read: never leftovers."""

    def __init__(self) -> None:
        self.ids: set[str] = set()


def create(daemon: Daemon, inputs: Data, known_containers: KnownContainers) -> tuple[str, Data]:
    """Create and start the container; remove it again where that fails."""
    container_id = create_container(daemon, inputs, known_containers)
    known_containers.ids.add(container_id)
    try:
        connect(daemon, container_id, inputs)
        upload(daemon, container_id, inputs)
        known = dict(inputs)
        if inputs.get("start", True):
            daemon.call("POST", f"/containers/{container_id}/start", timeout=600)
            if inputs.get("wait"):
                wait_healthy(daemon, container_id, inputs)
        if inputs.get("attach"):
            known |= follow(daemon, container_id, inputs)
        found = daemon.call("GET", f"/containers/{container_id}/json")
    except Exception as error:
        with contextlib.suppress(ProviderError):
            remove(daemon, container_id)
        if isinstance(error, DaemonError):
            raise with_remedy(error, inputs) from error
        raise
    return container_id, container_state.state(found, known)


def create_container(daemon: Daemon, inputs: Data, known_containers: KnownContainers) -> str:
    """Create the container; pull a missing image, remove a leftover of the same name."""
    body = container_request.request(inputs)
    params = {"name": inputs["name"]}
    if inputs.get("platform"):
        params["platform"] = inputs["platform"]
    for _ in range(3):
        try:
            made = daemon.call("POST", "/containers/create", body, params)
            return str(made["Id"])
        except DaemonError as error:
            if error.status == 404 and "image" in error.message.lower():
                ensure_image(daemon, inputs["image"], inputs.get("platform") or "")
            elif error.status == 409 and "in use" in error.message:
                remove_leftover(daemon, inputs, body.get("Labels") or {}, known_containers, error)
            else:
                raise with_remedy(error, inputs) from error
    raise ProviderError(f"container {inputs['name']}: three attempts to create it failed")


def remove_leftover(
    daemon: Daemon,
    inputs: Data,
    labels: dict[str, str],
    known_containers: KnownContainers,
    error: DaemonError,
) -> None:
    """Remove a container of the same name that an interrupted run of this stack left."""
    found = daemon.find(f"/containers/{part(inputs['name'])}/json")
    if found is None:
        return
    is_own = same_stack(labels, found["Config"].get("Labels"))
    if not is_own or found["Id"] in known_containers.ids:
        raise DaemonError(
            error.message,
            error.status,
            "Two resources of this program use that name. Give each a name of its own."
            if is_own
            else "It was not made by this stack. Remove it (docker rm -f) or import it.",
        ) from error
    stop(daemon, found["Id"], inputs.get("destroyGraceSeconds") or 0)
    remove(daemon, found["Id"])


def connect(daemon: Daemon, container_id: str, inputs: Data) -> None:
    """Connect the networks; disconnect the default bridge, as upstream does."""
    networks = inputs.get("networksAdvanced") or []
    if not networks:
        return
    try:
        body: Data = {"Container": container_id, "Force": False}
        daemon.call("POST", "/networks/bridge/disconnect", body)
    except DaemonError as error:
        if "is not connected to" not in error.message:
            raise
    for network in networks:
        body = {"Container": container_id, "EndpointConfig": container_request.endpoint(network)}
        daemon.call("POST", f"/networks/{part(network['name'])}/connect", body)


def upload(daemon: Daemon, container_id: str, inputs: Data) -> None:
    """Copy the uploaded files into the container."""
    for item in inputs.get("uploads") or []:
        archive = container_request.upload_archive(item, time.time())
        try:
            daemon.client.put_archive(container_id, "/", archive)
        except Exception as error:
            message = getattr(error, "explanation", None) or str(error)
            raise DaemonError(f"upload of {item['file']}: {message}", 500) from error


def wait_healthy(daemon: Daemon, container_id: str, inputs: Data) -> None:
    """Wait until the container is healthy. Raises ProviderError with the last check's output."""
    seconds = inputs.get("waitTimeout") or 60
    end = time.monotonic() + seconds
    while True:
        found = daemon.call("GET", f"/containers/{container_id}/json")
        health = found["State"].get("Health")
        if not health:
            raise ProviderError(
                f"container {inputs['name']}: wait is set, but the container has no health check; "
                "add a healthcheck or remove wait"
            )
        if health["Status"] == "healthy":
            return
        if not found["State"]["Running"] and found["State"]["Status"] == "exited":
            code = found["State"]["ExitCode"]
            raise ProviderError(
                f"container {inputs['name']} exited with code {code} while waiting for its health"
                f"{last_lines(daemon, container_id)}"
            )
        if time.monotonic() > end:
            raise ProviderError(
                f"container {inputs['name']} failed to be in healthy state in {seconds} s "
                f"(now: {health['Status']}){last_check(health)}"
            )
        daemon.sleep(0.25)


def last_check(health: Data) -> str:
    """Return the last result of a health check, for a message."""
    log = health.get("Log") or []
    if not log:
        return "; the health check has not run yet"
    return f"; last check: exit code {log[-1]['ExitCode']}: {log[-1]['Output'].strip()[-500:]}"


def last_lines(daemon: Daemon, container_id: str) -> str:
    """Return the last lines of a container's log, for a message."""
    with contextlib.suppress(Exception):
        text = daemon.client.logs(container_id, tail=10).decode(errors="replace").strip()
        return f"; its last lines:\n{text[-1000:]}" if text else ""
    return ""


def follow(daemon: Daemon, container_id: str, inputs: Data) -> Data:
    """Wait until the container ends (`attach`); return its log where `logs` is set."""
    while daemon.call("GET", f"/containers/{container_id}/json")["State"]["Running"]:
        daemon.sleep(0.25)
    if not inputs.get("logs"):
        return {}
    text = daemon.client.logs(container_id).decode(errors="replace")
    return {"containerLogs": text}


def with_remedy(error: DaemonError, inputs: Data) -> DaemonError:
    """Add the container's name and, where known, a remedy to the daemon's message."""
    message = error.message
    remedy = ""
    if "port is already allocated" in message or "address already in use" in message:
        remedy = "Free that port, or publish another one."
    elif "No such image" in message:
        remedy = "Build or load it first. The registry does not have it, or cannot be reached."
    elif "network" in message and "not found" in message:
        remedy = "Create the network first. Let the container depend on it."
    elif "rootfs is marked read-only" in message:
        remedy = (
            "uploads and readOnly exclude each other. Use a mount, or add the file to the image."
        )
    return DaemonError(f"container {inputs['name']}: {message}", error.status, remedy)


def read(daemon: Daemon, name: str, known: Data) -> tuple[str, Data] | None:
    """Return id and state, or None where it does not exist.

    `name` is an id or a name. Without `known` it is an import.
    """
    found = daemon.find(f"/containers/{part(name)}/json")
    if found is None:
        return None
    if not known:
        known = container_state.imported(found, daemon.find(f"/images/{part(found['Image'])}/json"))
    return found["Id"], container_state.state(found, known)


def update(daemon: Daemon, container_id: str, state: Data, planned: Data) -> Data:
    """Change the properties in UPDATABLE; others change only the state, as upstream does."""
    if not state.get("mustRun") and planned.get("mustRun") and planned.get("start", True):
        daemon.call("POST", f"/containers/{container_id}/start", timeout=600)
    if container_request.changed(state, planned, container_request.UPDATABLE):
        try:
            path = f"/containers/{container_id}/update"
            daemon.call("POST", path, container_request.resources(planned))
        except DaemonError as error:
            raise with_remedy(error, planned) from error
    outputs = ("bridge", "containerLogs", "networkDatas")
    return {k: state[k] for k in outputs if k in state} | planned


def delete(daemon: Daemon, container_id: str, state: Data) -> None:
    """Stop within the grace period, then remove with anonymous volumes, where it exists."""
    if not state.get("attach"):
        stop(daemon, container_id, state.get("destroyGraceSeconds") or 0)
    remove(daemon, container_id, bool(state.get("removeVolumes", True)))


def stop(daemon: Daemon, container_id: str, grace: int) -> None:
    """Stop a container; a stopped (304) or absent one (404) is not an error."""
    try:
        path = f"/containers/{container_id}/stop"
        daemon.call("POST", path, params={"t": grace}, timeout=grace + 60)
    except DaemonError as error:
        if error.status != 404:
            raise


def remove(daemon: Daemon, container_id: str, volumes: bool = True) -> None:
    """Remove a container and wait until it no longer exists."""
    params: dict[str, Any] = {"force": "1", "v": "1" if volumes else "0"}
    try:
        daemon.call("DELETE", f"/containers/{container_id}", params=params)
    except DaemonError as error:
        if error.status == 404:
            return
        if "already in progress" not in error.message:
            raise
    end = time.monotonic() + 30
    while daemon.find(f"/containers/{container_id}/json") is not None:
        if time.monotonic() > end:
            raise ProviderError(f"container {container_id[:12]} is still there after its removal")
        time.sleep(0.1)
