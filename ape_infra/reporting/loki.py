"""A client of Loki's HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import requests

TIMEOUT_SECONDS = 30.0
# Loki's own limit of lines per query.
MAX_LINES = 5000


class LokiError(Exception):
    """The request failed; the text states the URL and the reason."""


@dataclass(frozen=True)
class Entry:
    """A log line. `at`: nanoseconds since 1970. `labels`: including structured metadata."""

    at: int
    line: str
    labels: Mapping[str, str]


class Loki:
    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")

    def newest(self, query: str, start: float, end: float, limit: int = MAX_LINES) -> list[Entry]:
        """Return the last `limit` lines of a LogQL query between two Unix times, ordered by time.

        Raises LokiError.
        """
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
