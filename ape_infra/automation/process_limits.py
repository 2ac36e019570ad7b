"""The limit of processes of each container, which pulumi-docker cannot set (docs/facts.md)."""

from __future__ import annotations

import docker
from docker.errors import NotFound

from ape_contracts import labels
from ape_infra.automation.orphans import SWARM_SERVICE
from ape_infra.planning.plan import PROCESS_LIMIT


def limit_processes(client: docker.DockerClient, project: str, stack: str) -> int:
    """Limit the stack's containers that have no limit yet; returns their number.

    Tasks of Swarm services are left out: Docker makes them again at any time. Raises
    docker.errors.APIError.
    """
    api = client.api
    limited = 0
    for container in api.containers(filters=labels.stack_filter(project, stack)):
        if SWARM_SERVICE in container["Labels"]:
            continue
        try:
            if (api.inspect_container(container["Id"])["HostConfig"].get("PidsLimit") or 0) > 0:
                continue
            # docker-py's update_container does not have this limit.
            url = f"{api.base_url}/v{api.api_version}/containers/{container['Id']}/update"
            answer = api.post(url, json={"PidsLimit": PROCESS_LIMIT}, timeout=api.timeout)
            if answer.status_code != 404:
                answer.raise_for_status()
                limited += 1
        except NotFound:
            continue
    return limited
