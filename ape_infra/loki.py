"""Questions to Loki's HTTP API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import requests

TIMEOUT_SECONDS = 30.0
# Loki's own bound of one answer (max_entries_limit_per_query).
MAX_ENTRIES = 5000


class LokiError(Exception):
    """It did not answer, or refused; says why."""


@dataclass(frozen=True)
class Entry:
    """`at`: nanoseconds since 1970. `labels`: those of the stream, and structured metadata."""

    at: int
    line: str
    labels: Mapping[str, str]


def quoted(text: str) -> str:
    """A LogQL string of any text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def query(labels: Mapping[str, str], *, grep: str | None = None, **metadata: str) -> str:
    """LogQL: the streams with these labels; lines that match `grep`, whose metadata match.

    `metadata`: name -> regular expression of the whole value.
    """
    chosen = ", ".join(f"{name}={quoted(value)}" for name, value in labels.items())
    matching = f" |~ {quoted(grep)}" if grep else ""
    having = "".join(f" | {name}=~{quoted(value)}" for name, value in metadata.items())
    return f"{{{chosen}}}{matching}{having}"


class Loki:
    def __init__(self, base: str) -> None:
        self._url = f"{base.rstrip('/')}/loki/api/v1/query_range"

    def last(self, text: str, start: float, end: float) -> Sequence[Entry]:
        """The last MAX_ENTRIES lines of the query between two Unix times, oldest first."""
        params: dict[str, str | int] = {
            "query": text,
            "start": int(start * 1e9),
            "end": int(end * 1e9),
            "limit": MAX_ENTRIES,
            "direction": "backward",
        }
        try:
            answer = requests.get(self._url, params=params, timeout=TIMEOUT_SECONDS)
            if not answer.ok:
                raise LokiError(f"{self._url}: {answer.text.strip() or answer.status_code}")
            streams = answer.json()["data"]["result"]
        except (requests.RequestException, ValueError, KeyError) as error:
            raise LokiError(f"{self._url}: {type(error).__name__}") from None
        found = [
            Entry(int(at), line, stream["stream"])
            for stream in streams
            for at, line, *_ in stream["values"]
        ]
        return sorted(found, key=lambda entry: entry.at)
