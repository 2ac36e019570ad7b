"""docker.Container: create, read, update, delete."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from ape_docker_provider import container_spec as spec
from ape_docker_provider.daemon import Daemon, DaemonError, ProviderError, ours, part
from ape_docker_provider.image import ensure_image
from ape_docker_provider.values import Data


class KnownContainers:
    """Containers that this run of the plugin knows: never taken for left-overs."""

    def __init__(self) -> None:
        self.ids: set[str] = set()


def create(daemon: Daemon, inputs: Data, touched: KnownContainers) -> tuple[str, Data]:
    """Make and start the container; if anything fails, take away what was made."""
    container_id = make(daemon, inputs, touched)
    touched.ids.add(container_id)
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
            raise explained(error, inputs) from error
        raise
    return container_id, spec.state(found, known)


def make(daemon: Daemon, inputs: Data, touched: KnownContainers) -> str:
    """Create the container, pulling the image or clearing a left-over of ours if that is why."""
    body = spec.request(inputs)
    params = {"name": inputs["name"]}
    if inputs.get("platform"):
        params["platform"] = inputs["platform"]
    for _ in range(3):
        try:
            made = daemon.call("POST", "/containers/create", body, params)
            return str(made["Id"])
        except DaemonError as error:
            if error.status == 404 and "image" in error.words.lower():
                ensure_image(daemon, inputs["image"], inputs.get("platform") or "")
            elif error.status == 409 and "in use" in error.words:
                clear_left_over(daemon, inputs, body.get("Labels") or {}, touched, error)
            else:
                raise explained(error, inputs) from error
    raise ProviderError(f"container {inputs['name']}: three attempts to create it failed")


def clear_left_over(
    daemon: Daemon,
    inputs: Data,
    labels: dict[str, str],
    touched: KnownContainers,
    error: DaemonError,
) -> None:
    """Remove a container of the same name that an interrupted run of this stack left."""
    found = daemon.find(f"/containers/{part(inputs['name'])}/json")
    if found is None:
        return
    mine = ours(labels, found["Config"].get("Labels"))
    if not mine or found["Id"] in touched.ids:
        raise DaemonError(
            error.words,
            error.status,
            "Two resources of this program use that name: give each its own."
            if mine
            else "It was not made by this stack. Remove it (docker rm -f) or import it.",
        ) from error
    stop(daemon, found["Id"], inputs.get("destroyGraceSeconds") or 0)
    remove(daemon, found["Id"])


def connect(daemon: Daemon, container_id: str, inputs: Data) -> None:
    """Join the networks; the default bridge is left, as upstream does."""
    networks = inputs.get("networksAdvanced") or []
    if not networks:
        return
    try:
        body: Data = {"Container": container_id, "Force": False}
        daemon.call("POST", "/networks/bridge/disconnect", body)
    except DaemonError as error:
        if "is not connected to" not in error.words:
            raise
    for network in networks:
        body = {"Container": container_id, "EndpointConfig": spec.endpoint(network)}
        daemon.call("POST", f"/networks/{part(network['name'])}/connect", body)


def upload(daemon: Daemon, container_id: str, inputs: Data) -> None:
    """Put the uploaded files into the container."""
    for item in inputs.get("uploads") or []:
        archive = spec.upload_archive(item, time.time())
        try:
            daemon.client.put_archive(container_id, "/", archive)
        except Exception as error:
            words = getattr(error, "explanation", None) or str(error)
            raise DaemonError(f"upload of {item['file']}: {words}", 500) from error


def wait_healthy(daemon: Daemon, container_id: str, inputs: Data) -> None:
    """Wait until the container is healthy; if it is not in time, say what its check said."""
    seconds = inputs.get("waitTimeout") or 60
    end = time.monotonic() + seconds
    while True:
        found = daemon.call("GET", f"/containers/{container_id}/json")
        health = found["State"].get("Health")
        if not health:
            raise ProviderError(
                f"container {inputs['name']}: wait is set, but there is no health check; "
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
    """The last result of a health check."""
    log = health.get("Log") or []
    if not log:
        return "; the health check has not run yet"
    return f"; last check: exit code {log[-1]['ExitCode']}: {log[-1]['Output'].strip()[-500:]}"


def last_lines(daemon: Daemon, container_id: str) -> str:
    """The last lines of a container's log."""
    with contextlib.suppress(Exception):
        text = daemon.client.logs(container_id, tail=10).decode(errors="replace").strip()
        return f"; its last lines:\n{text[-1000:]}" if text else ""
    return ""


