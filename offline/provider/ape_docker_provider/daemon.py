"""The Docker daemon: one client per host; its errors with a remedy.

The Docker SDK is imported at its first use: the import takes half as long as the plugin's start,
and a preview without images does not need it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ape_contracts.docker_endpoint import Endpoint, EndpointError, client_options, resolve
from ape_docker_provider.values import Data

POOL = 64


class ProviderError(Exception):
    """A message for the user."""


class DaemonError(ProviderError):
    """An error of the daemon: its message, the HTTP status (0: no answer), and a remedy."""

    def __init__(self, message: str, status: int, remedy: str = "") -> None:
        self.message = message
        self.status = status
        super().__init__(f"{message}\n  {remedy}" if remedy else message)


class CancelledError(ProviderError):
    """`pulumi cancel`, or Ctrl-C during `pulumi up`."""

    def __init__(self) -> None:
        super().__init__("cancelled")


class Daemon:
    """Docker's HTTP API. It connects at the first request."""

    def __init__(self, config: Data) -> None:
        self.config = config
        self.cancelled = threading.Event()
        self._client: Any = None
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> Endpoint:
        """The daemon's address: the provider's `host`, or that of the docker command."""
        try:
            return resolve(self.config.get("host") or "")
        except EndpointError as error:
            raise DaemonError(str(error), 0) from None

    @property
    def host(self) -> str:
        return self.endpoint.address

    @property
    def client(self) -> Any:
        """The SDK's low-level client."""
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> Any:
        import docker
        import docker.errors
        import requests

        try:
            return docker.APIClient(
                version="auto",
                timeout=60,
                num_pools=POOL,
                max_pool_size=POOL,
                **self._options(),
            )
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise self.unreachable(error) from error

    def _options(self) -> Any:
        given = self.config.get("certPath")
        if given and self.host.startswith(("tcp://", "https://")):
            return client_options(Endpoint(self.host, certificates=str(given)))
        return client_options(self.endpoint)

    def unreachable(self, error: Exception) -> DaemonError:
        """Return the error of a daemon that does not answer."""
        return DaemonError(
            f"Cannot connect to the Docker daemon at {self.host}: {reason(error)}",
            0,
            "Is it running? Start it (systemctl start docker), or set docker:host or DOCKER_HOST.",
        )

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        timeout: float = 120,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send one request; return the decoded JSON answer, or None for an empty one.

        Raises DaemonError.
        """
        import requests

        client = self.client
        url = client.base_url + "/v" + client.api_version + path
        try:
            answer = client.request(
                method, url, json=body, params=params, timeout=timeout, headers=headers
            )
        except requests.RequestException as error:
            raise self.unreachable(error) from error
        if answer.status_code >= 400:
            raise DaemonError(daemon_message(answer), answer.status_code)
        return answer.json() if answer.content else None

    def registry_headers(self, image: str) -> dict[str, str]:
        """Return the header with which each node pulls from the image's registry.

        As the published plugin does: with the credentials of `docker login` for the registries of
        `registryAuth`. Raises DaemonError where it has none.
        """
        given = self.config.get("registryAuth") or []
        known = json.loads(given) if isinstance(given, str) else given
        registry = image.partition("/")[0]
        if registry not in {each["address"] for each in known}:
            return {}
        import docker.auth

        header = docker.auth.get_config_header(self.client, registry)
        if not header:
            remedy = f"Log in: docker login {registry}"
            raise DaemonError(f"no credentials for {registry} are known here", 0, remedy)
        return {"X-Registry-Auth": header.decode()}

    def find(self, path: str) -> Any:
        """Return the answer of a GET, or None where the object does not exist (404)."""
        try:
            return self.call("GET", path)
        except DaemonError as error:
            if error.status == 404:
                return None
            raise

    def sleep(self, seconds: float) -> None:
        """Wait. Raises CancelledError where the user cancels."""
        if self.cancelled.wait(seconds):
            raise CancelledError

    def cancel(self) -> None:
        """End all waits."""
        self.cancelled.set()


def daemon_message(answer: Any) -> str:
    """Return the daemon's message."""
    try:
        return str(answer.json()["message"]).strip()
    except (ValueError, KeyError, TypeError):
        return str(answer.text).strip() or f"HTTP {answer.status_code}"


def reason(error: Exception) -> str:
    """Return the innermost message of a connection error."""
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return str(cause) or type(cause).__name__


def part(name: str) -> str:
    """Return a name or id as one part of a URL path."""
    return quote(name, safe=":")


def labels_map(labels: list[Data] | None) -> dict[str, str]:
    """Convert Pulumi's list of labels to a map."""
    return {x["label"]: x["value"] for x in labels or []}


def labels_list(labels: Mapping[str, str] | None) -> list[Data]:
    """Convert a map to Pulumi's list of labels, sorted."""
    return [{"label": k, "value": v} for k, v in sorted((labels or {}).items())]


def same_stack(wanted: Mapping[str, str], have: Mapping[str, str] | None) -> bool:
    """Whether an object has the project and stack labels of the one to create."""
    keys = ("ape.project", "ape.stack")
    return all(wanted.get(k) and wanted[k] == (have or {}).get(k) for k in keys)
