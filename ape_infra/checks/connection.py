"""The connection to the Docker daemon of a stack."""

from __future__ import annotations

from collections.abc import Sequence

import docker
import requests
from docker.errors import DockerException

from ape_infra.checks.check import Check
from ape_infra.config.project import config_key
from ape_infra.config.settings import Settings

# For the first answer. Later a daemon that starts many containers may need more time.
ANSWER_SECONDS = 10
WORK_SECONDS = 60


class PreflightError(Exception):
    """Checks failed, and nothing was changed; the text has one line for each."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self.checks = tuple(checks)
        super().__init__("\n".join(check.text for check in checks))


def connect(settings: Settings) -> docker.DockerClient:
    """Return a client of the stack's daemon. Raises PreflightError when no daemon answers."""
    host = settings.platform.docker_host
    try:
        if host:
            client = docker.DockerClient(base_url=host, timeout=ANSWER_SECONDS)
        else:
            client = docker.from_env(timeout=ANSWER_SECONDS)
        client.ping()
        client.api.timeout = WORK_SECONDS
    except (DockerException, requests.RequestException, OSError) as error:
        failure = Check(
            "daemon",
            "fail",
            f"no Docker daemon answers at {host or 'DOCKER_HOST or the local socket'} ({error}).",
            "Start it (`make up` does, as root), or set another address.",
            path=config_key("dockerHost"),
        )
        raise PreflightError([failure]) from None
    return client
