"""The connection to the Docker daemon of a stack."""

from __future__ import annotations

from collections.abc import Sequence

import docker
import requests
from docker.errors import DockerException

from ape_contracts import docker_endpoint
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
    try:
        endpoint = docker_endpoint.resolve(settings.platform.docker_host)
    except docker_endpoint.EndpointError as error:
        raise PreflightError([Check("daemon", "fail", str(error))]) from None
    try:
        options = docker_endpoint.client_options(endpoint)
        client = docker.DockerClient(timeout=ANSWER_SECONDS, **options)
        client.ping()
        client.api.timeout = WORK_SECONDS
    except (DockerException, requests.RequestException, OSError) as error:
        failure = Check(
            "daemon",
            "fail",
            f"no Docker daemon answers at {endpoint.shown} ({error}).",
            "Start it (`make up` does, as root), or set another address.",
            path=config_key("dockerHost"),
        )
        raise PreflightError([failure]) from None
    return client
