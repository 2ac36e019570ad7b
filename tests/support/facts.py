"""The facts that checks look at, of a made-up machine: no Docker daemon answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import docker

from ape_infra.checks.facts import LOCAL_URL, Facts
from ape_infra.config.parsing import parse
from ape_infra.config.secrets import GRAFANA_PASSWORD

MB = 2**20


def facts(
    settings: Mapping[str, str],
    *,
    memory_mb: int = 10**6,
    cpus: int = 512,
    url: str = LOCAL_URL,
    manager: bool = False,
    nodes: int = 1,
    networks: Sequence[Mapping[str, Any]] = (),
    containers: Sequence[Mapping[str, Any]] = (),
    docker_version: str = "28.0.0",
    **known: Any,
) -> Facts:
    """Facts of the stack `dev` with `settings`; `memory_mb` and `cpus` are those of each node."""
    info = {
        "MemTotal": memory_mb * MB,
        "NCPU": cpus,
        "DockerRootDir": "/docker",
        "ServerVersion": docker_version,
        "Swarm": {"ControlAvailable": manager, "LocalNodeState": "active" if manager else "no"},
    }
    node = {
        "Description": {"Resources": {"MemoryBytes": memory_mb * MB, "NanoCPUs": cpus * 10**9}},
        "Status": {"State": "ready"},
        "Spec": {"Availability": "active"},
    }
    client = SimpleNamespace(
        info=lambda: info,
        api=SimpleNamespace(
            base_url=url,
            nodes=lambda: [node] * nodes,
            networks=lambda: networks,
            containers=lambda filters: containers,
        ),
    )
    return Facts(
        parse(settings, [GRAFANA_PASSWORD]),
        "ape",
        "dev",
        connected=cast(docker.DockerClient, client),
        **known,
    )
