"""Receives the reports of agents: checks their tokens, and counts those that are refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry

from ape_contracts import metrics
from ape_contracts.report_token import Grant, verify
from ape_gateway.fleet import Fleet, ReportRefused
from ape_gateway.reports import ReportError
from ape_service import logs, prom

_BEARER = "bearer "
_log = logging.getLogger(__name__)
OfRun = Callable[[dict[str, Any]], dict[str, Any]]


def _nothing(_: dict[str, Any]) -> dict[str, Any]:
    return {}


class ReportDesk:
    """`key`: see GatewaySettings.report_key_file; empty: reports need no token.

    `of_run`: gets each report that counts; returns what the answer has besides.
    """

    def __init__(
        self, fleet: Fleet, key: str, registry: CollectorRegistry, of_run: OfRun = _nothing
    ) -> None:
        self.fleet, self._key, self._of_run = fleet, key, of_run
        refused = prom.counter(metrics.GATEWAY_REPORTS_REFUSED, registry)
        # From the start: an increase from no series is none.
        self._refused = {reason: refused.labels(reason) for reason in metrics.REFUSAL_REASONS}

    def receive(self, authorization: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and body of the answer to a report with that header."""
        try:
            grant, raw = self._grant(authorization), _parsed(body)
            answer = self.fleet.report(raw, grant)
            return 200, answer | self._of_run(raw)
        except ReportRefused as problem:
            return self._refuse(problem.status, problem.reason, "report_refused", problem)
        except ReportError as problem:
            return self._refuse(422, "invalid", "bad_request", problem)

    def refusal(self, authorization: str, slot: int) -> tuple[int, dict[str, Any]] | None:
        """The answer to an agent that may not ask for `slot`."""
        try:
            grant = self._grant(authorization)
            if grant is not None and slot not in grant.slots:
                message = "The token is not that of this agent's container."
                raise ReportRefused(403, "slots", message)
        except ReportRefused as problem:
            return self._refuse(problem.status, problem.reason, "report_refused", problem)
        return None

    def receive_transcript(self, authorization: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and body of the answer to a transcript: {kept}."""
        try:
            grant = self._grant(authorization)
            return 200, {"kept": self.fleet.transcript(_parsed(body), grant)}
        except ReportRefused as problem:
            return self._refuse(problem.status, problem.reason, "report_refused", problem)
        except ReportError as problem:
            return self._refuse(422, "invalid", "bad_request", problem)

    def _grant(self, authorization: str) -> Grant | None:
        """Raises ReportRefused."""
        if not self._key:
            return None
        token = authorization[len(_BEARER) :].strip()
        if authorization[: len(_BEARER)].lower() != _BEARER or not (
            grant := verify(self._key, token)
        ):
            raise ReportRefused(
                401, "token", "The report needs the token of its container as a bearer token."
            )
        return grant

    def _refuse(
        self, status: int, reason: str, code: str, problem: Exception
    ) -> tuple[int, dict[str, Any]]:
        self._refused[reason].inc()
        _log.warning("report refused", extra=logs.fields(status=status, reason=reason))
        return status, {"error": code, "message": str(problem)}


def _parsed(body: bytes) -> Any:
    """Raises ReportError."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ReportError("The body is not JSON.") from None
