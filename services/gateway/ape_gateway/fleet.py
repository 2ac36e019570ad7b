"""What the agents say of themselves: heartbeats and finished sessions."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ape_common import names, prom
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

ALIVE_SECONDS = 30.0
MAX_SLOTS = 10_000
# Ids of sessions already counted, so that a batch sent twice counts once.
MAX_IDS = 100_000
MAX_BATCH = 500
_REASONS = frozenset(names.FAILURE_REASONS)


@dataclass(frozen=True)
class Session:
    id: str
    result: str
    reason: str
    seconds: float


class ReportError(Exception):
    """A report breaks the wire format; says where and how."""


def _text(raw: dict[str, Any], key: str, most: int = 128) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise ReportError(f"{key}: must be a text of 1 to {most} characters.")
    return value


def _slot(raw: dict[str, Any]) -> int:
    value = raw.get("slot")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ReportError("slot: must be a whole number from 1.")
    return value


def parse_session(raw: Any) -> Session:
    """A session of POST /agents/sessions. Raises ReportError."""
    if not isinstance(raw, dict):
        raise ReportError("sessions: each must be an object.")
    result, seconds = raw.get("result"), raw.get("seconds")
    if result not in (names.SUCCESS, names.FAILURE):
        raise ReportError(f"result: must be {names.SUCCESS} or {names.FAILURE}.")
    reason = names.GOAL_MET if result == names.SUCCESS else raw.get("reason")
    if result == names.FAILURE and (not isinstance(reason, str) or reason not in _REASONS):
        raise ReportError(f"reason: must be one of {', '.join(names.FAILURE_REASONS)}.")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < 1e7:
        raise ReportError("seconds: must be a number, 0 or more.")
    return Session(_text(raw, "id"), str(result), str(reason), float(seconds))


class Fleet:
    """Counts agents and sessions. It is a Prometheus collector for the agents by state."""

    def __init__(
        self,
        registry: CollectorRegistry,
        declared: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._declared = declared
        self._clock = clock
        self._seen: OrderedDict[int, tuple[float, str]] = OrderedDict()
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._results: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._sessions = prom.counter(names.SESSIONS, registry)
        self._seconds = prom.histogram(names.SESSION_SECONDS, registry)
        registry.register(self)

    def heartbeat(self, raw: dict[str, Any]) -> None:
        """{agent, slot, state}. Raises ReportError."""
        _text(raw, "agent")
        if raw.get("state") not in names.AGENT_STATES:
            raise ReportError(f"state: must be one of {', '.join(names.AGENT_STATES)}.")
        self._note(_slot(raw), str(raw["state"]))

    def _note(self, slot: int, state: str) -> None:
        self._seen[slot] = (self._clock(), state)
        self._seen.move_to_end(slot)
        while len(self._seen) > MAX_SLOTS:
            self._seen.popitem(last=False)

    def report(self, raw: dict[str, Any]) -> int:
        """{agent, slot, sessions}: all are counted, or none. Returns how many were new."""
        _text(raw, "agent")
        _slot(raw)
        batch = raw.get("sessions")
        if not isinstance(batch, list) or len(batch) > MAX_BATCH:
            raise ReportError(f"sessions: must be a list of at most {MAX_BATCH}.")
        new = 0
        for session in [parse_session(item) for item in batch]:
            if session.id in self._ids:
                continue
            new += 1
            self._ids[session.id] = None
            if len(self._ids) > MAX_IDS:
                self._ids.popitem(last=False)
            self._results[session.result] += 1
            if session.result == names.FAILURE:
                self._reasons[session.reason] += 1
            self._sessions.labels(session.result, session.reason).inc()
            self._seconds.labels(session.result).observe(session.seconds)
        return new

    def _by_state(self) -> Counter[str]:
        since = self._clock() - ALIVE_SECONDS
        return Counter(state for at, state in self._seen.values() if at > since)

    def summary(self) -> dict[str, Any]:
        """{declared, alive, by_state, sessions: {success, failure, by_reason (of failures)}}."""
        by_state = self._by_state()
        return {
            "declared": self._declared,
            "alive": by_state.total(),
            "by_state": dict(by_state),
            "sessions": {
                names.SUCCESS: self._results[names.SUCCESS],
                names.FAILURE: self._results[names.FAILURE],
                "by_reason": dict(self._reasons),
            },
        }

    def collect(self) -> Iterable[GaugeMetricFamily]:
        agents = GaugeMetricFamily(names.AGENTS.name, names.AGENTS.help, labels=["state"])
        by_state = self._by_state()
        for state in names.AGENT_STATES:
            agents.add_metric([state], by_state[state])
        yield agents
        yield GaugeMetricFamily(
            names.AGENTS_DECLARED.name, names.AGENTS_DECLARED.help, value=self._declared
        )
