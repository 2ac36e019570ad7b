"""docker.Network."""

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

ALLOCATE_SECONDS = 30.0
DETACH_SECONDS = 30.0


def request(inputs: Data) -> Data:
    """Return the body of POST /networks/create."""
    ipam: Data = {"Driver": inputs.get("ipamDriver") or "default"}
    if inputs.get("ipamConfigs"):
        ipam["Config"] = [ipam_pool(c) for c in inputs["ipamConfigs"]]
    if inputs.get("ipamOptions"):
        ipam["Options"] = inputs["ipamOptions"]
    return {
        "Name": inputs["name"],
        "CheckDuplicate": True,
        "Driver": inputs.get("driver") or "",
        "Internal": bool(inputs.get("internal")),
        "Attachable": bool(inputs.get("attachable")),
        "Ingress": bool(inputs.get("ingress")),
        "EnableIPv6": bool(inputs.get("ipv6")),
        "IPAM": ipam,
        "Options": inputs.get("options") or {},
        "Labels": labels_map(inputs.get("labels")),
    }


def ipam_pool(config: Data) -> Data:
    """Return the request of one IPAM pool."""
    made = {
        "Subnet": config.get("subnet"),
        "IPRange": config.get("ipRange"),
        "Gateway": config.get("gateway"),
        "AuxiliaryAddresses": config.get("auxAddress"),
    }
    return {k: v for k, v in made.items() if v}


def state(found: Data) -> Data:
    """Return the state of a network."""
    ipam = found.get("IPAM") or {}
    made: Data = {
        "name": found["Name"],
        "labels": labels_list(found.get("Labels")),
        "driver": found["Driver"],
        "internal": found["Internal"],
        "attachable": found["Attachable"],
        "ingress": found["Ingress"],
        "ipv6": found["EnableIPv6"],
        "ipamDriver": ipam.get("Driver") or "default",
        "ipamOptions": ipam.get("Options") or {},
        "scope": found["Scope"],
        "options": found.get("Options") or {},
    }
    made["ipamConfigs"] = [pool_state(c) for c in ipam.get("Config") or []]
    return made


def pool_state(config: Data) -> Data:
    """Return the state of one IPAM pool."""
    made = {
        "subnet": config.get("Subnet"),
        "ipRange": config.get("IPRange"),
        "gateway": config.get("Gateway"),
        "auxAddress": config.get("AuxiliaryAddresses"),
    }
    return {k: v for k, v in made.items() if v}


def create(daemon: Daemon, inputs: Data) -> tuple[str, Data]:
    """Create the network, or reuse the one that an interrupted run of this stack left."""
    body = request(inputs)
    try:
        made = daemon.call("POST", "/networks/create", body)
    except DaemonError as error:
        if "already exists" not in error.message:
            raise DaemonError(error.message, error.status, remedy(error.message)) from error
        found = leftover(daemon, body, error)
        if found is not None:
            return found["Id"], state(found)
        made = daemon.call("POST", "/networks/create", body)
    return made["Id"], state(allocated(daemon, made["Id"]))


def allocated(daemon: Daemon, network_id: str) -> Data:
    """Return the network once it has a driver: a Swarm allocates it after its creation."""
    end = time.monotonic() + ALLOCATE_SECONDS
    while True:
        found: Data = daemon.call("GET", f"/networks/{network_id}")
        if found["Driver"]:
            return found
        if time.monotonic() > end:
            raise DaemonError(
                f"network {found['Name']} was not allocated within {ALLOCATE_SECONDS:g} s",
                504,
                "Check the Swarm's managers: docker node ls.",
            )
        daemon.sleep(0.1)


def leftover(daemon: Daemon, body: Data, error: DaemonError) -> Data | None:
    """Return this stack's network of the same name; None where it did not fit and was removed."""
    found: Data | None = daemon.find(f"/networks/{part(body['Name'])}")
    if found is None or not same_stack(body["Labels"], found.get("Labels")):
        raise DaemonError(
            error.message,
            error.status,
            "It was not made by this stack. Remove it (docker network rm), or import it.",
        ) from error
    if fits(body, found):
        return found
    daemon.call("DELETE", f"/networks/{found['Id']}")
    return None


def fits(body: Data, found: Data) -> bool:
    """Whether a network has all requested options."""
    have = found.get("Options") or {}
    pools = (found.get("IPAM") or {}).get("Config") or []
    return (
        (not body["Driver"] or body["Driver"] == found["Driver"])
        and all(body[k] == found[k] for k in ("Internal", "Attachable", "Ingress", "EnableIPv6"))
        and all(have.get(k) == v for k, v in body["Options"].items())
        and all(any(p.items() <= h.items() for h in pools) for p in body["IPAM"].get("Config", []))
        and body["Labels"] == (found.get("Labels") or {})
    )


def remedy(message: str) -> str:
    """Return the remedy for a daemon's message."""
    if "overlaps" in message or "non-overlapping" in message:
        return (
            "Choose another subnet in ipamConfigs, widen default-address-pools in daemon.json, "
            "or remove unused networks (docker network prune)."
        )
    if "swarm" in message:
        return "An overlay network needs a swarm: docker swarm init."
    return ""


def read(daemon: Daemon, name: str) -> tuple[str, Data] | None:
    """Return id and state, or None where it does not exist. `name` is an id or a name."""
    found = daemon.find(f"/networks/{part(name)}")
    return (found["Id"], state(found)) if found else None


def delete(daemon: Daemon, name: str) -> None:
    """Remove the network; wait while endpoints are still detaching."""
    end = time.monotonic() + DETACH_SECONDS
    while True:
        try:
            daemon.call("DELETE", f"/networks/{part(name)}")
            return
        except DaemonError as error:
            if error.status == 404:
                return
            if "active endpoints" not in error.message and "in use" not in error.message:
                raise
            if time.monotonic() > end:
                raise DaemonError(
                    error.message, error.status, "Something outside this stack still uses it."
                ) from error
        daemon.sleep(0.5)