def follow(daemon: Daemon, container_id: str, inputs: Data) -> Data:
    """`attach`: wait for the end of the container, and keep its log if `logs` is set."""
    while daemon.call("GET", f"/containers/{container_id}/json")["State"]["Running"]:
        daemon.sleep(0.25)
    if not inputs.get("logs"):
        return {}
    text = daemon.client.logs(container_id).decode(errors="replace")
    return {"containerLogs": text}


def explained(error: DaemonError, inputs: Data) -> DaemonError:
    """The daemon's words with the container's name and, where there is one, a remedy."""
    words = error.words
    remedy = ""
    if "port is already allocated" in words or "address already in use" in words:
        remedy = "Free that port, or publish another one."
    elif "No such image" in words:
        remedy = "Build it or load it first: the registry does not have it, or cannot be reached."
    elif "network" in words and "not found" in words:
        remedy = "Create the network first: make the container depend on it."
    elif "rootfs is marked read-only" in words:
        remedy = "uploads and readOnly exclude each other: use a mount, or bake the file in."
    return DaemonError(f"container {inputs['name']}: {words}", error.status, remedy)


def read(daemon: Daemon, name: str, known: Data) -> tuple[str, Data] | None:
    """Id and state, or None if it is gone. `name` is an id or a name; no `known` is an import."""
    found = daemon.find(f"/containers/{part(name)}/json")
    if found is None:
        return None
    if not known:
        known = spec.imported(found, daemon.find(f"/images/{part(found['Image'])}/json"))
    return found["Id"], spec.state(found, known)


def update(daemon: Daemon, container_id: str, state: Data, planned: Data) -> Data:
    """Change what can be changed in place; the rest changes the state only, as upstream does."""
    if not state.get("mustRun") and planned.get("mustRun") and planned.get("start", True):
        daemon.call("POST", f"/containers/{container_id}/start", timeout=600)
    if spec.changed(state, planned, spec.UPDATABLE):
        try:
            path = f"/containers/{container_id}/update"
            daemon.call("POST", path, spec.resources(planned))
        except DaemonError as error:
            raise explained(error, planned) from error
    outputs = ("bridge", "containerLogs", "networkDatas")
    return {k: state[k] for k in outputs if k in state} | planned


def delete(daemon: Daemon, container_id: str, state: Data) -> None:
    """Stop within the grace period, then remove with anonymous volumes. Absent is fine."""
    if not state.get("attach"):
        stop(daemon, container_id, state.get("destroyGraceSeconds") or 0)
    remove(daemon, container_id, bool(state.get("removeVolumes", True)))


def stop(daemon: Daemon, container_id: str, grace: int) -> None:
    """Stop a container; 304 (stopped already) and 404 are fine."""
    try:
        path = f"/containers/{container_id}/stop"
        daemon.call("POST", path, params={"t": grace}, timeout=grace + 60)
    except DaemonError as error:
        if error.status != 404:
            raise


def remove(daemon: Daemon, container_id: str, volumes: bool = True) -> None:
    """Remove a container and wait until it is gone."""
    params: dict[str, Any] = {"force": "1", "v": "1" if volumes else "0"}
    try:
        daemon.call("DELETE", f"/containers/{container_id}", params=params)
    except DaemonError as error:
        if error.status == 404:
            return
        if "already in progress" not in error.words:
            raise
    end = time.monotonic() + 30
    while daemon.find(f"/containers/{container_id}/json") is not None:
        if time.monotonic() > end:
            raise ProviderError(f"container {container_id[:12]} is still there after its removal")
        time.sleep(0.1)
