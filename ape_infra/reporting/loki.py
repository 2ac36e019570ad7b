"""Questions to Loki's HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import requests

TIMEOUT_SECONDS = 30.0
# Loki's own limit of what one question may give.
MAX_LINES = 5000


class LokiError(Exception):
    """It did not answer, or refused; says why."""


@dataclass(frozen=True)
class Entry:
    """`at`: nanoseconds since 1970. `labels`: with the structured metadata of the line."""

    at: int
    line: str
    labels: Mapping[str, str]


class Loki:
    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")

    def newest(self, query: str, start: float, end: float, limit: int = MAX_LINES) -> list[Entry]:
        """The last `limit` lines of a LogQL query between two Unix times, in the order of time."""
        params: dict[str, str | int] = {
            "query": query,
            "start": int(start * 1e9),
            "end": int(end * 1e9),
            "limit": limit,
            "direction": "backward",
        }
        url = f"{self._base}/loki/api/v1/query_range"
        try:
            answer = requests.get(url, params=params, timeout=TIMEOUT_SECONDS)
        except requests.RequestException as error:
            raise LokiError(f"{url}: {type(error).__name__}") from None
        if not answer.ok:
            raise LokiError(f"{url}: {answer.text.strip() or answer.status_code}")
        found = [
            Entry(int(at), line, stream["stream"])
            for stream in answer.json()["data"]["result"]
            for at, line in stream["values"]
        ]
        return sorted(found, key=lambda entry: entry.at)
