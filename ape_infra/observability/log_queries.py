"""Queries of logs, independent of the store, and their text in the language of each store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from ape_infra.planning.plan import LogStore


@dataclass(frozen=True)
class Match:
    """A condition on the value of a label or field. A pattern (`=~`) matches the whole value."""

    name: str
    op: Literal["=", "!=", "=~"]
    value: str


@dataclass(frozen=True)
class LogQuery:
    """Lines of the streams that match every condition of `streams`, and all that follow.

    `grep`: a pattern that the line contains. `fields`: conditions on structured metadata; of each
    group, one must hold. `keys`: conditions on the keys of a line that is a JSON object.
    """

    streams: tuple[Match, ...]
    grep: str | None = None
    fields: tuple[tuple[Match, ...], ...] = ()
    keys: tuple[Match, ...] = ()


def logql(query: LogQuery) -> str:
    """Return the query for Loki, which requires a condition that a missing label does not meet."""

    def text(match: Match) -> str:
        return f"{match.name}{match.op}{json.dumps(match.value)}"

    parts = ["{" + ", ".join(map(text, query.streams)) + "}"]
    if query.grep:
        parts.append(f"|~ {json.dumps(query.grep)}")
    parts += (f"| {' or '.join(map(text, group))}" for group in query.fields)
    if query.keys:
        parts += ["| json", *(f"| {text(match)}" for match in query.keys)]
    return " ".join(parts)


def logsql(query: LogQuery) -> str:
    """Return the query for VictoriaLogs.

    There, a pattern matches a part of a field's value, but the whole value of a stream's label. In
    brackets, `.*` also matches a label that is missing, as in Loki.
    """

    def label(match: Match) -> str:
        value = f"({match.value})" if match.op == "=~" else match.value
        return f"{match.name}{match.op}{json.dumps(value)}"

    def text(match: Match) -> str:
        if match.op == "=~":
            return f"{match.name}:~{json.dumps(f'^({match.value})$')}"
        return f"{match.name}:{match.op}{json.dumps(match.value)}"

    parts = ["{" + ", ".join(map(label, query.streams)) + "}"]
    if query.grep:
        parts.append(f"~{json.dumps(query.grep)}")
    for group in query.fields:
        any_of = " or ".join(map(text, group))
        parts.append(f"({any_of})" if len(group) > 1 else any_of)
    if query.keys:
        names = ", ".join(dict.fromkeys(match.name for match in query.keys))
        parts += [f"| unpack_json fields ({names})", f"| filter {' '.join(map(text, query.keys))}"]
    return " ".join(parts)


LANGUAGES: Mapping[LogStore, Callable[[LogQuery], str]] = {"loki": logql, "victorialogs": logsql}
