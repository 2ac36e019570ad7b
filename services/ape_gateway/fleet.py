"""The reports of the agents, and the counts of the whole fleet.

POST /agents/report, from each container of agents every few seconds:

    {source, number, agents: [[slot, state]], memory_bytes, steps: [[result, seconds, since]],
     sessions: [{slot, result, reason, steps, seconds, detail?, repaired?}], lost}

`source` names the process, `number` its batch of steps and sessions: a number is counted once,
however often it is sent. The answer has the interval that the gateway asks for:

    {counted, report_after_seconds}

`seconds` and `since` may be null, see Step of the agent. `detail` states in words why a session
failed; `repaired` has the repairs of the model's calls, {kind: count}. A report with nothing done
is a heartbeat.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

from ape_contracts import metrics
from ape_service import prom

ALIVE_SECONDS = 30.0
# For this long after the first time, a batch may be sent again.
REMEMBER_SECONDS = 900.0
MAX_SLOTS = 10_000
MAX_BATCH = 5000
MAX_AGENTS_PER_REPORT = 1000
# At most, of all containers together; each container reports at most once per shortest interval.
REPORTS_PER_SECOND = 50.0
# Details of failed sessions: kept, and shown in the summary.
MAX_DETAILS, SHOWN_DETAILS = 200, 10
MAX_REPAIRS = 1_000_000
MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS = 1.0, 10.0


class ReportError(Exception):
    """A report breaks the wire format; the message names the key and the rule."""


@dataclass(frozen=True)
class Step:
    result: str
    seconds: float | None
    since: float | None


@dataclass(frozen=True)
class Session:
    result: str
    reason: str
    seconds: float
    detail: str = ""
    repaired: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    source: str
    number: int
    agents: tuple[tuple[int, str], ...]
    memory_bytes: float
    steps: tuple[Step, ...]
    sessions: tuple[Session, ...]
    lost: int


def parse(raw: Any) -> Report:
    """Raises ReportError."""
    if not isinstance(raw, dict):
        raise ReportError("The body must be a JSON object.")
    source = raw.get("source")
    if not isinstance(source, str) or not 0 < len(source) <= 64:
        raise ReportError("source: must be a text of 1 to 64 characters.")
    return Report(
        source,
        _whole(raw.get("number"), "number", 1),
        tuple(_agent(item) for item in _list(raw, "agents", MAX_AGENTS_PER_REPORT)),
        _seconds(raw.get("memory_bytes", 0), "memory_bytes"),
        tuple(_step(item) for item in _list(raw, "steps", MAX_BATCH)),
        tuple(_session(item) for item in _list(raw, "sessions", MAX_BATCH)),
        _whole(raw.get("lost", 0), "lost", 0),
    )


def _list(raw: dict[str, Any], key: str, most: int) -> list[Any]:
    found = raw.get(key, [])
    if not isinstance(found, list) or len(found) > most:
        raise ReportError(f"{key}: must be a list of at most {most}.")
    return found


def _whole(value: Any, where: str, least: int) -> int:
    if type(value) is not int or value < least:
        raise ReportError(f"{where}: must be a whole number from {least}.")
    return value


def _seconds(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1e15:
        raise ReportError(f"{where}: must be a number, 0 or more.")
    return float(value)


def _agent(raw: Any) -> tuple[int, str]:
    if not isinstance(raw, list) or len(raw) != 2 or raw[1] not in metrics.AGENT_STATES:
        raise ReportError(f"agents: each must be [slot, one of {', '.join(metrics.AGENT_STATES)}].")
    return _whole(raw[0], "agents: slot", 1), raw[1]


def _step(raw: Any) -> Step:
    if not isinstance(raw, list) or len(raw) != 3 or raw[0] not in metrics.STEP_RESULTS:
        raise ReportError(
            f"steps: each must be [one of {', '.join(metrics.STEP_RESULTS)}, seconds, since]."
        )
    seconds, since = (None if v is None else _seconds(v, "steps: seconds") for v in raw[1:])
    return Step(raw[0], seconds, since)


def _session(raw: Any) -> Session:
    if not isinstance(raw, dict):
        raise ReportError("sessions: each must be an object.")
    result, reason = raw.get("result"), raw.get("reason")
    if result == metrics.SUCCESS:
        reason = metrics.GOAL_MET
    elif result != metrics.FAILURE:
        raise ReportError(f"result: must be {metrics.SUCCESS} or {metrics.FAILURE}.")
    elif reason not in metrics.FAILURE_REASONS:
        raise ReportError(f"reason: must be one of {', '.join(metrics.FAILURE_REASONS)}.")
    return Session(
        str(result),
        str(reason),
        _seconds(raw.get("seconds"), "seconds"),
        _detail(raw.get("detail", "")),
        _repaired(raw.get("repaired", {})),
    )


def _detail(value: Any) -> str:
    """Printable and bounded: it quotes the model and the provider."""
    if not isinstance(value, str):
        raise ReportError("detail: must be a text.")
    text = value[: metrics.MAX_DETAIL_CHARS]
    return "".join(c if c.isprintable() else " " for c in text).strip()


def _repaired(value: Any) -> dict[str, int]:
    if not isinstance(value, dict) or not value.keys() <= set(metrics.REPAIR_KINDS):
        raise ReportError(f"repaired: must be counts of {', '.join(metrics.REPAIR_KINDS)}.")
    counts = {kind: _whole(count, "repaired", 0) for kind, count in value.items()}
    if any(count > MAX_REPAIRS for count in counts.values()):
        raise ReportError(f"repaired: a count must be at most {MAX_REPAIRS}.")
    return counts


class Failures:
    """Counts failed sessions by reason and detail; beyond MAX_DETAILS the rarest are dropped."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, reason: str, detail: str) -> None:
        if (reason, detail) not in self._counts and len(self._counts) >= MAX_DETAILS:
            # Of the rarest, the one that was first seen longest ago.
            del self._counts[min(self._counts, key=self._counts.__getitem__)]
        self._counts[reason, detail] += 1

    def __len__(self) -> int:
        return len(self._counts)

    def most_frequent(self) -> list[dict[str, Any]]:
        return [
            {"reason": reason, "detail": detail, "sessions": count}
            for (reason, detail), count in self._counts.most_common(SHOWN_DETAILS)
        ]


