"""The CSV files of a run, for spreadsheets and programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ape_contracts.text import plain
from ape_infra.runs.collector import DROPPED, STARTED, Interval
from ape_infra.runs.summary import Endpoint, Stats
from ape_infra.runs.tally import Key

STATS = tuple(name for name in Stats.model_fields if name != "count")
STATUS_CLASSES = ("2xx", "3xx", "4xx", "5xx")
ENDPOINT_COLUMNS = (
    *("scenario", "endpoint", "count", "failed", "rate"),
    *STATUS_CLASSES,
    "errors",
    *("bytes_sent", "bytes_received"),
    *(f"{name}_seconds" for name in STATS),
)
SESSION_COLUMNS = (
    *("n", "slot", "session", "scenario", "phase", "result", "reason", "steps"),
    *("seconds", "late", "ended", "detail"),
)
TIMELINE_COLUMNS = (
    *("from", "to", "phase", "stage", "target", "active"),
    *("sessions_started", "sessions_succeeded", "sessions_failed", "sessions_dropped"),
    *("requests", "requests_failed"),
    *("request_p50_seconds", "request_p95_seconds", "request_p99_seconds"),
    *("session_p95_seconds", "ttft_p95_seconds", "tokens_in", "tokens_out", "cost_dollars"),
)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, head: bool = True) -> str:
    """Return the rows as CSV; an empty cell is a value that is not known."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    if head:
        writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return file.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, str):
        value = plain(value)
        # A spreadsheet would compute what begins like this.
        return f"'{value}" if value[:1] in ("=", "+", "-", "@") else value
    return value


def endpoints(listed: Iterable[Endpoint]) -> str:
    return table(
        ENDPOINT_COLUMNS,
        (
            (
                *(each.scenario, each.endpoint, each.count, each.failed, each.rate),
                *(each.statuses.get(name, 0) for name in STATUS_CLASSES),
                sum(each.errors.values()),
                *(each.bytes_sent, each.bytes_received),
                *(getattr(each.duration, name) for name in STATS),
            )
            for each in listed
        ),
    )


def sessions(listed: Iterable[Mapping[str, Any]], *, head: bool = True) -> str:
    """Return rows of the gateway's sessions."""
    rows = ([_scalar(item.get(name)) for name in SESSION_COLUMNS] for item in listed)
    return table(SESSION_COLUMNS, rows, head=head)


def _scalar(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str) else str(value)


def timeline(intervals: Iterable[Interval]) -> str:
    return table(TIMELINE_COLUMNS, (_moment(interval) for interval in intervals))


def _moment(each: Interval) -> tuple[Any, ...]:
    requests = each.durations("requests", "seconds")
    return (
        *(round(each.start, 3), round(each.end, 3), each.status.phase, each.status.stage),
        *(each.status.target, each.status.active, int(each.count(STARTED))),
        *(each.sessions("succeeded"), each.sessions("failed"), int(each.count(DROPPED))),
        *(each.requests, each.requests_failed),
        *(requests.quantile(q) for q in (0.5, 0.95, 0.99)),
        each.durations("sessions", "seconds").quantile(0.95),
        each.durations("model", "ttft").quantile(0.95),
        *(int(each.count(Key("model", name))) for name in ("tokens_in", "tokens_out")),
        each.tally.counts.get(Key("model", "cost_dollars")),
    )
