"""Containers, services and networks of a stack that its state does not know."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import docker
from docker.errors import APIError, NotFound

from ape_contracts import labels

# Seconds, about, until the tasks of a Swarm service have left its networks.
FREE_TRIES = 20
SWARM_SERVICE = "com.docker.swarm.service.id"


def remove_orphans(
    client: docker.DockerClient,
    project: str,
    stack: str,
    known: Collection[str],
    on_progress: Callable[[str], None],
) -> list[str]:
    """Remove everything that has the stack's labels and whose id is not in `known`.

    A Swarm service takes its tasks and their containers with it. Volumes stay: they hold data.
    Returns what is still in use, for example on a node that is lost.
    """
    api = client.api
    filters = labels.stack_filter(project, stack)
    try:
        services = api.services(filters=filters)  # type: ignore[no-untyped-call]
    except APIError:
        services = []
    for service in services:
        if service["ID"] not in known:
            on_progress(f"removing the orphaned service {service['Spec']['Name']}")
            api.remove_service(service["ID"])  # type: ignore[no-untyped-call]
    for container in api.containers(all=True, filters=filters):
        if container["Id"] in known or SWARM_SERVICE in container["Labels"]:
            continue
        on_progress(f"removing the orphaned container {container['Names'][0].lstrip('/')}")
        try:
            api.remove_container(container["Id"], force=True, v=True)
        except NotFound:
            pass
    kept = []
    for network in api.networks(filters=filters):
        if network["Id"] not in known:
            on_progress(f"removing the orphaned network {network['Name']}")
            if not remove_when_free(api.remove_network, network["Id"]):
                kept.append(f"network {network['Name']}")
    for each in kept:
        on_progress(f"{each} is still in use and stays")
    return kept


def remove_when_free(remove: Callable[[str], object], identity: str) -> bool:
    """Remove something that containers which are ending may still use; whether it is gone."""
    for _ in range(FREE_TRIES):
        try:
            remove(identity)
        except NotFound:
            return True
        except APIError:
            time.sleep(1)
        else:
            return True
    return False