@dataclass(frozen=True)
class _Heartbeat:
    at: float
    state: str
    memory_bytes: float


class Fleet:
    """Counts agents, steps and sessions; a Prometheus collector of the current state."""

    def __init__(
        self,
        registry: CollectorRegistry,
        declared: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._declared = declared
        self._clock = clock
        self._seen: OrderedDict[int, _Heartbeat] = OrderedDict()
        # Source -> (time, last number counted), the longest silent first.
        self._sources: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._results: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._failures = Failures()
        self._step_results: Counter[str] = Counter()
        self._sessions = prom.counter(metrics.SESSIONS, registry)
        self._session_seconds = prom.histogram(metrics.SESSION_SECONDS, registry)
        self._steps = prom.counter(metrics.STEPS, registry)
        self._step_seconds = prom.histogram(metrics.STEP_SECONDS, registry)
        self._between = prom.histogram(metrics.TIME_BETWEEN_ACTIONS, registry)
        self._repaired = prom.counter(metrics.REPAIRED_CALLS, registry)
        self._lost = prom.counter(metrics.AGENT_RESULTS_LOST, registry)
        registry.register(self)

    def report(self, raw: Any) -> dict[str, Any]:
        """Count a report as a whole; returns its answer. Raises ReportError, and counts nothing."""
        report, now = parse(raw), self._clock()
        share = report.memory_bytes / max(1, len(report.agents))
        for slot, state in report.agents:
            self._seen[slot] = _Heartbeat(now, state, share)
            self._seen.move_to_end(slot)
        while len(self._seen) > MAX_SLOTS:
            self._seen.popitem(last=False)
        _, counted = self._sources.get(report.source, (now, 0))
        if new := report.number > counted:
            self._count(report)
        self._sources[report.source] = (now, max(counted, report.number))
        self._sources.move_to_end(report.source)
        while now - next(iter(self._sources.values()))[0] > REMEMBER_SECONDS:
            self._sources.popitem(last=False)
        return {"counted": new, "report_after_seconds": self._interval()}

    def _interval(self) -> float:
        wanted = len(self._sources) / REPORTS_PER_SECOND
        return min(MAX_INTERVAL_SECONDS, max(MIN_INTERVAL_SECONDS, wanted))

    def _count(self, report: Report) -> None:
        for step in report.steps:
            self._step_results[step.result] += 1
            self._steps.labels(step.result).inc()
            if step.seconds is not None:
                self._step_seconds.labels(step.result).observe(step.seconds)
            if step.since is not None:
                self._between.observe(step.since)
        for session in report.sessions:
            self._results[session.result] += 1
            if session.result == metrics.FAILURE:
                self._reasons[session.reason] += 1
                self._failures.add(session.reason, session.detail)
            for kind, count in session.repaired.items():
                self._repaired.labels(kind).inc(count)
            self._sessions.labels(session.result, session.reason).inc()
            self._session_seconds.labels(session.result).observe(session.seconds)
        self._lost.inc(report.lost)

    def _alive(self) -> dict[int, _Heartbeat]:
        since = self._clock() - ALIVE_SECONDS
        return {slot: seen for slot, seen in self._seen.items() if seen.at > since}

    def summary(self) -> dict[str, Any]:
        """The answer of GET /fleet:

        {declared, alive, by_state, steps: {result: n},
         sessions: {success, failure, by_reason, failures: [{reason, detail, sessions}]}}

        by_reason and failures of failed sessions only; failures: the most frequent ones.
        """
        by_state = Counter(seen.state for seen in self._alive().values())
        return {
            "declared": self._declared,
            "alive": by_state.total(),
            "by_state": dict(by_state),
            "steps": dict(self._step_results),
            "sessions": {
                metrics.SUCCESS: self._results[metrics.SUCCESS],
                metrics.FAILURE: self._results[metrics.FAILURE],
                "by_reason": dict(self._reasons),
                "failures": self._failures.most_frequent(),
            },
        }

    def collect(self) -> Iterable[GaugeMetricFamily]:
        alive = self._alive()
        agents = GaugeMetricFamily(metrics.AGENTS.name, metrics.AGENTS.help, labels=["state"])
        by_state = Counter(seen.state for seen in alive.values())
        for state in metrics.AGENT_STATES:
            agents.add_metric([state], by_state[state])
        yield agents
        memory = GaugeMetricFamily(
            metrics.AGENT_RESIDENT_MEMORY.name,
            metrics.AGENT_RESIDENT_MEMORY.help,
            labels=metrics.AGENT_RESIDENT_MEMORY.labels,
        )
        for slot, seen in sorted(alive.items()):
            memory.add_metric([f"{slot:04d}"], seen.memory_bytes)
        yield memory
        yield GaugeMetricFamily(
            metrics.AGENTS_DECLARED.name, metrics.AGENTS_DECLARED.help, value=self._declared
        )
