"""docker.ServiceConfig: the same calls as docker.Secret, under another name."""

from __future__ import annotations

from ape_docker_provider import secret
from ape_docker_provider.daemon import Daemon
from ape_docker_provider.values import Data


def create(daemon: Daemon, inputs: Data) -> tuple[str, Data]:
    """Create the config."""
    return secret.create(daemon, inputs, "config")


def read(daemon: Daemon, name: str, known: Data) -> tuple[str, Data] | None:
    """Return id and state, or None where it does not exist."""
    return secret.read(daemon, name, known, "config")


def delete(daemon: Daemon, name: str) -> None:
    """Remove the config."""
    secret.delete(daemon, name, "config")
