"""The Docker daemon: one client per host, its errors in its own words with a remedy.

The Docker SDK is imported at its first use: it takes as long as half of the plugin's start, and a
preview without images needs none of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ape_docker_provider.values import Data

DEFAULT_HOST = "unix:///var/run/docker.sock"
POOL = 64


class ProviderError(Exception):
    """A message for the user."""


class DaemonError(ProviderError):
    """The daemon refused, in its own words."""

    def __init__(self, words: str, status: int, remedy: str = "") -> None:
        self.words = words
        self.status = status
        super().__init__(f"{words}\n  {remedy}" if remedy else words)


class CancelledError(ProviderError):
    """`pulumi cancel`, or Ctrl-C during `pulumi up`."""

    def __init__(self) -> None:
        super().__init__("cancelled")


class Daemon:
    """Docker's HTTP API. The connection is made at the first request, never before."""

    def __init__(self, config: Data) -> None:
        self.config = config
        self.cancelled = threading.Event()
        self._client: Any = None
        self._lock = threading.Lock()

    @property
    def host(self) -> str:
        """Where the daemon is: the provider's `host`, DOCKER_HOST, or the local socket."""
        return self.config.get("host") or os.environ.get("DOCKER_HOST") or DEFAULT_HOST

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
                base_url=self.host,
                version="auto",
                timeout=60,
                num_pools=POOL,
                max_pool_size=POOL,
                tls=self._tls(),
                use_ssh_client=True,
            )
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise self.unreachable(error) from error

    def _tls(self) -> Any:
        import docker

        path = self.config.get("certPath") or os.environ.get("DOCKER_CERT_PATH")
        if not path or not self.host.startswith(("tcp://", "https://")):
            return False
        names = [os.path.join(path, f"{n}.pem") for n in ("cert", "key", "ca")]
        return docker.tls.TLSConfig(client_cert=(names[0], names[1]), ca_cert=names[2], verify=True)

    def unreachable(self, error: Exception) -> DaemonError:
        """The daemon does not answer."""
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
    ) -> Any:
        """One request; the decoded JSON answer, or None if there is none."""
        import requests

        client = self.client
        url = client.base_url + "/v" + client.api_version + path
        try:
            answer = client.request(method, url, json=body, params=params, timeout=timeout)
        except requests.RequestException as error:
            raise self.unreachable(error) from error
        if answer.status_code >= 400:
            raise DaemonError(daemon_words(answer), answer.status_code)
        return answer.json() if answer.content else None

    def find(self, path: str) -> Any:
        """The answer of a GET, or None if there is no such thing (404)."""
        try:
            return self.call("GET", path)
        except DaemonError as error:
            if error.status == 404:
                return None
            raise

    def sleep(self, seconds: float) -> None:
        """Wait, unless the user cancels."""
        if self.cancelled.wait(seconds):
            raise CancelledError

    def cancel(self) -> None:
        """End all waits."""
        self.cancelled.set()


def daemon_words(answer: Any) -> str:
    """The daemon's message."""
    try:
        return str(answer.json()["message"]).strip()
    except (ValueError, KeyError, TypeError):
        return str(answer.text).strip() or f"HTTP {answer.status_code}"


def reason(error: Exception) -> str:
    """The innermost words of a connection error."""
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return str(cause) or type(cause).__name__


def part(name: str) -> str:
    """A name or id as one part of a URL path."""
    return quote(name, safe=":")


def labels_map(labels: list[Data] | None) -> dict[str, str]:
    """Pulumi's list of label and value as a map."""
    return {x["label"]: x["value"] for x in labels or []}


def labels_list(labels: Mapping[str, str] | None) -> list[Data]:
    """A map as Pulumi's list of label and value, sorted."""
    return [{"label": k, "value": v} for k, v in sorted((labels or {}).items())]


def ours(wanted: Mapping[str, str], have: Mapping[str, str] | None) -> bool:
    """Whether an object carries the project and stack labels of the one to be made."""
    keys = ("ape.project", "ape.stack")
    return all(wanted.get(k) and wanted[k] == (have or {}).get(k) for k in keys)
