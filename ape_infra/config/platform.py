"""Settings of the platform: runtime, Docker daemon, networks, container logs, and strictness."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ape_infra.config.group import Group


class PlatformSettings(Group):
    runtime: Literal["docker", "swarm"] = Field(
        "docker", description="docker: containers on one machine. swarm: one service per shard."
    )
    docker_host: str = Field(
        "", description="Address of the Docker daemon; empty: that of the docker command."
    )
    network_pool: str = Field(
        "10.213.0.0/16", description="IP range that the networks' subnets (/22) are taken from."
    )
    network_mtu: int = Field(
        0,
        ge=0,
        le=65535,
        description="MTU of the stack's networks in bytes, such as 1400 where nodes are connected "
        "by a VPN; 0: Docker's default. A change replaces networks and containers.",
    )
    isolate_hosts: bool = Field(
        False,
        description="Give the agents' networks no address on the Docker host, so that agents reach "
        "no service of the host (Docker 28 or later; no effect with runtime swarm). A change "
        "replaces these networks and their containers.",
    )
    agent_placement: list[str] = Field(
        [],
        description='Constraints of Swarm on the nodes of agents, such as ["node.role==worker"]; '
        "empty: any node.",
    )
    service_placement: list[str] = Field(
        [],
        description="Constraints of Swarm on the nodes of services other than those that run on "
        'each node, such as ["node.labels.ape==services"]; empty: any node.',
    )
    data_node: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9.-]*)?$",
        description="Host name of the Swarm node on which services with data run, such as "
        "Prometheus; empty: any node, where they start without their earlier data.",
    )
    log_max_size: str = Field(
        "10m",
        pattern=r"^[1-9][0-9]*[kmg]$",
        description="Size at which a container's log is rotated.",
    )
    log_max_files: int = Field(
        3, ge=2, le=100, description="Number of log files kept per container."
    )
    log_compress: bool = Field(True, description="Compress rotated logs.")
    production: bool = Field(
        False, description="Treat warnings as errors, protect volumes, and require grafanaPassword."
    )
    allow_name_forwarding: bool = Field(
        False,
        description="Allow a Docker daemon that forwards names from internal networks, also in "
        "production.",
    )
    allow_overcommit: bool = Field(
        False, description="Allow a plan that exceeds the machine's resources, also in production."
    )
