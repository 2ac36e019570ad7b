"""Requests to the gateway and the inference proxy about a run."""

from __future__ import annotations

import json
from typing import Any, Protocol
from urllib.parse import quote

import requests

from ape_contracts.text import plain
from ape_infra.runs.snapshots import GatewayResults, ProxyResults, SnapshotError, Status

TIMEOUT_SECONDS = 5.0


class UnreachableError(Exception):
    """A service gave no answer, or is not ready; asking again may help."""


class RefusedError(Exception):
    """A service rejects the request, and would do so again. `code`: as the service names it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.code = status, code
        super().__init__(message)


NO_ANSWER = (UnreachableError, RefusedError, SnapshotError)


class Services(Protocol):
    """What a run needs of its services. All raise UnreachableError, RefusedError, SnapshotError."""

    def begin(self, document: dict[str, Any]) -> Status: ...
    def stop(self) -> Status: ...
    def status(self, run: str) -> Status: ...
    def gateway(self) -> GatewayResults: ...
    def proxy(self) -> ProxyResults: ...
    def sessions(self, after: int) -> dict[str, Any]: ...
    def transcripts(self) -> list[dict[str, Any]]: ...


def active_run(gateway: str) -> Status:
    """The state of the gateway's run, as everybody may read it. Raises one of NO_ANSWER."""
    return HttpServices(gateway, "").active()


class HttpServices:
    """The services at their published ports. Tokens are sent, and shown nowhere."""

    def __init__(
        self, gateway: str, proxy: str, *, control_token: str = "", proxy_token: str = ""
    ) -> None:
        self._urls = {"gateway": gateway.rstrip("/"), "inference proxy": proxy.rstrip("/")}
        self._tokens = {"gateway": control_token, "inference proxy": proxy_token}
        self._session = requests.Session()
        # No proxy of the environment: the services are on this host.
        self._session.trust_env = False

    def begin(self, document: dict[str, Any]) -> Status:
        return Status.of(self._ask("gateway", "POST", "/run", document))

    def stop(self) -> Status:
        return Status.of(self._ask("gateway", "DELETE", "/run"))

    def status(self, run: str) -> Status:
        """The state of the active run; prolongs the lease of `run`."""
        return Status.of(self._ask("gateway", "GET", f"/run?lease={quote(run)}"))

    def active(self) -> Status:
        """The state of the active run, without prolonging a lease; needs no token."""
        return Status.of(self._ask("gateway", "GET", "/run"))

    def gateway(self) -> GatewayResults:
        return GatewayResults.of(self._ask("gateway", "GET", "/results"))

    def proxy(self) -> ProxyResults:
        return ProxyResults.of(self._ask("inference proxy", "GET", "/results"))

    def sessions(self, after: int) -> dict[str, Any]:
        found = self._ask("gateway", "GET", f"/results/sessions?after={after}")
        return found if isinstance(found, dict) else {}

    def transcripts(self) -> list[dict[str, Any]]:
        found = self._ask("gateway", "GET", "/results/transcripts")
        listed = found.get("transcripts") if isinstance(found, dict) else None
        return [item for item in listed or [] if isinstance(item, dict)]

    def _ask(self, service: str, method: str, path: str, document: Any = None) -> Any:
        headers, body = {}, None
        if document is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        if token := self._tokens[service]:
            headers["Authorization"] = f"Bearer {token}"
        try:
            answer = self._session.request(
                method,
                self._urls[service] + path,
                data=body,
                headers=headers,
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,
            )
            found = answer.json()
        except requests.JSONDecodeError:
            found = None
        except requests.RequestException as error:
            raise UnreachableError(f"The {service} does not answer: {_kind(error)}.") from None
        if answer.ok and found is not None:
            return found
        if answer.status_code == 404:
            raise RefusedError(
                404,
                "not_found",
                f"The {service} has no {path.partition('?')[0]}: its image is older than this "
                "command. Bring it up to date with: ape-load up",
            )
        if answer.status_code < 400 or answer.status_code >= 500 or answer.status_code == 429:
            raise UnreachableError(f"The {service} answers with status {answer.status_code}.")
        code, message = _error(found)
        raise RefusedError(
            answer.status_code,
            code,
            f"The {service} answers with status {answer.status_code}: {message or code}",
        )


def _kind(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    return "no connection" if isinstance(error, requests.ConnectionError) else type(error).__name__


def _error(answer: Any) -> tuple[str, str]:
    """(code, message) of an error of a service."""
    whole = answer if isinstance(answer, dict) else {}
    found = whole.get("error")
    part = found if isinstance(found, dict) else {"code": found, "message": whole.get("message")}
    code = part.get("code") or part.get("type") or ""
    return plain(code)[:100], plain(part.get("message") or "")[:1000]
