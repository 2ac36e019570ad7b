"""docker.Service: create, read, update, delete, and waiting for convergence."""

from __future__ import annotations

import contextlib
import json
import time

from ape_docker_provider import service_spec as spec
from ape_docker_provider.daemon import Daemon, DaemonError, ProviderError, part, same_stack
from ape_docker_provider.durations import nanos
from ape_docker_provider.secret import SWARM_REMEDY
from ape_docker_provider.values import Data

ENDED = ("complete", "shutdown", "failed", "rejected", "remove", "orphaned")
GOOD_UPDATE = ("completed",)
BAD_UPDATE = ("paused", "rollback_paused", "rollback_completed")


def create(daemon: Daemon, inputs: Data) -> tuple[str, Data]:
    """Create the service; remove it again where it does not converge in time."""
    body = spec.request(inputs)
    headers = registry_headers(daemon, inputs)
    try:
        made = daemon.call("POST", "/services/create", body, headers=headers)
    except DaemonError as error:
        if "name conflicts" not in error.message and "already exists" not in error.message:
            raise with_remedy(error, inputs) from error
        remove_leftover(daemon, body, error)
        made = daemon.call("POST", "/services/create", body, headers=headers)
    service_id = str(made["ID"])
    try:
        if inputs.get("convergeConfig"):
            converge(daemon, service_id, inputs, None)
        found = daemon.call("GET", f"/services/{service_id}")
    except Exception:
        with contextlib.suppress(ProviderError):
            daemon.call("DELETE", f"/services/{service_id}")
        raise
    return service_id, spec.state(found, inputs)


def registry_headers(daemon: Daemon, inputs: Data) -> dict[str, str] | None:
    """Return the header with the registry's credentials; None: it needs none."""
    return daemon.registry_headers(inputs["taskSpec"]["containerSpec"]["image"]) or None


def remove_leftover(daemon: Daemon, body: Data, error: DaemonError) -> None:
    """Remove a service of the same name that an interrupted run of this stack left."""
    found = daemon.find(f"/services/{part(body['Name'])}")
    if found is not None and not same_stack(body["Labels"] or {}, found["Spec"].get("Labels")):
        remedy = "It was not made by this stack. Remove it (docker service rm), or import it."
        raise DaemonError(error.message, error.status, remedy) from error
    if found is not None:
        remove(daemon, found["ID"], 30.0)


def with_remedy(error: DaemonError, inputs: Data) -> DaemonError:
    """Add the service's name and, where known, a remedy to the daemon's message."""
    remedy = SWARM_REMEDY if error.status == 503 else ""
    if "already in use" in error.message:
        remedy = "Another service publishes that port. Free it, or choose another port."
    return DaemonError(f"service {inputs['name']}: {error.message}", error.status, remedy)


def tasks(daemon: Daemon, service_id: str, running_only: bool) -> list[Data]:
    """Return the tasks of a service."""
    filters: dict[str, list[str]] = {"service": [service_id]}
    if running_only:
        filters["desired-state"] = ["running"]
    found: list[Data] = daemon.call("GET", "/tasks", params={"filters": json.dumps(filters)})
    return found


def converge(daemon: Daemon, service_id: str, inputs: Data, version: int | None) -> None:
    """Wait until all replicas run; `version` is the one before an update. Raises ProviderError."""
    config = inputs["convergeConfig"]
    seconds = nanos(config.get("timeout")) / 1e9
    end = time.monotonic() + seconds
    daemon.sleep(min(nanos(config.get("delay")) / 1e9, seconds))
    while True:
        found = daemon.call("GET", f"/services/{service_id}")
        status = found.get("UpdateStatus") or {}
        if version is not None and status.get("State") in BAD_UPDATE:
            state = status["State"].replace("_", " ")
            message = f"service {inputs['name']}: update {state}: {status.get('Message', '')}"
            raise ProviderError(message)
        in_update = version is not None and status.get("State") in (
            "updating",
            "rollback_started",
        )
        wanted = ((found["Spec"]["Mode"].get("Replicated") or {}).get("Replicas")) or 0
        running = running_slots(tasks(daemon, service_id, True))
        if running == wanted and not in_update:
            return
        if time.monotonic() > end:
            errors = task_errors(tasks(daemon, service_id, False))
            raise ProviderError(
                f"service {inputs['name']} did not converge after {config.get('timeout')}: "
                f"{running} of {wanted} tasks run{errors}"
            )
        daemon.sleep(0.5)


def running_slots(found: list[Data]) -> int:
    """Return the number of slots that have a running task."""
    return len({t.get("Slot") for t in found if t["Status"]["State"] == "running"})


def task_errors(found: list[Data]) -> str:
    """Return the errors of the newest tasks, for a message."""
    newest = sorted(found, key=lambda t: str(t["UpdatedAt"]), reverse=True)
    errors = [t["Status"].get("Err") for t in newest if t["Status"].get("Err")]
    unique = list(dict.fromkeys(errors))[:3]
    return "".join(f"\n    {e}" for e in unique)


def read(daemon: Daemon, name: str, known: Data) -> tuple[str, Data] | None:
    """Return id and state, or None where the service or the Swarm does not exist."""
    try:
        found = daemon.find(f"/services/{part(name)}")
    except DaemonError as error:
        if error.status == 503:
            return None
        raise
    return (found["ID"], spec.state(found, known)) if found else None


def update(daemon: Daemon, service_id: str, state: Data, planned: Data) -> Data:
    """Change the service and wait for convergence."""
    before = daemon.call("GET", f"/services/{service_id}")
    version = before["Version"]["Index"]
    try:
        path = f"/services/{service_id}/update"
        body, headers = spec.request(planned), registry_headers(daemon, planned)
        daemon.call("POST", path, body, {"version": version}, headers=headers)
    except DaemonError as error:
        raise with_remedy(error, planned) from error
    if planned.get("convergeConfig"):
        converge(daemon, service_id, planned, version)
    return spec.state(daemon.call("GET", f"/services/{service_id}"), planned)


def delete(daemon: Daemon, service_id: str, state: Data) -> None:
    """Remove the service and wait for its containers to end within their grace period."""
    task_spec = (state.get("taskSpec") or {}).get("containerSpec") or {}
    remove(daemon, service_id, nanos(task_spec.get("stopGracePeriod")) / 1e9 + 30)


def remove(daemon: Daemon, service_id: str, seconds: float) -> None:
    """Remove a service; an absent one is not an error."""
    try:
        found = tasks(daemon, service_id, False) if daemon.find(f"/services/{service_id}") else []
        if not found and daemon.find(f"/services/{service_id}") is None:
            return
        daemon.call("DELETE", f"/services/{service_id}")
    except DaemonError as error:
        if error.status in (404, 503):
            return
        raise
    ids = [(t["Status"].get("ContainerStatus") or {}).get("ContainerID") for t in found]
    end = time.monotonic() + seconds
    for container_id in filter(None, ids):
        while daemon.find(f"/containers/{container_id}/json") is not None:
            if time.monotonic() > end:
                return
            daemon.sleep(0.2)
