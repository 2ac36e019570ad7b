"""Clients of the HTTP APIs of Loki and VictoriaLogs."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

import requests

from ape_infra.observability import victorialogs
from ape_infra.observability.log_queries import LogQuery, logql, logsql
from ape_infra.planning.plan import LogStore

TIMEOUT_SECONDS = 30.0
# Loki's own limit of lines per query.
MAX_LINES = 5000


class LogStoreError(Exception):
    """The request failed; the text states the URL and the reason."""


@dataclass(frozen=True)
class Entry:
    """A log line. `at`: nanoseconds since 1970. `labels`: including structured metadata."""

    at: int
    line: str
    labels: Mapping[str, str]


class Client(ABC):
    """`name`: of the product. `max_days`: the longest time that a query may cover; None: any."""

    name: ClassVar[str]
    max_days: ClassVar[int | None] = None

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")

    def newest(
        self, query: LogQuery, start: float, end: float, limit: int = MAX_LINES
    ) -> list[Entry]:
        """Return the last `limit` lines of a query between two Unix times, ordered by time.

        Raises LogStoreError.
        """
        return sorted(self._find(query, start, end, limit), key=lambda entry: entry.at)

    @abstractmethod
    def _find(self, query: LogQuery, start: float, end: float, limit: int) -> Iterable[Entry]: ...

    def _ask(self, path: str, params: Mapping[str, str | int]) -> requests.Response:
        url = f"{self._base}{path}"
        try:
            answer = requests.get(url, params=params, timeout=TIMEOUT_SECONDS)
        except requests.RequestException as error:
            raise LogStoreError(f"{url}: {type(error).__name__}") from None
        if not answer.ok:
            raise LogStoreError(f"{url}: {answer.text.strip() or answer.status_code}")
        return answer


class Loki(Client):
    name = "Loki"
    max_days = 30

    def _find(self, query: LogQuery, start: float, end: float, limit: int) -> Iterable[Entry]:
        params: dict[str, str | int] = {
            "query": logql(query),
            "start": int(start * 1e9),
            "end": int(end * 1e9),
            "limit": limit,
            "direction": "backward",
        }
        answer = self._ask("/loki/api/v1/query_range", params)
        for stream in answer.json()["data"]["result"]:
            for at, line in stream["values"]:
                yield Entry(int(at), line, stream["stream"])


class VictoriaLogs(Client):
    name = "VictoriaLogs"

    def _find(self, query: LogQuery, start: float, end: float, limit: int) -> Iterable[Entry]:
        params: dict[str, str | int] = {
            "query": logsql(query),
            "start": int(start * 1e9),
            "end": int(end * 1e9),
            "limit": limit,
        }
        # One JSON object per line, in UTF-8; no other character ends a line.
        for found in self._ask(victorialogs.QUERY_PATH, params).content.split(b"\n"):
            if found:
                labels = json.loads(found)
                yield Entry(nanoseconds(labels.pop("_time")), labels.pop("_msg", ""), labels)


def nanoseconds(stamp: str) -> int:
    """Return a time in UTC, 2026-01-02T03:04:05.123456789Z, in nanoseconds since 1970."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    seconds = datetime.fromisoformat(f"{whole}+00:00").timestamp()
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0")[:9])


CLIENTS: Mapping[LogStore, type[Client]] = {"loki": Loki, "victorialogs": VictoriaLogs}
