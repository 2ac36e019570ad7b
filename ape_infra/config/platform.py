"""Settings of the platform: runtime, daemon, networks, logs of containers, and strictness."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ape_infra.config.group import Group


class PlatformSettings(Group):
    runtime: Literal["docker", "swarm"] = Field(
        "docker", description="docker: containers of one machine. swarm: one service a shard."
    )
    docker_host: str = Field(
        "", description="Address of the Docker daemon; empty: DOCKER_HOST or the local socket."
    )
    network_pool: str = Field(
        "10.213.0.0/16", description="Addresses from which the networks take their subnets (/22)."
    )
    log_max_size: str = Field(
        "10m", pattern=r"^[1-9][0-9]*[kmg]$", description="Size at which a log is rotated."
    )
    log_max_files: int = Field(3, ge=2, le=100, description="Rotated logs kept for a container.")
    log_compress: bool = Field(True, description="Compress rotated logs.")
    production: bool = Field(
        False, description="Refuse what is only a warning in development; need the secrets."
    )
    allow_overcommit: bool = Field(
        False, description="Allow a plan larger than the machine, also in production."
    )
