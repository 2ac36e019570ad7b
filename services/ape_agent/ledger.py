"""The results of a container's agents, until the gateway has counted them."""

from __future__ import annotations

import secrets
from collections import deque
from typing import Any, TypeVar

from ape_agent.results import SessionResult, Step
from ape_contracts import metrics

# Held while the gateway is not available; beyond it the oldest are dropped, and counted as lost.
MAX_SESSIONS, MAX_STEPS = 2000, 20_000
BATCH_SESSIONS, BATCH_STEPS = metrics.REPORT_SESSIONS, metrics.REPORT_STEPS
_T = TypeVar("_T")


class ReportQueue:
    """Results in numbered batches: each is sent until it is acknowledged, then the next one.

    The gateway counts a number of a source once, so a batch whose answer was lost may be sent
    again.
    """

    def __init__(self) -> None:
        self.source = secrets.token_hex(8)
        self._number = 0
        self._steps: deque[Step] = deque()
        self._sessions: deque[SessionResult] = deque()
        self._lost = 0
        self._batch: dict[str, Any] | None = None

    def step(self, step: Step) -> None:
        self._steps.append(step)
        if len(self._steps) > MAX_STEPS:
            self._steps.popleft()
            self._lost += 1

    def session(self, result: SessionResult) -> None:
        self._sessions.append(result)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popleft()
            self._lost += 1

    @property
    def empty(self) -> bool:
        return not (self._batch or self._steps or self._sessions)

    @property
    def has_backlog(self) -> bool:
        """Whether more than one batch is queued."""
        return len(self._steps) > BATCH_STEPS or len(self._sessions) > BATCH_SESSIONS

    def batch(self) -> dict[str, Any]:
        """{number, steps, sessions, lost}: the same until `acknowledge`."""
        if self._batch is None:
            self._number += 1
            self._batch = {
                "number": self._number,
                "steps": [
                    [s.result, _rounded(s.seconds), _rounded(s.since)]
                    for s in _taken(self._steps, BATCH_STEPS)
                ],
                "sessions": [r.report() for r in _taken(self._sessions, BATCH_SESSIONS)],
                "lost": self._lost,
            }
            self._lost = 0
        return self._batch

    def acknowledge(self) -> None:
        self._batch = None


def _taken(queue: deque[_T], most: int) -> list[_T]:
    return [queue.popleft() for _ in range(min(most, len(queue)))]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
