"""Logs from the log store, which also has those of removed containers."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from ape_infra.cli.logs.lines import Filter, Line
from ape_infra.cli.logs.names import short
from ape_infra.config.project import current
from ape_infra.observability import alloy
from ape_infra.observability.log_queries import LogQuery, Match
from ape_infra.reporting.log_stores import Entry


def log_query(
    stack: str,
    service: str | None = None,
    container: re.Pattern[str] | None = None,
    ids: frozenset[str] = frozenset(),
    grep: str | None = None,
) -> LogQuery:
    """Return the query of the requested lines; `ids` are those of sessions and traces."""
    streams = {"project": current().name, "stack": stack}
    if service:
        streams["service"] = service
    fields: list[tuple[Match, ...]] = []
    if container:
        fields.append((Match(alloy.CONTAINER, "=~", f".*(?:{container.pattern}).*"),))
    if ids:
        any_of = "|".join(map(re.escape, sorted(ids)))
        fields.append(tuple(Match(name, "=~", any_of) for name in ("session_id", "trace_id")))
    return LogQuery(
        tuple(Match(name, "=", value) for name, value in streams.items()), grep, tuple(fields)
    )


def of_entry(entry: Entry, stack: str) -> Line:
    stamp = datetime.fromtimestamp(entry.at / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    name = entry.labels.get(alloy.CONTAINER) or entry.labels.get("service", "")
    return Line.of(short(name, stack), f"{stamp} {entry.line}".encode())


def of_session(ask: Callable[[frozenset[str]], list[Line]], passing: Filter) -> list[Line]:
    """The lines that `ask` finds by the ids of a session and its traces, in order of time."""
    asked: frozenset[str] | None = None
    found: list[Line] = []
    # The lines of the first answer hold the ids of the session's traces.
    while asked != passing.ids:
        asked = passing.ids
        found = ask(asked)
        for line in found:
            passing.learn(line)
    return sorted(found, key=lambda line: line.ts)
