"""Logs from Loki, which also has those of removed containers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime

from ape_infra.cli.logs.lines import Filter, Line
from ape_infra.cli.logs.names import short
from ape_infra.config.project import current
from ape_infra.observability import alloy
from ape_infra.reporting.loki import Entry

# Loki rejects a query over a longer time.
MAX_DAYS = 30


def log_query(
    stack: str,
    service: str | None = None,
    container: re.Pattern[str] | None = None,
    ids: frozenset[str] = frozenset(),
    grep: str | None = None,
) -> str:
    """LogQL of the requested lines; `ids` are those of sessions and traces."""
    selector = {"project": current().name, "stack": stack} | (
        {"service": service} if service else {}
    )
    parts = ["{" + ", ".join(f"{k}={json.dumps(v)}" for k, v in selector.items()) + "}"]
    if grep:
        parts.append(f"|~ {json.dumps(grep)}")
    if container:
        # A pattern of LogQL must match the whole value.
        whole = json.dumps(f".*(?:{container.pattern}).*")
        parts.append(f"| {alloy.CONTAINER}=~{whole}")
    if ids:
        any_of = json.dumps("|".join(map(re.escape, sorted(ids))))
        parts.append(f"| session_id=~{any_of} or trace_id=~{any_of}")
    return " ".join(parts)


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
