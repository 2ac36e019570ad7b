"""The data of the run report: a stack's summary, failures and updates in a time range."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ape_infra.reporting.prometheus import Series


@dataclass(frozen=True)
class RunReport:
    """What the report contains besides time lines.

    `start` and `end`: Unix times. `summary`: name -> value. `failures`: (reason, sessions).
    `events`: (Unix time, message, result) of the stack's updates.
    """

    stack: str
    start: float
    end: float
    summary: Mapping[str, str]
    failures: Sequence[tuple[str, int]]
    events: Sequence[tuple[float, str, str]]


def counter_increase(points: Sequence[tuple[float, float]], since: float) -> float:
    """Return the increase of a counter after the Unix time `since`, across its resets.

    A counter that exists at `since` counts from its value then; one that appears later, from 0.
    """
    before = points[0][1] if points[0][0] < since + 1 else 0.0
    total = 0.0
    for _, value in points:
        total += value - before if value >= before else value
        before = value
    return total


def outcomes(sessions: Sequence[Series], since: float) -> Counter[tuple[str, str]]:
    """Return (result, reason) -> number of sessions that ended after `since`.

    `sessions`: the series of metrics.SESSIONS.
    """
    found: Counter[tuple[str, str]] = Counter()
    for series in sessions:
        outcome = series.labels.get("result", ""), series.labels.get("reason", "")
        found[outcome] += round(counter_increase(series.points, since))
    return found
